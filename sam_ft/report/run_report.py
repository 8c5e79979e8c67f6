"""The report of a training run: metrics.jsonl and the trackers, log lines and tables, progress bar and pictures."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from sam_ft.data.datasets import EvaluationSet
from sam_ft.data.loader import TrainingLoader
from sam_ft.evaluation.evaluate import Evaluation
from sam_ft.models.build import SPECS
from sam_ft.models.consumers import describe_readers
from sam_ft.models.heads import SemanticHead
from sam_ft.prompts import Prompter
from sam_ft.report.object_scores import ObjectRows
from sam_ft.report.samples import SamplePictures
from sam_ft.report.summary import training_summary
from sam_ft.report.tables import mix_table, parameter_table
from sam_ft.task import PromptedSegmentation
from sam_ft.training.loggers import Tracker
from sam_ft.training.run_log import RunLog
from sam_ft.training.state import TrainState
from sam_ft.training.step import StepResult, read_back
from sam_ft.types import Batch
from sam_ft.utils import distributed
from sam_ft.utils.memory import peak_gb, reset_peak

log = logging.getLogger("sam_ft")


class RunReport:
    """Reports the events of a run in the log, metrics.jsonl, the trackers and samples/*.png.

    Settings: `log_every`, steps whose numbers leave the device together; fewer make a GPU wait more often.
    """

    def __init__(
        self,
        directory: Path,
        cfg: DictConfig,
        trackers: Mapping[str, Tracker],
        task: PromptedSegmentation,
        val_set: EvaluationSet,
        prompter: Prompter,
    ) -> None:
        self._cfg = cfg
        head = task.model.head
        self._class_names = head.channel_names if isinstance(head, SemanticHead) else []
        named = cfg.report.names
        self._pictures = SamplePictures(directory, val_set, task, cfg.pictures, prompter, cfg.eval_chunk, named)
        self._rows = ObjectRows(directory / "objects.csv")
        # Steps whose numbers are still on the device.
        self._pending: list[tuple[int, float, StepResult]] = []
        # Of the present epoch: its number, sums over its steps, and its numbers once it is trained.
        self._epoch, self._since = 0, 0.0
        self._sums: dict[str, float] = {}
        self._trained: dict[str, float] = {}
        reset_peak()
        model = task.model
        log.info("%s at %d px on %s\n%s", model.model_type, model.image_size, model.device, parameter_table(model))
        if model.model_type in SPECS:
            log.info("%s", describe_readers(model.model_type, model.image_size))
        # Last, since it starts the trackers, which may contact a server.
        self._run_log = RunLog(directory, trackers, OmegaConf.to_container(cfg, resolve=True))  # type: ignore[arg-type]

    def __enter__(self) -> "RunReport":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and distributed.world_size() == 1:  # several processes would wait for each other
            with suppress(Exception):
                self.flush()
        self._run_log.finish(failed=kind is not None)

    def draw_zero_shot(self) -> None:
        self._pictures.draw_zero_shot()

    def log_resume(self, state: TrainState) -> None:
        """Logs where an earlier run goes on, and drops the numbers that it wrote after that."""
        if state.epoch >= self._cfg.epochs:
            log.info("this run has already done %d epochs; more of them: epochs=N", state.epoch)
        elif state.epoch_steps:
            place = (state.epoch_steps, state.epoch + 1, self._cfg.epochs)
            log.info("continuing after step %d of epoch %d of %d", *place)
        else:
            log.info("continuing after epoch %d of %d", state.epoch, self._cfg.epochs)
        self._run_log.rewind(state.step, state.epoch)

    def log_zero_shot(self, state: TrainState, found: Evaluation, prompt: str) -> None:
        """Logs the scores of the model before its first step. prompt: the choice of eval_prompt"""
        self._rows.write_zero_shot(prompt, found)
        log.info("zero-shot, scored with prompt@eval_prompt=%s: %s", prompt, _short(state.zero_shot))
        self._run_log.rewind(-1)  # removes all lines, of a start that ended before its first epoch
        self._run_log.log(0, {"epoch": 0, **_validation(state.zero_shot, state.zero_shot_classes)})

    def log_stop(self, state: TrainState) -> None:
        monitor = self._cfg.monitor
        if self._cfg.prune_after and state.pruned:
            log.info("best %s below the median of the other jobs at epoch %d: pruned", monitor, state.epoch)
        else:
            log.info("no better %s for %d epochs: stopping early", monitor, self._cfg.patience)

    def steps(self, state: TrainState, loader: TrainingLoader, encode_seconds: float) -> Iterator[list[Batch]]:
        """The micro-batches of each step of the epoch after `state.epoch` that is not done yet, behind a progress bar.

        state: keeps the sums of the losses and objects of the steps, and their seconds, for a run that goes on within
            the epoch
        encode_seconds: that the embeddings of this epoch took
        """
        if not state.epoch_steps or not state.epoch_sums:
            state.epoch_sums = {"loss": 0.0, "objects": 0.0, "seconds": 0.0}
        self._epoch, self._sums, self._since = state.epoch + 1, state.epoch_sums, time.perf_counter()
        hidden, done = None if distributed.is_main() else True, state.epoch_steps
        title = f"epoch {self._epoch}"
        with tqdm(total=loader.steps, initial=done, desc=title, leave=False, disable=hidden) as bar:
            for micro_batches in loader.epoch(self._epoch, done):
                # The loop of train.py takes the step here.
                yield micro_batches
                bar.set_postfix(loss=f"{self._mean_loss():.3f}", refresh=False)
                bar.update()
            # Before the bar closes: the steps since the last read-back.
            self.flush()
        self._trained = {
            "loss": self._mean_loss(),
            "objects_per_second": self._sums["objects"] / max(1e-9, self._sums["seconds"]),
            "seconds": self._sums["seconds"],
            "peak_gb": max(distributed.all_gather([peak_gb()])),
            "encode_seconds": encode_seconds,
        }

    def log_step(self, step: int, rate: float, result: StepResult | None) -> None:
        """Notes one step, which reads the device back only every `log_every` steps. Raises: TrainingError"""
        if result is not None:
            self._pending.append((step, rate, result))
        if len(self._pending) >= self._cfg.log_every:
            self.flush()

    def flush(self) -> None:
        """Reads back the steps that wait for it. Raises: TrainingError"""
        pending, self._pending = self._pending, []
        for (step, rate, _), values in zip(pending, read_back([result for *_, result in pending]), strict=False):
            self._sums["loss"] += values["loss"] * values["objects"]
            self._sums["objects"] += values["objects"]
            self._run_log.log(step, {"epoch": self._epoch, "lr": rate, **_prefixed("train", values)})
        now = time.perf_counter()
        self._sums["seconds"] += now - self._since
        self._since = now

    def _mean_loss(self) -> float:
        return self._sums["loss"] / max(1.0, self._sums["objects"])

    def log_epoch(self, state: TrainState, found: Evaluation, improved: bool) -> None:
        """Logs an epoch that has been validated, and draws pictures if it is the best so far."""
        if improved:
            self._rows.write_tuned(found)
            # None but on the main process.
            for picture in self._pictures.draw(state.epoch):
                self._run_log.picture(state.step, "predictions", picture)
        mark = "  * best" if improved else ""
        log.info("epoch %d: %s, loss %.4f%s", state.epoch, _short(found.scores), self._trained["loss"], mark)
        scores = _validation(found.scores, found.groups["class"])
        self._run_log.log(state.step, {"epoch": state.epoch, **scores, **_prefixed("epoch", self._trained)})

    def log_mix(self, state: TrainState, scored: Mapping[float, Evaluation]) -> None:
        """Logs the scores between zero-shot and an epoch, of which `state` holds the chosen one."""
        monitor = self._cfg.monitor
        rows = {0.0: state.zero_shot, **{share: found.scores for share, found in scored.items()}}
        if state.best_epoch:
            rows[1.0] = state.unmixed
        log.info("mix of epoch %d with zero-shot\n%s", state.mix_epoch, mix_table(rows, monitor, state.mix or 0.0))
        if state.mix is not None and state.mix in scored:
            self._rows.write_tuned(scored[state.mix])
        scores = {f"{share:g}": found[monitor] for share, found in rows.items()}
        self._run_log.log(state.step, {"epoch": state.epoch, **_prefixed(f"mix_{monitor}", scores)})

    def log_head(self, state: TrainState) -> None:
        """Logs the scores of a head on whole images beside those of the baseline."""
        scores = {**_prefixed("head", state.head_scores), **_prefixed("baseline", state.baseline)}
        self._run_log.log(state.step, {"epoch": state.epoch, **scores})

    def finish(self, state: TrainState, weights: Path) -> None:
        """Logs the final table and where the weights are."""
        log.info("%s", training_summary(vars(state), self._cfg.monitor, weights, self._class_names))
        if state.mix_epoch and state.mix is None:
            log.info("mix: no mix of epoch %d with zero-shot is better than zero-shot either", state.mix_epoch)
        memory = "of the GPU" if torch.cuda.is_available() else "resident in a process"
        log.info("memory: at most %.1f GB %s", max(distributed.all_gather([peak_gb()])), memory)


def _short(scores: dict[str, float]) -> str:
    head = "".join(
        f", {title} {scores[name]:.4f}" for name, title in (("msa", "mSA"), ("miou", "mIoU")) if name in scores
    )
    return f"IoU {scores['iou']:.4f}, Dice {scores['dice']:.4f}{head}"


def _validation(scores: dict[str, float], classes: dict[str, dict]) -> dict[str, float]:
    ious = {name: group["iou"] for name, group in classes.items() if group["objects"]}
    return {**_prefixed("val", scores), **_prefixed("val_class", ious)}


def _prefixed(prefix: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in values.items()}
