"""Segment new images with a run: its head finds all objects, or its mask decoder those that boxes or points show.

python predict.py run=outputs/NAME images=DIR
python predict.py run=outputs/NAME 'images="DIR/**/*.tif"' 'save=[labels,coco,overlay,table]'
python predict.py run=outputs/NAME images=DIR prompts=boxes.csv
"""

import sam_ft  # noqa: F401, I001  first: it refuses an old Python in one line

import logging
from dataclasses import asdict, replace
from functools import partial

import hydra
from omegaconf import DictConfig

from sam_ft.cli.config import build
from sam_ft.cli.exit import exit_cleanly
from sam_ft.cli.hints import CONF
from sam_ft.cli.logs import log_to
from sam_ft.cli.image_files import ImageFile
from sam_ft.cli.prediction_plan import (
    PredictionPlan,
    lock_output,
    plan_prediction,
    record_settings,
    report_bad_images,
    settings_of,
)
from sam_ft.data.io.windows import ImageWindows
from sam_ft.evaluation.found import FindObjects, find_by_grid, find_by_head, find_by_prompts
from sam_ft.evaluation.segment import SegmentOptions
from sam_ft.models.heads import SemanticHead
from sam_ft.task import PromptedSegmentation
from sam_ft.training.checkpoint import load_partial_weights
from sam_ft.utils import distributed
from sam_ft.utils.disk import writing
from sam_ft.utils.errors import ConfigError, DataError
from sam_ft.utils.progress import progress
from sam_ft.writers.formats import finish_results, write_results
from sam_ft.writers.instances import Instances

log = logging.getLogger("sam_ft")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="predict")
def main(cfg: DictConfig) -> None:
    with exit_cleanly(cfg), distributed.process_group():
        run(cfg)


def run(cfg: DictConfig) -> int:
    """Predicts, and returns the number of images that have results."""
    with log_to():
        try:
            plan = plan_prediction(cfg)
            with lock_output(plan.output):
                return predict(cfg, plan)
        except KeyboardInterrupt as stop:
            stop.args = ("go on with the images that have no results yet",)
            raise


def predict(cfg: DictConfig, plan: PredictionPlan) -> int:
    # The model with the weights of the run, and the thresholds and the tile that it stored beside them.
    model = build(plan.run.cfg.model).to(distributed.device()).eval().requires_grad_(False)
    notes = load_partial_weights(model, plan.checkpoint)
    options = SegmentOptions.from_notes(notes)
    if cfg.tile != "auto":
        options = replace(options, tile=cfg.tile)
    if cfg.refine == "decoder" and isinstance(model.head, SemanticHead):
        raise ConfigError("refine=decoder: the run has head=semantic, whose classes are not refined; leave refine out")
    if cfg.refine != "auto":
        options = replace(options, refine=cfg.refine == "decoder")
    task = PromptedSegmentation(model, precision=plan.precision)
    find: FindObjects
    if plan.prompts is not None:
        find = partial(find_by_prompts, task, options.tile, plan.prompts)
    elif model.head is not None:
        find = partial(find_by_head, task, options)
        plan = replace(plan, classes=model.head.classes)
    else:
        log.warning(
            "%s has no head, so SAM's grid of points is used: it is slow, and a model tuned with boxes finds few "
            "objects or none. Train with head=instances, or give prompts=FILE",
            plan.run.directory,
        )
        find = partial(find_by_grid, task, cfg.points_per_side)

    # Each process takes every n-th of the images without results.
    distributed.broadcast_from_main(
        lambda: record_settings(plan.output, settings_of(cfg, plan, asdict(options)), cfg.overwrite, plan.images)
    )
    todo = distributed.broadcast_from_main(lambda: plan.unfinished(cfg.save))
    log.info(
        "%d images, %d of them have results already; to %s", len(plan.images), len(plan.images) - len(todo), plan.output
    )
    bad: list[tuple[str, str]] = []
    objects = 0
    for image in progress(todo[distributed.rank() :: distributed.world_size()], "predict"):
        try:
            objects += predict_image(image, find, plan, cfg.save)
        except DataError as error:  # reported at the end; the others go on
            bad.append((image.file, str(error)))

    # Files about all images, from the files of each; then the images that could not be read.
    bad = sorted(distributed.all_gather(bad))
    good = [image.name for image in plan.images if image.file not in dict(bad)]
    (total,) = distributed.sum_over_ranks([objects])
    if distributed.is_main():
        with writing(plan.output):
            finish_results(plan.output, cfg.save, good, plan.classes)
    log.info(
        "%d objects in %d images; written to %s: %s", total, len(todo) - len(bad), plan.output, ", ".join(cfg.save)
    )
    distributed.broadcast_from_main(lambda: report_bad_images(bad, len(plan.images)))
    return len(good)


def predict_image(file: ImageFile, find: FindObjects, plan: PredictionPlan, formats: list[str]) -> int:
    """Writes the result files of one image, and returns the number of its objects."""
    with ImageWindows(file.path, **plan.run.reading) as image:
        found = find(image, file.file)
        instances = Instances(
            name=file.name,
            file=file.file,
            path=file.path,
            masks=found.masks,
            scores=found.scores,
            labels=found.labels,
            classes=plan.classes,
            image=image,
            values=image.values,
        )
        with writing(plan.output):  # the image itself raises DataError
            write_results(plan.output, formats, instances)
    return len(instances)


if __name__ == "__main__":
    from sam_ft.recipes.predict import main  # as in train.py

    with exit_cleanly(), distributed.process_group():
        main()
