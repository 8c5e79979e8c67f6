"""Score a run, or any model with or without a partial checkpoint: zero-shot and tuned side by side.

python evaluate.py run=outputs/NAME
python evaluate.py run=outputs/NAME data=folder data.root=/other/cells
python evaluate.py run=outputs/NAME 'eval_prompts=[box,point_1,clicks_5]' amg=true
"""

import csv
import logging
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from sam_ft.cache.precompute import encode_ahead
from sam_ft.cache.store import FeatureStore
from sam_ft.cli.config import build
from sam_ft.cli.exit import exit_cleanly
from sam_ft.cli.logs import log_to
from sam_ft.cli.messages import compose_choice
from sam_ft.cli.runs import load_run
from sam_ft.cli.setting_checks import check_paths, check_whole_numbers
from sam_ft.data.datasets import EvaluationSet, Split
from sam_ft.data.loader import evaluation_loader, survey
from sam_ft.evaluation.automatic import evaluate_amg
from sam_ft.evaluation.evaluate import Evaluation, evaluate
from sam_ft.models import Sam
from sam_ft.report.objects import draw_worst_and_best
from sam_ft.report.tables import group_table, prompt_table, score_table
from sam_ft.task import PromptedSegmentation
from sam_ft.training.checkpoint import load_partial_weights
from sam_ft.types import Batch
from sam_ft.utils import distributed
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.files import as_json, atomic_path

log = logging.getLogger("sam_ft")

CHOICES = ("data", "model", "metric", "cache")  # what a run decides unless the command line does

CACHE = {"_target_": "sam_ft.cache.store.FeatureStore"}  # also of runs from before there was one


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(cfg: DictConfig) -> float:
    """Evaluates and returns the tuned score, or the zero-shot one where nothing was tuned."""
    with exit_cleanly(cfg), log_to():
        return run(cfg)


def run(cfg: DictConfig) -> float:
    check_settings(cfg)
    parts, checkpoint, output = choose(cfg)
    distributed.broadcast_from_main(lambda: make_folder(output))

    split = build(parts.data).split(cfg.split)
    found = distributed.broadcast_from_main(lambda: survey(split, cfg.split))
    if found.bad:
        split = split.without(found.bad)
    model = build(parts.model).to(distributed.device()).eval().requires_grad_(False)
    prompters = {name: build(prompt) for name, prompt in parts.prompts.items()}
    metric = build(parts.metric)
    log.info("%s at %d px, precision=%s", model.model_type, model.image_size, parts.precision)

    # Zero-shot first, then the same with what was learned on top; each with all prompts.
    results: dict[str, dict[str, Evaluation]] = {name: {} for name in prompters}
    generated: dict[str, dict[str, float]] = {}
    for which in ("zero_shot",) if checkpoint is None else ("zero_shot", "tuned"):
        if which == "tuned" and checkpoint is not None:
            load_partial_weights(model, checkpoint)
        task, dataset, batches = prepare(cfg, parts, model, split)  # other weights of the encoder, other embeddings
        for name, prompter in prompters.items():
            title = f"{which}, {name}"
            results[name][which] = evaluate(task, batches, prompter, metric, cfg.eval_chunk, title, split.classes)
        if cfg.amg:
            generated[which] = evaluate_amg(task, batches, cfg.amg_points_per_side, cfg.eval_chunk, f"{which}, amg")

    for name, result in results.items():
        before, after = result["zero_shot"], result.get("tuned")
        log.info("\n%s\n%s", name, score_table(before.scores, after and after.scores))
        log.info("%s", group_table(before.groups, after and after.groups))
    if len(results) > 1:
        log.info("\n%s", prompt_table({n: {w: e.scores for w, e in result.items()} for n, result in results.items()}))
    if cfg.amg:
        log.info("\nautomatic masks\n%s", score_table(generated["zero_shot"], generated.get("tuned")))
    rows = join_rows(results)
    if distributed.is_main():
        write(output, cfg, parts, checkpoint, results, generated, rows)
        (output / "worst_and_best.png").unlink(missing_ok=True)  # of an earlier evaluation
        if cfg.pictures:
            name = next(iter(results))
            own = [row for row in rows if row["prompt"] == name]
            path = output / "worst_and_best.png"
            draw_worst_and_best(path, task, dataset, prompters[name], own, cfg.pictures, cfg.eval_chunk)
        log.info(
            "\nwritten to %s: scores.json, objects.csv%s",
            output,
            ", worst_and_best.png" if cfg.pictures else "",
        )
    first = next(iter(results.values()))
    return float(first.get("tuned", first["zero_shot"]).scores["iou"])


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
    check_whole_numbers(cfg, 1, ("images_per_batch", "amg_points_per_side"), or_null=("eval_chunk",))
    check_whole_numbers(cfg, 0, ("workers", "pictures"))
    check_paths(cfg, (), or_null=("run", "checkpoint", "output"))
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
            "metric": {"_target_": "sam_ft.metrics.SegmentationMetrics"},
            "cache": CACHE,
            "precision": cfg.precision or "auto",
        }
        parts = OmegaConf.create(defaults)
        parts.merge_with(own)
        parts.prompts = choose_prompts(cfg, {"_target_": "sam_ft.prompts.Box"})
        checkpoint = None if cfg.checkpoint is None else Path(cfg.checkpoint)
        return parts, checkpoint, output or Path("outputs/evaluation")
    directory, settings = load_run(cfg.run)
    parts = OmegaConf.create({"cache": CACHE} | {key: settings[key] for key in CHOICES if key in settings})
    if "max_gb" in parts.cache:  # a run that came from elsewhere must not delete what is stored here
        parts.cache.max_gb = max(parts.cache.max_gb, FeatureStore().max_gb)
    for key, value in own.items():
        # a whole choice (data=folder) replaces the run's; single values (+data.root=DIR) change it
        parts[key] = value if "_target_" in value else OmegaConf.merge(parts[key], value)
    parts.prompts = choose_prompts(cfg, settings.eval_prompt)
    # a run's own scores and its masks are those of its precision: bfloat16 moves pixels at the edges
    parts.precision = cfg.precision or settings.precision
    checkpoint = Path(cfg.checkpoint or directory / "checkpoints/best.safetensors")
    return parts, checkpoint, output or directory / "-".join(("evaluation", *differences(cfg, own)))


