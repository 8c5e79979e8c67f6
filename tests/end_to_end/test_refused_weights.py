"""Checkpoints that do not fit, are damaged or are of another version."""

import pytest
from safetensors.torch import load_file, save_file

from sam_ft.models import build_model
from sam_ft.training.checkpoint import save_partial_weights
from sam_ft.training.tensor_file import FORMAT_VERSION
from tests.conftest import of
from tests.end_to_end.conftest import CHECKPOINT
from tests.support.reference import LITE_MEDSAM_WEIGHTS


def test_a_checkpoint_of_another_model(train):
    more = ["model=vit_b", f"model.checkpoint={LITE_MEDSAM_WEIGHTS}"]
    train(CHECKPOINT, "lite_medsam", "model=vit_b", overrides=more)


def test_a_checkpoint_that_is_not_there(train):
    train(CHECKPOINT, "nothing.pth", overrides=["model.checkpoint=nothing.pth"])


@pytest.fixture
def evaluated(refused, blobs, tmp_path):
    """Tries to evaluate a partial checkpoint."""

    def check(*words, checkpoint, side=64):
        own = ["model=lite_medsam", f"model.image_size={side}", "workers=0", "pictures=0", f"output={tmp_path}"]
        overrides = [*own, *of(blobs), f"checkpoint={checkpoint}"]
        refused(CHECKPOINT, *words, script="evaluate.py", overrides=overrides)

    return check


def test_a_partial_checkpoint_that_is_not_there(evaluated, tmp_path):
    evaluated("none.safetensors", checkpoint=tmp_path / "none.safetensors")


def test_a_partial_checkpoint_of_another_input_side(evaluated, run):
    evaluated("model.image_size=64", checkpoint=run / "checkpoints/best.safetensors", side=48)


def test_a_partial_checkpoint_of_another_model(evaluated, tmp_path):
    other = build_model("vit_t", checkpoint=None, image_size=64)
    other.requires_grad_(False).mask_decoder.requires_grad_(True)
    save_partial_weights(other, tmp_path / "other.safetensors")
    evaluated("model=vit_t", "model=lite_medsam", checkpoint=tmp_path / "other.safetensors")


def test_a_partial_checkpoint_on_top_of_another_base(evaluated, tmp_path):
    other = build_model("lite_medsam", checkpoint=None, image_size=64)
    other.requires_grad_(False).mask_decoder.requires_grad_(True)
    save_partial_weights(other, tmp_path / "other.safetensors")
    evaluated("other.safetensors", "model.checkpoint", checkpoint=tmp_path / "other.safetensors")


@pytest.mark.parametrize("kept", [0, 100, 0.5, -1])
def test_a_partial_checkpoint_that_breaks_off(evaluated, run, tmp_path, kept):
    whole = (run / "checkpoints/best.safetensors").read_bytes()
    cut = whole[: int(len(whole) * kept) if isinstance(kept, float) else kept]
    (tmp_path / "cut.safetensors").write_bytes(cut)
    evaluated("cut.safetensors", f"{len(cut)} bytes", checkpoint=tmp_path / "cut.safetensors")


def test_a_partial_checkpoint_with_one_flipped_bit(evaluated, run, tmp_path):
    whole = bytearray((run / "checkpoints/best.safetensors").read_bytes())
    whole[-1000] ^= 1
    (tmp_path / "flipped.safetensors").write_bytes(whole)
    evaluated("flipped.safetensors", checkpoint=tmp_path / "flipped.safetensors")


def test_a_file_of_weights_that_is_no_partial_checkpoint(evaluated, run, tmp_path):
    save_file(load_file(run / "checkpoints/best.safetensors"), tmp_path / "plain.safetensors")
    evaluated("plain.safetensors", checkpoint=tmp_path / "plain.safetensors")


@pytest.mark.parametrize(
    ("version", "words"),
    [("1", ("older version", "train again")), ("99", ("newer version", "update sam-ft"))],
)
def test_a_partial_checkpoint_of_another_version(evaluated, run, tmp_path, version, words):
    tensors = load_file(run / "checkpoints/best.safetensors")
    save_file(tensors, tmp_path / "other.safetensors", {"format_version": version})
    evaluated(f"expected {FORMAT_VERSION}", *words, checkpoint=tmp_path / "other.safetensors")
