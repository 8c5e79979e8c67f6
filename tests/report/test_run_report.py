import json

import pytest
import torch
from omegaconf import OmegaConf

from sam_ft.data.datasets import EvaluationSet
from sam_ft.evaluation.evaluate import Evaluation
from sam_ft.prompts import Box
from sam_ft.report import run_report
from sam_ft.report.run_report import RunReport
from sam_ft.training.state import TrainState
from sam_ft.training.step import StepResult, read_back
from sam_ft.utils.errors import TrainingError
from tests.support.blobs import Blobs
from tests.support.steps import learning_task


class Loader:
    """Steps without content."""

    def __init__(self, steps):
        self.steps = steps

    def epoch(self, epoch, first_step):
        return iter([[]] * (self.steps - first_step))


def report_in(tmp_path, log_every=2, epochs=3):
    rest = {
        "pictures": 0,
        "eval_chunk": None,
        "monitor": "iou",
        "patience": 2,
        "prune_after": 1,
        "mix": [0.5],
        "report": {"names": True},
    }
    cfg = OmegaConf.create({"epochs": epochs, "log_every": log_every, **rest})
    task = learning_task()
    return RunReport(tmp_path, cfg, {}, task, EvaluationSet(Blobs([1]), 64), Box())


def result(loss, objects=2, norm=1.0):
    losses = {"loss": torch.tensor([float(loss)] * objects)}
    return StepResult(objects, torch.tensor(norm), losses, [(["blobs_0"], torch.zeros(objects, dtype=torch.int64))])


def evaluation(iou):
    return Evaluation({"iou": iou, "dice": iou}, [], {"class": {"cell": {"objects": 2, "iou": iou}}})


def rows_in(tmp_path):
    return [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]


def test_every_step_is_logged_and_the_device_read_once_for_several(tmp_path, monkeypatch):
    reads = []

    def counting(results):
        reads.append(len(results))
        return read_back(results)

    monkeypatch.setattr(run_report, "read_back", counting)
    state = TrainState.start(5, evaluation(0.5))
    with report_in(tmp_path) as report:
        for loss, _ in enumerate(report.steps(state, Loader(5), encode_seconds=7.0), 1):
            state.step += 1
            report.log_step(state.step, 0.01 * loss, result(loss, objects=loss))
        state.update(1, evaluation(0.6), "iou")
        report.log_epoch(state, evaluation(0.6), improved=True)
    assert reads == [2, 2, 1]
    *steps, epoch = rows_in(tmp_path)
    assert [(row["step"], row["train/loss"], row["lr"]) for row in steps] == [(n, n, 0.01 * n) for n in range(1, 6)]
    assert epoch["val/iou"] == epoch["val_class/cell"] == 0.6
    assert epoch["epoch/loss"] == pytest.approx(sum(n * n for n in range(1, 6)) / 15)  # every object counts the same
    assert epoch["epoch/encode_seconds"] == 7.0


def test_steps_without_objects_are_left_out(tmp_path):
    with report_in(tmp_path) as report:
        for number, _ in enumerate(report.steps(TrainState(total_steps=3), Loader(3), 0.0), 1):
            report.log_step(number, 0.1, None if number == 2 else result(number))
    assert [row["step"] for row in rows_in(tmp_path)] == [1, 3]


def test_a_loss_that_is_not_finite_stops_the_run_when_it_is_read(tmp_path):
    with report_in(tmp_path, log_every=2) as report:
        steps = report.steps(TrainState(total_steps=3), Loader(3), 0.0)
        next(steps)
        report.log_step(1, 0.1, result(float("nan"), norm=float("nan")))
        next(steps)
        with pytest.raises(TrainingError, match="blobs_0"):
            report.log_step(2, 0.1, result(1.0))


def test_the_log_has_the_course_of_a_run(tmp_path, caplog, messages):
    caplog.set_level("INFO", logger="sam_ft")
    weights = tmp_path / "best.safetensors"
    weights.write_bytes(bytes(1000))
    state = TrainState.start(2, evaluation(0.5))
    with report_in(tmp_path, epochs=2) as report:
        report.log_zero_shot(state, evaluation(0.5), "box")
        for epoch, iou in ((1, 0.6), (2, 0.55)):
            for _ in report.steps(state, Loader(1), 0.0):
                state.step += 1
                report.log_step(state.step, 0.1, result(iou))
            improved = state.update(epoch, evaluation(iou), "iou")
            report.log_epoch(state, evaluation(iou), improved)
        report.log_stop(state)
        report.finish(state, weights)
    messages.check("\n".join(caplog.messages), "epoch 1: IoU 0.6000", "* best", "epoch 2: IoU 0.5500")
    assert [row["step"] for row in rows_in(tmp_path)] == [0, 1, 1, 2, 2]


def test_the_log_says_that_a_job_was_pruned(tmp_path, caplog, messages):
    caplog.set_level("INFO", logger="sam_ft")
    state = TrainState.start(2, evaluation(0.5))
    state.update(1, evaluation(0.4), "iou")
    state.pruned = True
    with report_in(tmp_path) as report:
        caplog.clear()
        report.log_stop(state)
    messages.logged(caplog, "epoch 1", "pruned")


def test_the_scores_of_the_mixes_are_logged_and_the_chosen_one_is_marked(tmp_path, caplog):
    caplog.set_level("INFO", logger="sam_ft")
    state = TrainState.start(2, evaluation(0.5))
    state.update(1, evaluation(0.6), "iou")
    scored = {0.25: evaluation(0.55), 0.75: evaluation(0.7)}
    state.choose_mix(scored, "iou")
    with report_in(tmp_path) as report:
        report.log_mix(state, scored)
    expected = {"mix_iou/0": 0.5, "mix_iou/0.25": 0.55, "mix_iou/0.75": 0.7, "mix_iou/1": 0.6}
    assert rows_in(tmp_path) == [{"step": 0, "epoch": 1, **expected}]
    marked = [line for line in caplog.text.splitlines() if "*" in line]
    assert len(marked) == 1
    assert "0.75" in marked[0]
    assert "0.7000" in marked[0]


def test_mixes_that_do_not_beat_zero_shot_either_are_logged(tmp_path, caplog, messages):
    caplog.set_level("INFO", logger="sam_ft")
    weights = tmp_path / "best.safetensors"
    weights.write_bytes(bytes(1000))
    state = TrainState.start(2, evaluation(0.5))
    state.update(1, evaluation(0.4), "iou")
    scored = {0.5: evaluation(0.45)}
    state.choose_mix(scored, "iou")
    with report_in(tmp_path) as report:
        report.log_mix(state, scored)
        assert rows_in(tmp_path) == [{"step": 0, "epoch": 1, "mix_iou/0": 0.5, "mix_iou/0.5": 0.45}]
        marked = [line for line in caplog.text.splitlines() if "*" in line]
        assert len(marked) == 1
        assert "zero-shot" in marked[0]
        report.finish(state, weights)
    messages.line("\n".join(caplog.messages), "no mix", "epoch 1")


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_resumed_run_drops_the_rows_after_its_state(tmp_path, caplog, messages, epoch):
    caplog.set_level("INFO", logger="sam_ft")
    with report_in(tmp_path) as report:
        for number, _ in enumerate(report.steps(TrainState(total_steps=4), Loader(4), 0.0), 1):
            report.log_step(number, 0.1, result(number))
    caplog.clear()
    with report_in(tmp_path) as report:
        report.log_resume(TrainState(total_steps=9, epoch=epoch, step=2))
    assert [row["step"] for row in rows_in(tmp_path)] == [1, 2]
    messages.check(caplog.messages[-1], f"{epoch}")
