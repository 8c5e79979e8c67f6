"""Binary masks that are not stored as they are shown."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from sam_ft.data.io.appearance import AS_SHOWN, AS_STORED, BLACK_ELSEWHERE, BY_BRIGHTNESS, BY_INDEX, IN_ALPHA
from sam_ft.data.io.lossy import LOSSY
from sam_ft.data.io.objects import read_objects
from sam_ft.data.io.rules import Rules
from sam_ft.utils.errors import ConfigError
from tests.support.files import palette, save

OBJECT = np.zeros((24, 32), bool)
OBJECT[4:20, 6:15] = True
SHOWN = np.where(OBJECT, 255, 0).astype(np.uint8)
WHITE, BLACK, VOID = (255, 255, 255), (0, 0, 0), (224, 224, 192)


def assert_read(path, remarks=(), objects="whole", **options):
    found = read_objects(path, Rules(objects, **options))
    assert np.array_equal(found.ids > 0, OBJECT)
    assert found.remarks == tuple(remarks)
    return found


def of_colors(background, at_object, swapped=False):
    """A palette image; swapped: the color of the object is at index 0."""
    colors = (at_object, background) if swapped else (background, at_object)
    return palette(OBJECT ^ swapped, [part for color in colors for part in color])


RGB = Image.fromarray(SHOWN).convert("RGB")
QUANTIZED = {
    "gif": lambda root: save(root / "m.gif", RGB),
    "quantize": lambda root: save(root / "m.png", RGB.quantize(2)),
    "adaptive": lambda root: save(root / "m.png", RGB, "P", palette=Image.Palette.ADAPTIVE),
    "bmp": lambda root: save(root / "m.bmp", of_colors(BLACK, WHITE, swapped=True)),
    "tiff": lambda root: save(root / "m.tif", of_colors(BLACK, WHITE, swapped=True)),
    "nearly black and white": lambda root: save(root / "m.png", of_colors((4, 2, 7), (252, 254, 249), swapped=True)),
    "green on black": lambda root: save(root / "m.png", of_colors(BLACK, (0, 200, 0), swapped=True)),
    "yellow on purple": lambda root: save(root / "m.png", of_colors((68, 1, 84), (253, 231, 37), swapped=True)),
}


@pytest.mark.parametrize("stored", QUANTIZED)
def test_the_bright_color_of_a_palette_is_the_object(tmp_path, stored):
    path = QUANTIZED[stored](tmp_path)
    with Image.open(path) as image:
        assert image.mode == "P"  # otherwise there would be no index
    read = read_objects(path, Rules())
    assert np.array_equal(read.ids > 0, OBJECT)
    assert set(read.remarks) <= {BY_BRIGHTNESS}
    if stored not in ("quantize", "adaptive"):  # Pillow's order of their colors may change
        assert read.remarks == (BY_BRIGHTNESS,)


@pytest.mark.parametrize("colors", [(BLACK, WHITE), (BLACK, (128, 0, 0)), ((68, 1, 84), (253, 231, 37))])
def test_a_palette_in_order_of_brightness_is_read_by_index_without_a_remark(tmp_path, colors):
    assert_read(save(tmp_path / "m.png", of_colors(*colors)))


@pytest.mark.parametrize("at_object", [(255, 0, 0), (0, 0, 255), (255, 200, 0)])
def test_a_colored_object_on_white_is_read_by_index_with_a_remark(tmp_path, at_object):
    assert_read(save(tmp_path / "m.png", of_colors(WHITE, at_object)), [BY_INDEX])


@pytest.mark.parametrize("empty", [True, False])
def test_a_palette_mask_of_one_color_is_empty_where_it_is_black(tmp_path, empty):
    path = save(tmp_path / "m.png", palette(np.full((4, 6), empty), [*WHITE, *BLACK]))
    assert read_objects(path, Rules()).count == (not empty)


def test_gray_edges_of_a_quantized_mask_are_cut_at_half(tmp_path):
    soft = Image.fromarray(SHOWN).resize((256, 192), Image.Resampling.BILINEAR)
    found = read_objects(save(tmp_path / "m.png", soft.convert("RGB").quantize(6)), Rules())
    assert np.abs((found.ids > 0).mean() - OBJECT.mean()) < 0.01
    assert LOSSY in found.remarks


def test_a_value_to_ignore_is_an_index_whatever_its_color(tmp_path):
    image = of_colors(BLACK, WHITE, swapped=True)
    indices = np.array(image)
    indices[0] = 255
    image = palette(indices, [*WHITE, *BLACK, *VOID * 254])
    found = assert_read(save(tmp_path / "m.png", image), [BY_BRIGHTNESS], ignore_index=255)
    assert np.array_equal(found.ignored, indices == 255)


def test_instances_and_classes_of_a_palette_are_its_indices(tmp_path):
    path = save(tmp_path / "m.png", of_colors(BLACK, WHITE, swapped=True))
    for rules in (Rules("instances"), Rules("classes", {"other": 1})):
        assert np.array_equal(read_objects(path, rules).ids > 0, ~OBJECT)


@pytest.mark.parametrize("index", [1, 2, 255])
def test_a_black_that_is_not_index_0_is_warned_of_in_instances(tmp_path, index):
    indices = np.where(OBJECT, 0, index)
    image = palette(indices, [*VOID, *BLACK * 255])
    found = read_objects(save(tmp_path / "m.png", image), Rules("instances"))
    assert found.remarks == (BLACK_ELSEWHERE,)
    assert_read(tmp_path / "m.png", [], "instances", background=index)
    for colors in ([*BLACK, *VOID * 255], [*VOID, *WHITE * 255], [*BLACK * 256]):
        path = save(tmp_path / "m.png", palette(indices, colors))
        assert not read_objects(path, Rules("instances")).remarks


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("objects", ["whole", "components", "instances"])
def test_an_inverted_gray_scale_keeps_its_numbers(tmp_path, dtype, objects):
    tifffile.imwrite(tmp_path / "m.tif", OBJECT.astype(dtype), photometric="miniswhite")
    assert_read(tmp_path / "m.tif", [AS_STORED], objects)
    tifffile.imwrite(tmp_path / "m.tif", SHOWN, photometric="miniswhite", compression="zlib")
    assert_read(tmp_path / "m.tif", [AS_STORED], objects)
    tifffile.imwrite(tmp_path / "m.tif", SHOWN)
    assert_read(tmp_path / "m.tif", [], objects)


def test_of_bits_with_an_inverted_scale_the_white_ones_are_the_object(tmp_path):
    tifffile.imwrite(tmp_path / "m.tif", ~OBJECT, photometric="miniswhite")
    with Image.open(tmp_path / "m.tif") as image:
        assert np.array_equal(np.array(image.convert("L")), SHOWN)  # as other programs show it
    assert_read(tmp_path / "m.tif", [AS_SHOWN])


def with_alpha(colors, alpha=SHOWN):
    return Image.fromarray(np.dstack([*[np.full_like(SHOWN, value) for value in colors], alpha]))


ALPHA = {
    "white": with_alpha(WHITE),
    "black": with_alpha(BLACK),
    "red": with_alpha((255, 0, 0)),
    "gray": with_alpha((255,)),
    "16 bit": np.dstack([np.full(SHOWN.shape, 65535, np.uint16)] * 3 + [SHOWN.astype(np.uint16)]),
    "of 0 and 1": with_alpha(BLACK, OBJECT.astype(np.uint8)),
    "half opaque": with_alpha((255, 0, 0), SHOWN // 2),
}


@pytest.mark.parametrize("colors", ALPHA)
@pytest.mark.parametrize("objects", ["whole", "components", "instances"])
def test_alpha_is_the_mask_where_the_colors_are_constant(tmp_path, colors, objects):
    path = tmp_path / "m.tif"
    if colors == "16 bit":
        tifffile.imwrite(path, ALPHA[colors], photometric="rgb", extrasamples=["unassalpha"])
    else:
        path = save(tmp_path / "m.png", ALPHA[colors])
    assert_read(path, [IN_ALPHA], objects)


def test_alpha_of_a_palette_is_the_mask_where_the_colors_are_equal(tmp_path):
    image = of_colors(WHITE, WHITE, swapped=True)
    assert_read(save(tmp_path / "m.png", image, transparency=bytes([255, 0])), [IN_ALPHA])


def test_alpha_is_the_class_where_the_color_is_constant(tmp_path):
    path = save(tmp_path / "m.png", with_alpha((255, 0, 0)))
    assert_read(path, [IN_ALPHA], "classes", classes={"cell": [255, 0, 0]})
    assert_read(path, [IN_ALPHA], "classes", classes={"cell": 255})


def test_a_transparent_mask_is_empty_and_an_opaque_one_is_read_by_its_color(tmp_path):
    for alpha, value, count in ((0, 255, 0), (0, 0, 0), (255, 255, 1), (255, 0, 0), (77, 255, 1)):
        path = save(tmp_path / "m.png", with_alpha((value,) * 3, np.full_like(SHOWN, alpha)))
        assert read_objects(path, Rules()).count == count


def test_where_colors_and_alpha_vary_the_colors_are_read(tmp_path):
    image = Image.fromarray(np.dstack([SHOWN] * 3 + [np.where(np.arange(32) < 20, 255, 90 + SHOWN // 9)]).astype("u1"))
    assert_read(save(tmp_path / "m.png", image))


@pytest.mark.parametrize("objects", ["whole", "components"])
def test_inverted_masks_are_turned_over_and_ignored_pixels_stay(tmp_path, objects):
    path = save(tmp_path / "m.png", 255 - SHOWN)
    assert_read(path, objects=objects, invert=True)
    values = 255 - SHOWN
    values[0] = 128
    found = assert_read(save(tmp_path / "m.png", values), objects=objects, invert=True, ignore_index=128)
    assert np.array_equal(found.ignored, values == 128)


@pytest.mark.parametrize("objects", ["instances", "classes"])
def test_only_binary_masks_are_inverted(messages, objects):
    with messages.raises(ConfigError, "data.invert=true", f"data.objects={objects}"):
        Rules(objects, invert=True)
