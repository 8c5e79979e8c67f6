"""The report of a run that has just ended."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from sam_ft.data.datasets import EvaluationSet
from sam_ft.prompts import Prompter
from sam_ft.report.examples import choose_examples, draw_examples
from sam_ft.report.object_scores import read_object_scores
from sam_ft.report.page.html import write_report
from sam_ft.task import PromptedSegmentation
from sam_ft.training.checkpoint import best_weights
from sam_ft.utils import distributed

log = logging.getLogger("sam_ft")


def report_finished_run(
    directory: Path,
    cfg: DictConfig,
    task: PromptedSegmentation,
    dataset: EvaluationSet,
    prompter: Prompter,
    weights: Path,
) -> None:
    """Writes report.html, with pictures of some objects as the best weights predict them. All processes call this.

    Whatever fails here is one warning: the run has ended well, and its other files are complete.
    """
    try:
        with best_weights(task.model, weights):
            if distributed.is_main():
                objects = read_object_scores(directory / "objects.csv")
                if cfg.pictures and len(objects):
                    parts = choose_examples(objects)
                    draw_examples(directory / "samples/objects", task, dataset, prompter, parts, cfg.eval_chunk)
                log.info("report: %s", write_report(directory))
    except Exception as error:  # of matplotlib, Pillow or Jinja2, of a full disk, or of an image that was moved
        again = f"python -m sam_ft.report run={directory}"
        log.warning("report.html was not written (%s: %s); try again by %s", type(error).__name__, error, again)
