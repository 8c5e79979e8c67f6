"""The report of a training run: metrics.jsonl and the tracker, log lines and tables, progress bar and pictures."""

import logging
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from sam_ft.evaluation.evaluate import Evaluation
from sam_ft.models import Sam
from sam_ft.report.samples import SamplePictures
from sam_ft.report.summary import final_summary
from sam_ft.report.tables import parameter_table
from sam_ft.task import PromptedSegmentation
from sam_ft.training.loggers import RunLog, Tracker
from sam_ft.training.state import TrainState
from sam_ft.training.step import StepResult, read_back
from sam_ft.types import Batch
from sam_ft.utils import distributed
from sam_ft.utils.memory import peak_gb, reset_peak

log = logging.getLogger("sam_ft")


def report_model(model: Sam) -> None:
    """Logs the model and the number of its parameters that learn."""
    device = model.device
    log.info("%s at %d px on %s\n%s", model.model_type, model.image_size, device, parameter_table(model))


class RunReport:
    """Takes what happens in a run and tells it: to the log, to metrics.jsonl, to the tracker and in samples/*.png.

    log_every: steps whose numbers leave the device together; fewer make a GPU wait more often
    """

    def __init__(self, directory: Path, cfg: DictConfig, tracker: Tracker | None, pictures: SamplePictures) -> None:
        self._run_log = RunLog(directory, tracker, OmegaConf.to_container(cfg, resolve=True))
        self._weights = directory / "checkpoints/best.safetensors"
        self._monitor = cfg.monitor
        self._log_every = cfg.log_every
        self._pictures = pictures
        self._pending: list[tuple[int, float, StepResult]] = []
        self._epoch = 0
        self._sums: dict[str, float] = {}
        self._bar: tqdm | None = None
        reset_peak()

    def __enter__(self) -> "RunReport":
        self._run_log.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._run_log.__exit__(*error)

    def resume(self, state: TrainState, epochs: int) -> None:
        """Logs where an earlier run goes on, and drops the numbers that it wrote after that."""
        if state.epoch < epochs:
            log.info("continuing after epoch %d of %d", state.epoch, epochs)
        else:
            log.info("this run has already done %d epochs; more of them: epochs=N", state.epoch)
        self._run_log.rewind(state.step)

    def zero_shot(self, state: TrainState, prompt: str) -> None:
        """Logs the scores of the model before its first step. prompt: the choice of eval_prompt"""
        log.info("zero-shot, scored with prompt@eval_prompt=%s: %s", prompt, _short(state.zero_shot))
        self._run_log.rewind(-1)
        self._run_log.log(0, {"epoch": 0, **_validation(state.zero_shot, state.zero_shot_classes)})

    def batches(self, epoch: int, batches: Iterable[list[Batch]], steps: int) -> Iterator[list[Batch]]:
        """The batches of an epoch behind a progress bar."""
        self._epoch, self._started = epoch, time.perf_counter()
        self._sums = {"loss": 0.0, "objects": 0.0}
        hidden = None if distributed.is_main() else True
        with tqdm(total=steps, desc=f"epoch {epoch}", leave=False, disable=hidden) as self._bar:
            for batch in batches:
                yield batch
                self._bar.update()
            self._flush()

    def step(self, step: int, rate: float, result: StepResult | None) -> None:
        """Notes one step, which reads the device back only every `log_every` steps. Raises: TrainingError"""
        if result is not None:
            self._pending.append((step, rate, result))
        if len(self._pending) >= self._log_every:
            self._flush()

    def _flush(self) -> None:
        found = read_back([result for *_, result in self._pending])
        for (step, rate, _), values in zip(self._pending, found, strict=True):
            self._sums["loss"] += values["loss"] * values["objects"]
            self._sums["objects"] += values["objects"]
            self._run_log.log(step, {"epoch": self._epoch, "lr": rate, **_prefixed("train", values)})
        if found and self._bar is not None:
            self._bar.set_postfix(loss=f"{found[-1]['loss']:.3f}")
        self._pending = []

    def epoch(
        self, state: TrainState, found: Evaluation, improved: bool, task: PromptedSegmentation, encode_seconds: float
    ) -> None:
        """Logs an epoch that has been validated, and draws pictures if it is the best so far."""
        seconds, objects = self._seconds, self._sums["objects"]
        trained = {
            "loss": self._sums["loss"] / max(1.0, objects),
            "objects_per_second": objects / seconds,
            "seconds": seconds,
            "peak_gb": max(distributed.all_gather([peak_gb()])),
            "encode_seconds": encode_seconds,
        }
        if improved:
            for picture in self._pictures.draw(task, state.epoch):
                self._run_log.picture(state.step, "predictions", picture)
        mark = "  * best" if improved else ""
        log.info("epoch %d: %s, loss %.4f%s", state.epoch, _short(found.scores), trained["loss"], mark)
        scores = _validation(found.scores, found.groups["class"])
        self._run_log.log(state.step, {"epoch": state.epoch, **scores, **_prefixed("epoch", trained)})

    def finish(self, state: TrainState) -> None:
        """Logs the final table and where the weights are."""
        log.info("%s", final_summary(state, self._monitor, self._weights))
        memory = "of the GPU" if torch.cuda.is_available() else "resident in a process"
        log.info("memory: at most %.1f GB %s", max(distributed.all_gather([peak_gb()])), memory)


def _short(scores: dict[str, float]) -> str:
    return f"IoU {scores['iou']:.4f}, Dice {scores['dice']:.4f}"


def _validation(scores: dict[str, float], classes: dict[str, dict]) -> dict[str, float]:
    ious = {name: group["iou"] for name, group in classes.items() if group["objects"]}
    return {**_prefixed("val", scores), **_prefixed("val_class", ious)}


def _prefixed(prefix: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in values.items()}
