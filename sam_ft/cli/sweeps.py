"""The jobs of `train.py -m`: one line for each in sweep.jsonl, and the best so far."""

import json
import logging
from pathlib import Path

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig

from sam_ft.cli.config import is_sweep_job
from sam_ft.utils import distributed
from sam_ft.utils.files import as_json, atomic_path

log = logging.getLogger("sam_ft")


def record_sweep_job(results: dict, monitor: str = "iou") -> None:
    """Adds a finished job to sweep.jsonl, beside the directories of the jobs, and logs the best so far.

    results: the scores of the job, or its error · monitor: the score to compare
    """
    if not is_sweep_job() or not distributed.is_main():
        return
    settings = HydraConfig.get()
    path = Path(settings.sweep.dir).expanduser() / "sweep.jsonl"
    with FileLock(path.with_name(".sweep.lock")):  # a launcher may run several jobs at once
        jobs = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        jobs = [job for job in jobs if job["job"] != settings.job.num]  # from an earlier start of the same sweep
        jobs.append({"job": settings.job.num, "overrides": list(settings.overrides.task), **results})
        with atomic_path(path) as temporary:
            temporary.write_text("".join(as_json(job) + "\n" for job in jobs))
    if "best" in results and len(jobs) > 1:
        log.info("\n%s", describe_best_job(jobs, monitor))


def describe_best_job(jobs: list[dict], monitor: str) -> str:
    """The number and score of a sweep's best job, and the overrides that only it has.

    jobs: the lines of sweep.jsonl, some of which may have failed
    """
    best = max((job for job in jobs if "best" in job), key=lambda job: job["best"].get(monitor, float("-inf")))
    shared = set.intersection(*(set(job["overrides"]) for job in jobs))  # overrides that all jobs have
    own = " ".join(setting for setting in best["overrides"] if setting not in shared)
    return f"best of {len(jobs)} jobs so far: job {best['job']}, {monitor} {best['best'][monitor]:.4f}, {own}"
