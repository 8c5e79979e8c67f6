import pytest
import torch

from sam_ft.models import build_model
from sam_ft.models.build import SPECS
from sam_ft.models.chunks import BYTES, Chunks, chunk_size
from tests.support.tiny import tiny_sam

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("free", "expected"),
    [(0, 1), (199, 1), (200, 1), (400, 2), (799, 2), (800, 4), (6300, 16), (12_800, 64), (1e12, 64)],
)
def test_a_gpu_takes_the_power_of_two_that_fits_into_half_of_its_free_memory(free, expected):
    assert chunk_size(GPU, free, each=100, most=64, on_cpu=8) == expected


def test_the_size_on_a_cpu_does_not_depend_on_memory():
    assert [chunk_size(CPU, free, each=100, most=64, on_cpu=8) for free in (0, 1e12)] == [8, 8]


def test_the_defaults_on_a_cpu_are_one_image_and_eight_objects():
    chunks = Chunks(tiny_sam())
    assert (chunks.images, chunks.train, chunks.predict((30_000, 30_000))) == (1, 8, 8)


def test_every_model_has_its_memory():
    assert BYTES.keys() == SPECS.keys()


@pytest.fixture
def on_gpu(monkeypatch):
    """`on_gpu(free, model)`: its chunks as on a GPU with so many bytes free."""

    def make(free, model):
        monkeypatch.setattr(type(model), "device", GPU)
        monkeypatch.setattr("sam_ft.models.chunks.free_gpu_bytes", lambda _: free)
        return Chunks(model)

    return make


def test_half_the_input_side_takes_a_quarter_of_the_memory(on_gpu):
    whole, half = (build_model("lite_medsam", checkpoint=None, image_size=side) for side in (256, 128))
    free = 16 * BYTES["lite_medsam"].train
    assert (on_gpu(free, whole).train, on_gpu(free, half).train) == (8, 32)
    free = 2 * BYTES["lite_medsam"].encode
    assert (on_gpu(free, whole).images, on_gpu(free, half).images) == (1, 4)


def test_masks_of_a_large_original_make_chunks_of_prediction_smaller(on_gpu):
    chunks = on_gpu(8e9, build_model("lite_medsam", checkpoint=None))
    assert chunks.predict((10_000, 10_000)) < chunks.predict((1000, 1000)) <= 64
    assert chunks.predict((100_000, 100_000)) == 1
