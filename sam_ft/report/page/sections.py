"""The sections of a run's report."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from sam_ft.report.names import hide_paths
from sam_ft.report.page.picture_sections import curves_section, examples_section, objects_section, samples_section
from sam_ft.report.page.run_files import RunFiles
from sam_ft.report.page.score_sections import evaluation_sections, scores_section
from sam_ft.report.page.section import Section

NOTHING = ("no_head()", "Augment()")  # choices that are none


def run_sections(files: RunFiles, hidden: bool) -> list[Section]:
    """All sections that have content."""
    settings = hide_paths(files.settings) if hidden else files.settings
    sections = [
        _trained_on(files, settings),
        scores_section(files),
        *evaluation_sections(files, hidden),
        curves_section(files),
        objects_section(files, hidden),
        examples_section(files, hidden),
        samples_section(files, hidden),
        _remarks(files, hidden),
        Section("Settings", text=OmegaConf.to_yaml(OmegaConf.create(settings)), folded=True),
        Section("Environment", facts=files.facts.get("environment", {})),
    ]
    contents = ("facts", "lines", "tables", "plots", "pictures", "wide", "text")
    return [section for section in sections if any(getattr(section, name) for name in contents)]


def _trained_on(files: RunFiles, settings: Mapping[str, Any]) -> Section:
    progress = files.progress
    facts: dict[str, str] = {}
    for split, title in (("train", "training images"), ("val", "validation images")):
        if split in files.facts:
            facts[title] = "{images} with {objects} objects".format(**files.facts[split])
    if tiles := files.facts.get("tiles"):
        facts["tiles"] = "{train} for training and {val} for validation, of {side} px".format(**tiles)
    sides = files.objects.columns.get("input_side")
    if sides is not None:
        quartiles = np.quantile(sides, (0, 0.25, 0.5, 0.75, 1)).round().astype(int)
        parts = ("smallest", "quarter", "median", "three quarters", "largest")
        sizes = ", ".join(f"{part} {side}" for part, side in zip(parts, quartiles, strict=True))
        facts["objects at the input"] = f"longer side of the validation objects in px: {sizes}"
    if "model_type" in progress:
        facts["model"] = f"{progress['model_type']} at {progress['image_size']} px"
    parameters = files.facts.get("parameters")
    learned = "; {trained:,} of {all:,} parameters".format(**parameters) if parameters else ""
    facts["parts that learn"] = _describe(settings.get("adapt")) + learned
    titles = {
        "head": "head",
        "loss": "loss",
        "train_prompt": "prompts in training",
        "eval_prompt": "prompts in validation",
        "train_transform": "augmentation",
        "optimizer": "optimizer",
        "init": "on top of",
    }
    described = {title: _describe(settings[name]) for name, title in titles.items() if settings.get(name)}
    facts |= {title: value for title, value in described.items() if value not in NOTHING}
    if "epoch" in progress:
        best = f"; the best is {progress['best_epoch']}" if progress.get("best_epoch") else ""
        facts["epochs"] = f"{progress['epoch']} of at most {settings.get('epochs')}{best}"
    if progress.get("mix") is not None:
        facts["mix"] = f"{progress['mix']:g} of epoch {progress['mix_epoch']}, the rest is zero-shot"
    return Section("What was trained", facts=facts)


def _describe(node: Any) -> str:
    """A node of config.yaml in a line: Freeze(train=[mask_decoder.*])."""
    if isinstance(node, dict):
        name = str(node.get("_target_", "")).rpartition(".")[2]
        options = {key: value for key, value in node.items() if key != "_target_" and value not in (None, [], {})}
        return f"{name}({', '.join(f'{key}={_describe(value)}' for key, value in options.items())})"
    if isinstance(node, list):
        return f"[{', '.join(map(_describe, node))}]"
    return str(node)


def _remarks(files: RunFiles, hidden: bool) -> Section:
    section = Section("Remarks on the data")
    if hidden and files.log:
        section.lines.append("Left out: they may name files.")
    elif files.log:
        section.text = "\n".join(files.log)
    return section
