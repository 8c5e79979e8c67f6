import math
from dataclasses import asdict

import pytest
import torch

from sam_ft.evaluation.evaluate import Evaluation
from sam_ft.prompts import Box
from sam_ft.training.ema import Ema
from sam_ft.training.state import TrainState
from sam_ft.training.step import train_step
from sam_ft.training.tensor_file import read_tensors
from sam_ft.utils.errors import CheckpointError
from tests.support.learning import ADAPTS, BUILDS, LEARNING, each
from tests.support.steps import batch_of, trained


def evaluation(iou):
    groups = {"class": {"cell": {"objects": 3, "iou": iou}, "debris": {"objects": 0, "iou": None}}}
    return Evaluation({"iou": iou, "hd95": math.nan, "objects": 3}, [], groups)


def test_a_loaded_state_goes_on_exactly_as_the_saved_one(tmp_path):
    path = tmp_path / "last.safetensors"
    task, optimizer, ema = trained(2)
    state = TrainState.start(40, evaluation(0.5))
    state.step = 2
    state.update(1, evaluation(0.6), "iou")
    state.save(path, task.model, optimizer, ema)

    other, fresh, other_ema = trained(0)
    loaded = TrainState.load(path, other.model, fresh, other_ema)
    expected = asdict(state)
    found = asdict(loaded)
    for scores in ("zero_shot", "best"):  # JSON has no nan
        assert math.isnan(expected[scores].pop("hd95"))
        assert found[scores].pop("hd95") is None
    assert found == expected
    for one, its_optimizer, average in ((task, optimizer, ema), (other, fresh, other_ema)):
        train_step(one, [batch_of([4])], Box(), 2, its_optimizer, 1.0)
        average.update(3)
    for name, average in ema.averages.items():
        assert torch.equal(other_ema.averages[name], average), name
        assert not torch.equal(average, task.model.get_parameter(name)), name
    for (name, mine), theirs in zip(task.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs), name


@pytest.mark.slow
@each(LEARNING)
def test_an_encoder_that_learns_in_part_goes_on_exactly(encoder, adapt, tmp_path):
    path, own = tmp_path / "last.safetensors", {"build": BUILDS[encoder]}
    whole, *_ = trained(4, ADAPTS[adapt], **own)
    half, optimizer, ema = trained(2, ADAPTS[adapt], **own)
    TrainState(total_steps=4, step=2).save(path, half.model, optimizer, ema)
    halves, optimizer, ema = trained(0, ADAPTS[adapt], **own)
    TrainState.load(path, halves.model, optimizer, ema)
    for seed in (2, 3):
        train_step(halves, [batch_of([1])], Box(jitter=0.1), seed, optimizer, 1.0)
    untrained = BUILDS[encoder]().state_dict()
    moved = [name for name, p in half.model.named_parameters() if p.requires_grad and "image_encoder" in name]
    assert any(
        name not in untrained or not torch.equal(half.model.get_parameter(name), untrained[name]) for name in moved
    )
    for (name, mine), theirs in zip(whole.model.state_dict().items(), halves.model.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name


def test_a_state_without_an_average_is_refused_by_a_run_with_one(tmp_path):
    path = tmp_path / "last.safetensors"
    task, optimizer, ema = trained(0)
    TrainState.start(40, evaluation(0.5)).save(path, task.model, optimizer, Ema(task.model, None))
    with pytest.raises(CheckpointError, match=r"last\.safetensors"):
        TrainState.load(path, task.model, optimizer, ema)


def test_the_state_before_takes_the_place_of_a_damaged_one(tmp_path, caplog, messages):
    path, older = tmp_path / "last.safetensors", tmp_path / "last-1.safetensors"
    task, optimizer, ema = trained(0)
    for step in (1, 2, 3):
        TrainState(total_steps=9, step=step).save(path, task.model, optimizer, ema)
    assert [read_tensors(one)[1]["step"] for one in (older, path)] == [2, 3]
    assert len(list(tmp_path.iterdir())) == 2
    path.write_bytes(path.read_bytes()[:-4])
    assert TrainState.load(path, task.model, optimizer, ema).step == 2
    messages.logged(caplog, path, older.name)
    assert not older.exists()  # the next state keeps this one, and not the damaged one
    TrainState(total_steps=9, step=3).save(path, task.model, optimizer, ema)
    assert [read_tensors(one)[1]["step"] for one in (older, path)] == [2, 3]


def test_a_state_of_another_model_is_no_damage(messages, tmp_path):
    path = tmp_path / "last.safetensors"
    task, optimizer, ema = trained(0)
    for _ in range(2):
        TrainState(total_steps=9).save(path, task.model, optimizer, ema)
    other, optimizer, ema = trained(0, ADAPTS["last block"])
    with messages.raises(CheckpointError, path):
        TrainState.load(path, other.model, optimizer, ema)
    assert len(list(tmp_path.iterdir())) == 2


def test_two_processes_go_on_exactly_from_a_file_that_one_of_them_reads(two_processes):
    results = two_processes("resumed")
    for result in results:
        assert result["steps"] == 2
        for name, expected in results[0]["whole"].items():
            assert torch.equal(result["whole"][name], expected), name
            assert torch.equal(result["halves"][name], expected), name
        for name, expected in results[0]["average"].items():
            assert torch.equal(result["average"][name], expected), name
            assert torch.equal(result["average of halves"][name], expected), name
        assert result["mixed"].keys() == results[0]["mixed"].keys() == results[0]["average"].keys()
        for name, mixed in result["mixed"].items():
            whole, base = results[0]["whole"][name], results[0]["base"][name]
            assert torch.equal(mixed, base.lerp(whole, 0.5)), name
    base = results[0]["base"]
    assert any(not torch.equal(tensor, base[name]) for name, tensor in results[0]["halves"].items())


def test_a_state_that_cannot_be_read_ends_all_processes_with_one_message(two_processes):
    assert [result["missing"] for result in two_processes("resumed")] == [
        CheckpointError.exit_code,
        -CheckpointError.exit_code,
    ]
