import math
from dataclasses import asdict

import pytest
import torch

from sam_ft.evaluation.evaluate import Evaluation
from sam_ft.training.state import TrainState
from sam_ft.training.tensor_file import read_tensors, write_tensors
from sam_ft.utils.errors import CheckpointError
from tests.support.steps import trained


def evaluation(iou):
    groups = {"class": {"cell": {"objects": 3, "iou": iou}, "debris": {"objects": 0, "iou": None}}}
    return Evaluation({"iou": iou, "hd95": math.nan, "objects": 3}, [], groups)


def test_training_starts_with_the_scores_of_the_model_as_it_is():
    state = TrainState.start(40, evaluation(0.5))
    assert (state.total_steps, state.epoch, state.step, state.best_epoch) == (40, 0, 0, 0)
    assert state.zero_shot["iou"] == state.best["iou"] == 0.5
    assert state.zero_shot_classes["cell"]["iou"] == state.best_classes["cell"]["iou"] == 0.5


def test_only_a_higher_score_is_the_best():
    state = TrainState.start(40, evaluation(0.5))
    improved = [state.update(epoch, evaluation(iou), "iou") for epoch, iou in enumerate((0.5, 0.6, 0.6, 0.4), 1)]
    assert improved == [False, True, False, False]
    assert (state.epoch, state.best_epoch, state.best["iou"]) == (4, 2, 0.6)
    assert state.best_classes["cell"]["iou"] == 0.6
    assert state.zero_shot["iou"] == 0.5


def test_a_run_stalls_after_so_many_epochs_without_a_better_score():
    state = TrainState.start(40, evaluation(0.5))
    stalled = []
    for epoch, iou in enumerate((0.6, 0.5, 0.5), 1):
        stalled.append(state.stalled(2))
        state.update(epoch, evaluation(iou), "iou")
    assert stalled == [False, False, False]
    assert state.stalled(2)
    assert not state.stalled(3)
    assert not state.stalled(None)
    none_better = TrainState(total_steps=40, epoch=2, best_epoch=0)
    assert none_better.stalled(2)


def mixable():
    state = TrainState.start(40, evaluation(0.5))
    state.update(1, evaluation(0.6), "iou")
    return state


MIXES = {0.25: 0.55, 0.5: 0.7, 0.75: 0.65}


def choose(state, scores):
    return state.choose_mix({share: evaluation(iou) for share, iou in scores.items()}, "iou")


def test_the_best_mix_becomes_the_best_and_the_epoch_is_remembered():
    state = mixable()
    assert choose(state, MIXES) == 0.5
    assert (state.mix, state.best["iou"], state.best_classes["cell"]["iou"]) == (0.5, 0.7, 0.7)
    assert (state.unmixed["iou"], state.best_epoch, state.mix_epoch) == (0.6, 1, 1)


def test_a_mix_that_wins_forgets_how_the_head_of_other_weights_was_used():
    state = mixable()
    state.head_notes, state.head_scores, state.baseline = {"tile": 9}, {"msa": 0.5}, {"msa": 0.4}
    choose(state, {0.5: 0.55})
    assert state.head_scores == {"msa": 0.5}
    choose(state, MIXES)
    assert (state.head_notes, state.head_scores, state.baseline) == ({}, {}, {})


def test_the_last_epoch_is_mixed_if_none_has_beaten_zero_shot():
    state = TrainState.start(40, evaluation(0.5))
    for epoch in (1, 2, 3):
        state.update(epoch, evaluation(0.4), "iou")
    assert choose(state, MIXES) == 0.5
    assert (state.best["iou"], state.best_classes["cell"]["iou"], state.mix_epoch) == (0.7, 0.7, 3)
    # It is no epoch that beats zero-shot: with a patience, the run ends where it did.
    assert (state.best_epoch, state.stalled(3)) == (0, True)
    assert not state.update(4, evaluation(0.65), "iou")
    assert not state.mixable
    assert state.update(5, evaluation(0.75), "iou")
    assert state.mixable


def test_mixes_that_do_not_beat_zero_shot_either_are_not_tried_again():
    state = TrainState.start(40, evaluation(0.5))
    assert not state.mixable
    state.update(1, evaluation(0.4), "iou")
    assert state.mixable
    assert choose(state, {0.5: 0.5}) is None
    assert (state.best["iou"], state.mix, state.mix_epoch, state.unmixed) == (0.5, None, 1, {})
    assert not state.mixable
    state.update(2, evaluation(0.45), "iou")
    assert state.mixable


@pytest.mark.parametrize("epoch", [0.6, 0.4], ids=["better", "worse"])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_mix_that_was_not_written_is_taken_back(tmp_path, epoch, share):
    state, path = TrainState.start(40, evaluation(0.5)), tmp_path / "best.safetensors"
    state.update(1, evaluation(epoch), "iou")
    before = asdict(state)
    choose(state, MIXES if share < 1 else {0.5: 0.3})
    mixed = asdict(state)
    write_tensors(path, {}, {"mix": state.mix})
    state.match_best(path)
    assert asdict(state) == mixed
    write_tensors(path, {}, {"mix": None})
    state.match_best(path)
    if state.mix_epoch:  # no mix was better than zero-shot, and nothing was to be written
        assert (epoch, share) == (0.4, 1.0)
        assert asdict(state) == mixed
    else:
        assert repr(asdict(state)) == repr(before)
        assert state.mixable


def test_a_mix_that_is_not_better_leaves_the_best_epoch():
    state = mixable()
    assert choose(state, {0.5: 0.6, 0.75: math.nan}) == 1.0
    assert (state.mix, state.best["iou"]) == (1.0, 0.6)
    assert not state.mixable


