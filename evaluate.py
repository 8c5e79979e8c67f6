"""Score a run, or any model with or without a partial checkpoint: zero-shot and tuned side by side.

python evaluate.py run=outputs/NAME
python evaluate.py run=outputs/NAME +data.root=/other/cells     # + changes a setting of the run
python evaluate.py run=outputs/NAME 'eval_prompts=[box,point_1,clicks_5]' amg=true
python evaluate.py run=outputs/NAME auto=true                   # also the masks without prompts of a head
"""

import sam_ft  # noqa: F401, I001  first: it refuses an old Python in one line

import logging

import hydra
from omegaconf import DictConfig, OmegaConf

from sam_ft.cli.config import build
from sam_ft.cli.evaluation_plan import EvaluationPlan, make_output_folder, plan_evaluation
from sam_ft.cli.exit import exit_cleanly
from sam_ft.cli.hints import CONF
from sam_ft.cli.logs import log_to
from sam_ft.data.datasets import EvaluationSet
from sam_ft.data.loader import evaluation_loader
from sam_ft.data.splits import open_split, tile_split
from sam_ft.evaluation.automatic import evaluate_amg
from sam_ft.evaluation.evaluate import Evaluation, evaluate_prompts
from sam_ft.evaluation.segment import SegmentOptions
from sam_ft.evaluation.without_prompts import evaluate_classes, evaluate_head, evaluate_majority, evaluate_otsu
from sam_ft.models.heads import SemanticHead
from sam_ft.report.evaluation_files import join_rows, write_rows, write_scores
from sam_ft.report.objects import draw_worst_and_best
from sam_ft.report.tables import evaluation_tables
from sam_ft.task import PromptedSegmentation
from sam_ft.training.checkpoint import check_has_head, holds_all_weights, load_partial_weights
from sam_ft.training.tensor_file import read_tensors
from sam_ft.utils import distributed
from sam_ft.utils.precision import compute_dtype

log = logging.getLogger("sam_ft")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="evaluate")
def main(cfg: DictConfig) -> float:
    with exit_cleanly(cfg), distributed.process_group():
        return run(cfg)


def run(cfg: DictConfig) -> float:
    """Evaluates and returns the tuned IoU, or the zero-shot one where nothing was tuned."""
    with log_to():
        return score(cfg, plan_evaluation(cfg))


def score(cfg: DictConfig, plan: EvaluationPlan) -> float:
    # An output folder that cannot be written is refused before any model is loaded.
    distributed.broadcast_from_main(lambda: make_output_folder(plan.output))
    if cfg.auto:
        distributed.broadcast_from_main(lambda: check_has_head(plan.checkpoint))
    data = build(plan.data)
    split = open_split(data, cfg.split)
    model = build(plan.model).to(distributed.device()).eval().requires_grad_(False)
    prompters, metric = {name: build(prompt) for name, prompt in plan.prompts.items()}, build(plan.metric)
    log.info("%s at %d px, precision=%s", model.model_type, model.image_size, plan.precision)

    # Of data.tile=auto, the tiles of the training.
    tile = getattr(data, "tile", None)
    if tile == "auto" and plan.checkpoint is not None:
        path = plan.checkpoint
        tile = distributed.broadcast_from_main(lambda: read_tensors(path)[1].get("tile", "auto"))
    samples = tile_split(split, tile, model.image_size, model.normalize == "minmax")

    # Zero-shot first, then the same with the learned weights on top; each with all prompts.
    results: dict[str, dict[str, Evaluation]] = {name: {} for name in prompters}
    amg: dict[str, dict[str, float]] = {}
    for which in choose_weights(plan):
        if which == "tuned" and plan.checkpoint is not None:
            notes = load_partial_weights(model, plan.checkpoint)
        cache = build(plan.cache)
        # other weights have other embeddings
        cache.open(model, compute_dtype(plan.precision, model.device), may_delete=False)
        task = PromptedSegmentation(model, precision=plan.precision, features_dtype=cache.features_dtype)
        dataset = EvaluationSet(samples, model.image_size, cache.read if cache.enabled else None)
        cache.fill(dataset, dataset.all_views, task.prefix, task.chunks.images, cfg.workers, title=cfg.split)
        batches = evaluation_loader(dataset, cfg.eval_batch_size, cfg.workers)
        # All prompts share the features: with a cache they are read, without one encoded again for each prompt.
        for name, prompter in prompters.items():
            title = f"{which}, {name}"
            results[name][which] = evaluate_prompts(
                task, batches, prompter, metric, cfg.eval_chunk, title, split.classes
            )
        if cfg.amg:
            amg[which] = evaluate_amg(task, batches, cfg.amg_points_per_side, cfg.eval_chunk, f"{which}, amg")

    auto: dict[str, dict[str, float]] = {}
    class_names: list[str] = []  # of a semantic head
    if cfg.auto:  # with the tuned weights, as predict.py
        options = SegmentOptions.from_notes(notes)
        if isinstance(model.head, SemanticHead):
            class_names = model.head.channel_names
            # A run that was stopped has counted no classes of pixels.
            auto["baseline"] = evaluate_majority(model.head, split, notes.get("majority", 0))
            auto["head"] = evaluate_classes(task, split, options.tile)
        else:
            auto["baseline"], auto["head"] = evaluate_otsu(split), evaluate_head(task, split, options)

    log.info("%s", evaluation_tables(results, amg, auto, class_names))
    rows = join_rows(results)  # gathers from all processes, so it stands outside of the condition below
    if distributed.is_main():
        facts = {"run": cfg.run, "checkpoint": plan.checkpoint and str(plan.checkpoint), "split": cfg.split}
        facts["data"] = OmegaConf.to_container(plan.data)
        write_scores(plan.output / "scores.json", facts, results, amg, auto)
        write_rows(plan.output / "objects.csv", rows)
        picture = plan.output / "worst_and_best.png"
        picture.unlink(missing_ok=True)  # of an earlier evaluation
        if cfg.pictures:
            name = next(iter(results))
            # Of the first prompt alone, with the last model that was scored: the tuned one if there is one.
            own = [row for row in rows if row["prompt"] == name]
            draw_worst_and_best(picture, task, dataset, prompters[name], own, cfg.pictures, cfg.eval_chunk)
        written = ["scores.json", "objects.csv", *([picture.name] if cfg.pictures else [])]
        log.info("\nwritten to %s: %s", plan.output, ", ".join(written))
    # For scripts: the IoU of the first prompt.
    first = next(iter(results.values()))
    return float([*first.values()][-1].scores["iou"])


def choose_weights(plan: EvaluationPlan) -> tuple[str, ...]:
    """Which weights are scored: "zero_shot", "tuned" or both, in this order."""
    path = plan.checkpoint
    if path is None:
        return ("zero_shot",)
    if distributed.broadcast_from_main(lambda: holds_all_weights(path)):
        log.info("zero-shot is not scored: %s holds all weights, and those from before training are not there", path)
        return ("tuned",)
    return ("zero_shot", "tuned")


if __name__ == "__main__":
    from sam_ft.recipes.evaluate import main  # as in train.py

    with exit_cleanly(), distributed.process_group():
        main()
