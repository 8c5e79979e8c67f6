"""The jobs of a sweep: sweep.jsonl, a table of them, and the best one."""

from pathlib import Path

from sam_ft.report.page.run_files import read_json_lines
from sam_ft.report.score_rows import Rows
from sam_ft.report.tables import format_table


def read_sweep(path: Path) -> list[dict]:
    """The jobs of a sweep.jsonl that have ended, in the order in which they did."""
    return [job for job in read_json_lines(path) if "job" in job]


def sweep_table(jobs: list[dict], monitor: str) -> str:
    """See `sweep_rows`."""
    return format_table(sweep_rows(jobs, monitor))


def sweep_rows(jobs: list[dict], monitor: str) -> Rows:
    """One row per job: its number, score and best epoch, whether it was pruned or failed, and its own overrides.

    jobs: the lines of sweep.jsonl, some of which may have failed
    """
    rows = []
    for job in sorted(jobs, key=lambda job: job["job"]):
        score = job.get("best", {}).get(monitor)
        cells = ["" if score is None else f"{score:.4f}", str(job.get("best_epoch", ""))]
        end = f"pruned after epoch {job['epoch']}" if job.get("pruned") else "failed" if "error" in job else ""
        rows.append([str(job["job"]), *cells, end, own_overrides(job, jobs)])
    return [["job", monitor, "epoch", "end", "settings"], *rows]


def describe_best_job(jobs: list[dict], monitor: str) -> str:
    """The number and score of a sweep's best job, and the overrides that only it has.

    jobs: the lines of sweep.jsonl, some of which may have failed
    """
    best = max((job for job in jobs if "best" in job), key=lambda job: job["best"].get(monitor, float("-inf")))
    score = best["best"][monitor]
    return f"best of {len(jobs)} jobs so far: job {best['job']}, {monitor} {score:.4f}, {own_overrides(best, jobs)}"


def own_overrides(job: dict, jobs: list[dict]) -> str:
    """The overrides of a job that not all jobs have."""
    shared = set.intersection(*(set(other["overrides"]) for other in jobs))
    return " ".join(setting for setting in job["overrides"] if setting not in shared)