def differences(cfg: DictConfig, own: DictConfig) -> list[str]:
    """What to add to the name of a run's evaluation folder, so that no other scores replace those of its own data."""
    data = own.get("data") or {}
    place = data.get("root") or data.get("table")
    names = [Path(str(place)).expanduser().absolute().stem] if place else ["data"] if data else []
    return [*names, "train"] if cfg.split == "train" else names


def choose_prompts(cfg: DictConfig, usual: Any) -> dict[str, Any]:
    """The prompts to evaluate, by name: those listed, or the one that was given, or the usual one."""
    if cfg.eval_prompts is None:
        own = cfg.get("eval_prompt") or {}
        prompt = own if "_target_" in own else OmegaConf.merge(usual, own)
        return {prompt["_target_"].rpartition(".")[2].lower(): prompt}
    if not OmegaConf.is_list(cfg.eval_prompts) or not cfg.eval_prompts:
        raise ConfigError(f"eval_prompts={cfg.eval_prompts}; expected a list of choices of prompt, as [box,point_1]")
    return {
        str(name): compose_choice("evaluate", "prompt@eval_prompt", str(name)).eval_prompt for name in cfg.eval_prompts
    }


def join_rows(results: dict[str, dict[str, Evaluation]]) -> list[dict]:
    """One row per prompt and object of all processes: zero-shot beside tuned, in order of image and object."""
    keys = ("name", "object", "label", "area")
    rows: dict[tuple, dict] = {}
    for place, (prompt, result) in enumerate(results.items()):
        for which, evaluation in result.items():
            for row in distributed.all_gather(evaluation.rows):
                own = rows.setdefault(
                    (place, row["name"], row["object"]), {"prompt": prompt} | {k: row[k] for k in keys}
                )
                own |= {f"{which}_{key}": value for key, value in row.items() if key not in keys}
    return [rows[key] for key in sorted(rows)]


def write(
    output: Path,
    cfg: DictConfig,
    parts: DictConfig,
    checkpoint: Path | None,
    results: dict[str, dict[str, Evaluation]],
    generated: dict[str, dict[str, float]],
    rows: list[dict],
) -> None:
    """scores.json, with the first prompt's scores on top as if there were no others, and objects.csv."""
    prompts = {
        name: {which: {**evaluation.scores, "groups": evaluation.groups} for which, evaluation in result.items()}
        for name, result in results.items()
    }
    scores = {
        "run": cfg.run,
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "split": cfg.split,
        "data": OmegaConf.to_container(parts.data),
        "prompt": next(iter(prompts)),
        **next(iter(prompts.values())),
        **({"prompts": prompts} if len(prompts) > 1 else {}),
        **({"amg": generated} if generated else {}),
    }
    with atomic_path(output / "scores.json") as path:
        path.write_text(as_json(scores, indent=2) + "\n")
    columns = list(dict.fromkeys(key for row in rows for key in row))  # clicks have some that others lack
    with atomic_path(output / "objects.csv") as path, open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=columns)
        writer.writeheader()
        writer.writerows(rows)


def added(argument: str) -> str:
    """`data.root=DIR` as Hydra wants it said of a group that the command line leaves to the run: `++data.root=DIR`."""
    return (
        f"++{argument}"
        if argument.startswith(tuple(f"{choice}." for choice in (*CHOICES, "eval_prompt")))
        else argument
    )


if __name__ == "__main__":
    sys.argv[1:] = [added(argument) for argument in sys.argv[1:]]
    with exit_cleanly(example="run=VALUE"), distributed.process_group():
        main()
