import pytest
import torch

from sam_ft.models.build import SPECS, build_sam
from sam_ft.utils.errors import ConfigError
from tests.support import reference


@pytest.mark.parametrize("model_type", sorted(SPECS))
def test_names_and_shapes_are_those_of_the_official_model(model_type):
    if model_type == "lite_medsam":
        theirs = reference.build_lite_medsam()
    elif model_type == "vit_t":  # the package's TinyViT cannot be built on the meta device
        theirs = reference.mobile_sam.sam_model_registry[model_type]()
    else:
        with torch.device("meta"):
            theirs = reference.segment_anything.sam_model_registry[model_type]()
    with torch.device("meta"):
        ours = build_sam(model_type)
    expected = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == expected


def test_names_and_shapes_of_lite_medsam_are_those_of_its_published_weights():
    published = torch.load(reference.LITE_MEDSAM_WEIGHTS, weights_only=True, map_location="meta")
    with torch.device("meta"):
        ours = build_sam("lite_medsam").state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in published.items()}


def test_our_weights_load_strictly_into_the_official_package():
    theirs = reference.mobile_sam.sam_model_registry["vit_t"]()
    ours = build_sam("vit_t").state_dict()
    theirs.load_state_dict(ours, strict=True)
    assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.state_dict().items())


def test_a_new_model_is_in_eval_mode_and_has_its_type_and_size():
    sam = build_sam("vit_t", image_size=256)
    assert not sam.training
    assert (sam.model_type, sam.image_size, sam.mask_side, sam.base_sha256) == ("vit_t", 256, 64, None)
    assert sam.device == torch.device("cpu")
    assert all(tensor.isfinite().all() for tensor in sam.state_dict().values())


def test_an_unknown_model_type_is_refused_and_the_known_ones_are_named(messages):
    with messages.raises(ConfigError, "vit_x", "vit_h, vit_l, vit_b, vit_t, lite_medsam"):
        build_sam("vit_x")


@pytest.mark.parametrize(("model_type", "side"), [("vit_b", 2**20), ("lite_medsam", 8196)])
def test_an_input_side_that_no_machine_holds_is_refused(messages, model_type, side):
    with messages.raises(ConfigError, f"image_size is {side}", "data.tile"):
        build_sam(model_type, image_size=side)


@pytest.mark.parametrize(
    ("model_type", "side", "nearest"), [("vit_b", 1000, 992), ("vit_t", 8, 16), ("lite_medsam", 255, 256)]
)
def test_an_input_side_that_is_no_multiple_of_the_stride_is_refused(messages, model_type, side, nearest):
    with messages.raises(ConfigError, f"image_size is {side}", str(nearest)):
        build_sam(model_type, image_size=side)
