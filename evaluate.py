"""Score a run, or any model with or without a partial checkpoint: zero-shot and tuned side by side.

python evaluate.py run=outputs/NAME
python evaluate.py run=outputs/NAME data=folder data.root=/other/cells
"""

import csv
import json
import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from sam_ft import distributed
from sam_ft.checkpoint import load_partial_weights
from sam_ft.config import build, check_whole_numbers, user_errors
from sam_ft.data.features import encode_ahead
from sam_ft.data.loader import evaluation_loader, survey
from sam_ft.data.sets import EvaluationSet, Split
from sam_ft.data.store import FeatureStore
from sam_ft.errors import ConfigError
from sam_ft.evaluation import Evaluation, evaluate
from sam_ft.files import atomic_path
from sam_ft.models import Sam
from sam_ft.report.objects import draw_worst_and_best
from sam_ft.report.tables import score_table
from sam_ft.runs import load_run, log_to
from sam_ft.task import PromptedSegmentation
from sam_ft.types import Batch

log = logging.getLogger("sam_ft")

CHOICES = ("data", "model", "eval_prompt", "metric", "cache")  # what a run decides unless the command line does

CACHE = {"_target_": "sam_ft.data.store.FeatureStore"}  # also of runs from before there was one


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(cfg: DictConfig) -> float:
    """Evaluates and returns the tuned score, or the zero-shot one where nothing was tuned."""
    with user_errors(cfg.debug), log_to():
        return run(cfg)


def run(cfg: DictConfig) -> float:
    check_settings(cfg)
    parts, checkpoint, output = choose(cfg)
    distributed.from_main(lambda: make_folder(output))

    dataset_split = build(parts.data).split(cfg.split)
    distributed.from_main(lambda: survey(dataset_split, cfg.split))
    model = build(parts.model).to(distributed.device()).eval().requires_grad_(False)
    prompter, metric = build(parts.eval_prompt), build(parts.metric)
    log.info("%s at %d px, precision=%s", model.model_type, model.image_size, parts.precision)

    # Zero-shot first, then the same with what was learned on top.
    task, dataset, batches = prepare(cfg, parts, model, dataset_split)
    results: dict[str, Evaluation] = {
        "zero_shot": evaluate(task, batches, prompter, metric, cfg.eval_chunk, "zero-shot")
    }
    if checkpoint is not None:
        if "image_encoder" in load_partial_weights(model, checkpoint)["parts"]:  # other weights, other embeddings
            task, dataset, batches = prepare(cfg, parts, model, dataset_split)
        results["tuned"] = evaluate(task, batches, prompter, metric, cfg.eval_chunk, "tuned")

    tuned = results.get("tuned")
    log.info("\n%s", score_table(results["zero_shot"].scores, tuned.scores if tuned else None))
    rows = join_rows(results)
    if distributed.is_main():
        write(output, cfg, checkpoint, results, rows)
        if cfg.pictures:
            path = output / "worst_and_best.png"
            draw_worst_and_best(path, task, dataset, prompter, rows, cfg.pictures, cfg.eval_chunk)
        log.info(
            "\nwritten to %s: scores.json, objects.csv%s",
            output,
            ", worst_and_best.png" if cfg.pictures else "",
        )
    return float((tuned or results["zero_shot"]).scores["iou"])


def prepare(
    cfg: DictConfig, parts: DictConfig, model: Sam, split: Split
) -> tuple[PromptedSegmentation, EvaluationSet, Iterable[Batch]]:
    """The task, and the split's images with their embeddings in the store."""
    task = PromptedSegmentation(model, precision=parts.precision, store=build(parts.cache))
    dataset = EvaluationSet(split, model.image_size, task.store)
    views = [(index, 0) for index in range(len(split))]
    encode_ahead(dataset, views, task.encode_frozen, task.images_at_once, cfg.workers, title=cfg.split)
    return task, dataset, evaluation_loader(dataset, cfg.images_per_batch, cfg.workers)


def check_settings(cfg: DictConfig) -> None:
    check_whole_numbers(cfg, 1, ("images_per_batch",), or_null=("eval_chunk",))
    check_whole_numbers(cfg, 0, ("workers", "pictures"))
    if cfg.split not in ("train", "val"):
        raise ConfigError(f"split={cfg.split} is not known; expected train or val")


def make_folder(output: Path) -> None:
    """Finds out before the first image is scored whether the scores can be written at the end."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output).close()
    except OSError as error:
        raise ConfigError(f"output={output}: cannot be written ({error.strerror}); choose another output=") from None


def choose(cfg: DictConfig) -> tuple[DictConfig, Path | None, Path]:
    """What to evaluate: the run's data, model, prompt, metric and precision, or what the command line says instead."""
    output = None if cfg.output is None else Path(cfg.output).expanduser()
    own = OmegaConf.create({key: cfg[key] for key in CHOICES if cfg.get(key)})
    if cfg.run is None:
        missing = [key for key in ("data", "model") if key not in own]
        if missing:
            raise ConfigError(f"give run=outputs/NAME, or both model= and data= (missing: {', '.join(missing)})")
        defaults = {
            "eval_prompt": {"_target_": "sam_ft.prompts.Box"},
            "metric": {"_target_": "sam_ft.metrics.Scores"},
            "cache": CACHE,
            "precision": cfg.precision or "auto",
        }
        parts = OmegaConf.create(defaults)
        parts.merge_with(own)
        checkpoint = None if cfg.checkpoint is None else Path(cfg.checkpoint)
        return parts, checkpoint, output or Path("outputs/evaluation")
    directory, settings = load_run(cfg.run)
    parts = OmegaConf.create({"cache": CACHE} | {key: settings[key] for key in CHOICES if key in settings})
    if "max_gb" in parts.cache:  # a run that came from elsewhere must not delete what is stored here
        parts.cache.max_gb = max(parts.cache.max_gb, FeatureStore().max_gb)
    for key, value in own.items():
        # a whole choice (data=folder) replaces the run's; single values (+data.root=DIR) change it
        parts[key] = value if "_target_" in value else OmegaConf.merge(parts[key], value)
    # a run's own scores and its masks are those of its precision: bfloat16 moves pixels at the edges
    parts.precision = cfg.precision or settings.precision
    checkpoint = Path(cfg.checkpoint or directory / "checkpoints/best.safetensors")
    return parts, checkpoint, output or directory / "evaluation"


def join_rows(results: dict[str, Evaluation]) -> list[dict]:
    """One row per object of all processes: zero-shot beside tuned, in order of image and object."""
    keys = ("name", "object", "label", "area")
    rows: dict[tuple, dict] = {}
    for which, result in results.items():
        for row in distributed.gather(result.rows):
            place = rows.setdefault((row["name"], row["object"]), {key: row[key] for key in keys})
            place |= {f"{which}_{key}": value for key, value in row.items() if key not in keys}
    return [rows[key] for key in sorted(rows)]


def write(
    output: Path, cfg: DictConfig, checkpoint: Path | None, results: dict[str, Evaluation], rows: list[dict]
) -> None:
    scores = {
        "run": cfg.run,
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "split": cfg.split,
        **{which: result.scores for which, result in results.items()},
    }
    with atomic_path(output / "scores.json") as path:
        path.write_text(json.dumps(scores, indent=2) + "\n")
    with atomic_path(output / "objects.csv") as path, open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    with user_errors(), distributed.session():
        main()
