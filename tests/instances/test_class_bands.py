import numpy as np
import pytest

from sam_ft.data.io.objects import label_components
from sam_ft.instances.class_bands import segment_class_bands


def one_hot(channels, number):
    """(number, H, W): each pixel's channel has probability 0.6, the others share the rest."""
    found = np.full((number, *channels.shape), 0.4 / (number - 1), np.float32)
    np.put_along_axis(found, channels[None], 0.6, axis=0)
    return found


def objects(maps, cuts, **options):
    """[(channel, mask of the whole image)] in the order of channel and first pixel."""
    size, found = maps.shape[1:], []
    for channel, one in segment_class_bands(np.split(maps, cuts, axis=1), **options):
        mask = np.zeros(size, bool)
        mask[one.y0 : one.y0 + one.mask.shape[0], one.x0 : one.x0 + one.mask.shape[1]] = one.mask
        found.append((channel, one.order, mask))
        assert one.foreground == pytest.approx(0.6)
    return [(channel, mask) for channel, _, mask in sorted(found, key=lambda one: one[:2])]


def same(found, expected):
    return len(found) == len(expected) and all(
        channel == other and np.array_equal(mask, own)
        for (channel, mask), (other, own) in zip(found, expected, strict=True)
    )


@pytest.fixture(params=range(6))
def channels(request):
    # Blobs of a few pixels that touch at corners, of three classes and the background.
    rng = np.random.default_rng(request.param)
    return np.kron(rng.integers(0, 4, (9, 11)), np.ones((2, 2), int))


@pytest.mark.parametrize("cuts", [[], [7], [1, 2, 3, 8, 9, 17]])
def test_bands_give_the_components_of_the_whole_image(channels, cuts):
    expected = []
    for channel in (1, 2, 3):
        ids = label_components(channels == channel, min_area=5)
        masks = [ids == number for number in range(1, ids.max() + 1)]
        expected += [(channel, mask) for mask in sorted(masks, key=lambda mask: mask.ravel().argmax())]
    assert len(expected) > 5
    assert same(objects(one_hot(channels, 4), cuts, components=True, min_area=5), expected)


@pytest.mark.parametrize("cuts", [[], [1, 9]])
def test_without_components_all_of_a_class_is_one_object(channels, cuts):
    expected = [(channel, channels == channel) for channel in (1, 2, 3)]
    assert same(objects(one_hot(channels, 4), cuts, components=False, min_area=10**6), expected)


def test_an_arch_whose_feet_stand_in_several_bands_is_one_object():
    channels = np.array([[1, 1, 1], [1, 0, 1], [1, 0, 1], [0, 0, 1], [1, 0, 1], [1, 1, 1]])
    for turned in (channels, channels[::-1]):
        assert len(objects(one_hot(turned, 2), [1, 2, 3, 4, 5], components=True)) == 1


def test_background_alone_has_no_objects():
    assert objects(one_hot(np.zeros((4, 4), int), 3), [2], components=True) == []
