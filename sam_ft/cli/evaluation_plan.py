"""The settings of an evaluation: those of a run, or those of the command line instead."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from sam_ft.cli.runs import load_run
from sam_ft.cli.setting_checks import check_settings
from sam_ft.utils.disk import write_error
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.files import refuse_links_within
from sam_ft.utils.leftovers import remove_leftovers

GROUPS = ("data", "model", "metric", "cache")  # taken from the run unless the command line chooses them
TRIAL_BYTES = 4096  # that fit at least
WITHOUT_RUN = {  # the defaults of train.py
    "metric": {"_target_": "sam_ft.metrics.SegmentationMetrics"},
    "cache": {"_target_": "sam_ft.cache.EmbeddingCache"},
    "eval_prompt": {"_target_": "sam_ft.prompts.Box"},
    "precision": "auto",
}


@dataclass
class EvaluationPlan:
    """data, model, metric and cache as nodes to build, prompts by name, and where weights and scores are."""

    data: DictConfig
    model: DictConfig
    metric: DictConfig
    cache: DictConfig
    prompts: dict[str, Any]
    precision: str
    checkpoint: Path | None
    output: Path


def plan_evaluation(cfg: DictConfig) -> EvaluationPlan:
    """Merges the settings of a run with the command line.

    Raises:
        ConfigError: a setting has a wrong value, or neither a run nor both model and data are given.
    """
    check_settings(cfg, int, ("amg_points_per_side",), least=1)
    check_settings(cfg, int | None, ("eval_chunk", "eval_batch_size"), least=1)
    check_settings(cfg, int, ("workers", "pictures"), least=0)
    check_settings(cfg, bool, ("amg", "auto", "debug"))
    check_settings(cfg, str | None, ("run", "checkpoint", "output"))
    check_settings(cfg, Sequence[str], ("trust",))
    if cfg.split not in ("train", "val"):
        raise ConfigError(f"split={cfg.split} is not known; expected train or val")
    given = OmegaConf.create({key: cfg[key] for key in GROUPS if cfg.get(key)})
    missing = [key for key in ("data", "model") if "_target_" not in given.get(key, {})]
    if cfg.run is None and missing:
        raise ConfigError(f"give run=outputs/NAME, or both model= and data= (missing: {', '.join(missing)})")
    if cfg.run is None:
        base, output, checkpoint = OmegaConf.create(WITHOUT_RUN), Path("outputs/evaluation"), None
    else:
        directory, base = _load_parts(cfg, given)
        output = directory / "-".join(("evaluation", *_differences(cfg, given)))
        refuse_links_within(directory, Path(cfg.output).expanduser() if cfg.output else output)
        checkpoint = directory / "checkpoints/best.safetensors"
    nodes = OmegaConf.create({key: base.get(key, {}) for key in GROUPS})
    for key, value in given.items():
        # a whole choice (data=folder) replaces the run's; single values (+data.root=DIR) change it
        nodes[key] = value if "_target_" in value else OmegaConf.merge(nodes[key], value)
    return EvaluationPlan(
        **{key: nodes[key] for key in GROUPS},
        prompts=_choose_prompts(cfg, base.get("eval_prompt")),
        # the scores and masks of a run are those of its precision: bfloat16 moves pixels at the edges
        precision=cfg.precision or base.precision,
        checkpoint=checkpoint if cfg.checkpoint is None else Path(cfg.checkpoint),
        output=output if cfg.output is None else Path(cfg.output).expanduser(),
    )


def _load_parts(cfg: DictConfig, given: DictConfig) -> tuple[Path, DictConfig]:
    """The directory of the run and those parts of its settings that the command line does not replace."""
    parts = [key for key in GROUPS if "_target_" not in given.get(key, {})]
    if cfg.eval_prompts is None and "_target_" not in (cfg.get("eval_prompt") or {}):
        parts.append("eval_prompt")
    run = load_run(cfg.run, parts, cfg.trust)
    run.cfg.precision = run.precision
    return run.directory, run.cfg


def _differences(cfg: DictConfig, given: DictConfig) -> list[str]:
    """Additions to the name of a run's evaluation folder, so that other scores do not replace those of its own data."""
    data = given.get("data") or {}
    place = data.get("root") or data.get("table")
    names = [Path(str(place)).expanduser().absolute().stem] if place else ["data"] if data else []
    return [*names, "train"] if cfg.split == "train" else names


def _choose_prompts(cfg: DictConfig, default: Any) -> dict[str, Any]:
    """The prompts to evaluate, by name: those of `eval_prompts`, or that of `eval_prompt`, or the default."""
    if cfg.eval_prompts is None:
        given = cfg.get("eval_prompt") or {}
        prompt: Any = given if "_target_" in given else OmegaConf.merge(default, given)
        return {prompt["_target_"].rpartition(".")[2].lower(): prompt}
    if not OmegaConf.is_list(cfg.eval_prompts) or not cfg.eval_prompts:
        raise ConfigError(f"eval_prompts={cfg.eval_prompts}; expected a list of choices of prompt, as [box,point_1]")
    names = [str(name) for name in cfg.eval_prompts]
    return {name: hydra.compose("evaluate", [f"prompt@eval_prompt={name}"]).eval_prompt for name in names}


def make_output_folder(output: Path) -> None:
    """Finds out before the first image whether results can be written at the end. Raises: ConfigError

    It removes the files that a killed command has left half-written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        # mkdir passes for an existing folder that cannot be written to, an empty file on a disk that is full.
        with tempfile.TemporaryFile(dir=output) as file:
            file.write(bytes(TRIAL_BYTES))
    except OSError as error:
        reason = write_error(output, error, TRIAL_BYTES).strerror
        raise ConfigError(f"output={output}: cannot be written ({reason}); choose another output=") from None
    remove_leftovers(output)
