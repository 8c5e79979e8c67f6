"""Memory that runs out ends a command in one line with the batch and the settings that help; checkpoints are kept."""

import pytest
import torch

from sam_ft.models.mask_decoder import MaskDecoder
from sam_ft.task import PromptedSegmentation
from tests.conftest import of
from tests.support.cli import SMALL

pytestmark = pytest.mark.slow

CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.64 GiB. If reserved but ..."


@pytest.fixture
def runs_out(monkeypatch):
    """`runs_out(part)`: every pass through a part of the model runs out of memory."""

    def fail(*_, **__):
        raise torch.OutOfMemoryError(CUDA)

    return lambda part: monkeypatch.setattr(part, "forward", fail)


def test_a_training_ends_with_code_5_and_goes_on_with_less(messages, blobs, tmp_path, cli, runs_out, monkeypatch):
    command = ["train.py", *SMALL, *of(blobs), f"run_dir={tmp_path}", "patience=null"]
    assert cli(*command, "epochs=1").code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()}
    runs_out(PromptedSegmentation)  # a step calls it, which an evaluation does not
    facts = ("2.00 GiB", "blobs_", "input side of 64", "objects", "train_chunk", "micro_batch_size", "activation_check")
    messages.refused(cli(*command, "epochs=2"), 5, *facts)
    assert {path.name: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()} == before
    monkeypatch.undo()
    assert "continuing after epoch 1 of 2" in cli(*command, "epochs=2", "train_chunk=4", "micro_batch_size=1").out


def test_an_evaluation_ends_with_code_5(messages, run, tmp_path, cli, runs_out):
    runs_out(MaskDecoder)
    done = cli("evaluate.py", f"run={run}", "workers=0", f"output={tmp_path}")
    messages.refused(done, 5, "2.00 GiB", "blobs_", "eval_chunk", "eval_batch_size", "model.image_size")


def test_where_no_batch_is_known_it_is_one_line_too(messages, run, blobs, tmp_path, cli, runs_out):
    runs_out(MaskDecoder)
    done = cli("predict.py", f"run={run}", f"images={blobs / 'images'}", f"output={tmp_path}")
    messages.refused(done, 5, "2.00 GiB", "model.image_size")
