"""Reads the files of a run."""

import json


def metrics_lines(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def validated(directory):
    """The scores of each evaluation."""
    return [{k: v for k, v in line.items() if "val/" in k} for line in metrics_lines(directory) if "val/iou" in line]
