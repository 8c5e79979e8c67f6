"""The jobs of `train.py -m`: a line for each of them in sweep.jsonl, and which is best."""

import json
import logging
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from sam_ft.cli.config import is_sweep_job
from sam_ft.utils import distributed
from sam_ft.utils.files import as_json, atomic_path

log = logging.getLogger("sam_ft")


def record_sweep_job(results: dict, monitor: str = "iou") -> None:
    """Adds a finished job of a sweep to sweep.jsonl, beside the directories of its jobs, and logs the best so far."""
    if not is_sweep_job() or not distributed.is_main():
        return
    settings = HydraConfig.get()
    path = Path(settings.sweep.dir).expanduser() / "sweep.jsonl"
    jobs = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    jobs = [job for job in jobs if job["job"] != settings.job.num]  # the sweep may have been started again
    jobs.append({"job": settings.job.num, "overrides": list(settings.overrides.task), **results})
    with atomic_path(path) as temporary:
        temporary.write_text("".join(as_json(job) + "\n" for job in jobs))
    if "best" in results and len(jobs) > 1:
        log.info("\n%s", best_so_far(jobs, monitor))


def best_so_far(jobs: list[dict], monitor: str) -> str:
    """The best job of a sweep by its number, its score, and in what it differs from the others.

    jobs: those of sweep.jsonl, some of which may have failed
    """
    best = max((job for job in jobs if "best" in job), key=lambda job: job["best"].get(monitor, float("-inf")))
    shared = set.intersection(*(set(job["overrides"]) for job in jobs))
    own = " ".join(setting for setting in best["overrides"] if setting not in shared)
    return f"best of {len(jobs)} jobs so far: job {best['job']}, {monitor} {best['best'][monitor]:.4f}, {own}"