def test_a_later_epoch_must_beat_the_mix_and_is_not_mixed_yet():
    state = mixable()
    choose(state, {0.5: 0.7})
    assert not state.update(2, evaluation(0.65), "iou")
    assert state.mix == 0.5
    assert state.update(3, evaluation(0.75), "iou")
    assert (state.mix, state.unmixed, state.best["iou"]) == (None, {}, 0.75)


def test_a_state_that_lacks_a_field_is_refused_and_changes_nothing(messages, tmp_path):
    path = tmp_path / "last.safetensors"
    task, optimizer, ema = trained(1)
    TrainState.start(40, evaluation(0.5)).save(path, task.model, optimizer, ema)
    tensors, progress = read_tensors(path)
    rest = {name: value for name, value in progress.items() if name not in ("best_epoch", "mix")}
    write_tensors(path, tensors, rest)
    other, optimizer, ema = trained(0)
    before = {name: p.clone() for name, p in other.named_parameters()}
    with messages.raises(CheckpointError, str(path), "best_epoch, mix", "name="):
        TrainState.load(path, other.model, optimizer, ema)
    assert all(torch.equal(p, before[name]) for name, p in other.named_parameters())
    assert not optimizer.state


IMPOSSIBLE = {
    "a negative epoch": {"epoch": -5},
    "an epoch that is a text": {"epoch": "x"},
    "an epoch that is true": {"epoch": True},
    "more epochs than steps": {"epoch": 7},
    "half a step": {"step": 1.5},
    "no best scores": {"best": None},
    "a list of scores": {"zero_shot": [0.5]},
    "a share above 1": {"mix": 3.0},
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_values_that_no_run_has_written_are_refused(messages, tmp_path, name):
    path = tmp_path / "last.safetensors"
    task, optimizer, ema = trained(0)
    state = TrainState.start(40, evaluation(0.5))
    state.step = 2
    state.save(path, task.model, optimizer, ema)
    tensors, progress = read_tensors(path)
    write_tensors(path, tensors, {**progress, **IMPOSSIBLE[name]})
    with messages.raises(CheckpointError, path, *IMPOSSIBLE[name], "overwrite=true"):
        TrainState.load(path, task.model, optimizer, ema)


def test_a_state_of_an_older_version_goes_on(tmp_path):
    path = tmp_path / "last.safetensors"
    task, optimizer, ema = trained(0)
    state = TrainState.start(40, Evaluation({"iou": 0.5}, [], {"class": {}}))
    state.save(path, task.model, optimizer, ema)
    tensors, progress = read_tensors(path)
    write_tensors(path, tensors, {name: value for name, value in progress.items() if not name.startswith("epoch_")})
    assert TrainState.load(path, task.model, optimizer, ema) == state


def test_the_record_of_the_best_weights_is_that_of_their_file(tmp_path):
    path = tmp_path / "best.safetensors"
    state = mixable()  # epoch 1, with 0.6
    later = {"best_epoch": 2, "best": {"iou": 0.7}, "best_classes": {}, "mix": None}
    write_tensors(path, {}, later)
    state.match_best(path)  # as after a fall back to the state before
    assert (state.best_epoch, state.best, state.epoch) == (2, {"iou": 0.7}, 1)
    assert not state.update(2, evaluation(0.7), "iou")
    assert state.mixable
    write_tensors(path, {}, {**later, "mix": 0.5, "mix_epoch": 2, "best": {"iou": 0.8}, "unmixed": {"iou": 0.7}})
    state.match_best(path)
    assert (state.mix, state.best, state.unmixed) == (0.5, {"iou": 0.8}, {"iou": 0.7})
    assert not state.mixable


def test_damaged_best_weights_are_left_to_the_user(messages, tmp_path):
    path = tmp_path / "best.safetensors"
    path.write_bytes(b"damaged")
    with messages.raises(CheckpointError, path, "delete it"):
        mixable().match_best(path)
    assert path.read_bytes() == b"damaged"


def test_without_the_file_of_the_best_weights_the_last_epoch_is_validated_again(tmp_path, caplog, messages):
    state = mixable()
    state.step, state.pruned = 5, True
    choose(state, MIXES)
    state.match_best(tmp_path / "best.safetensors")
    messages.logged(caplog, "best.safetensors")
    assert (state.epoch, state.epoch_steps, state.step, state.best_epoch, state.mix) == (0, 5, 5, 0, None)
    assert state.best == state.zero_shot
    assert not state.pruned
    assert not state.stalled(1)  # the epoch comes to its end first


def test_best_weights_of_an_earlier_epoch_have_the_last_one_validated_again(messages, tmp_path, caplog):
    path = tmp_path / "best.safetensors"
    state = mixable()
    state.step = 5
    # As a start leaves it that found no file, wrote the weights of zero-shot, and was killed before it validated.
    write_tensors(path, {}, {"best_epoch": 0, "best": {"iou": 0.5}, "best_classes": {}, "mix": None})
    state.match_best(path)
    messages.logged(caplog, path)
    assert (state.epoch, state.epoch_steps, state.best_epoch, state.best) == (0, 5, 0, {"iou": 0.5})
    assert state.update(1, evaluation(0.6), "iou")


@pytest.mark.parametrize("name", ["zero_shot", "best"])
def test_best_weights_of_another_run_are_refused(messages, tmp_path, name):
    path = tmp_path / "best.safetensors"
    state = TrainState.start(40, Evaluation({"iou": 0.5}, [], {"class": {}}))
    own = {"zero_shot": {"iou": 0.5}, "best": {"iou": 0.5}, "best_epoch": 0, "mix": None}
    write_tensors(path, {}, own)
    state.match_best(path)
    write_tensors(path, {}, {**own, name: {"iou": 0.4}})
    with messages.raises(CheckpointError, path, "delete it"):
        state.match_best(path)
