"""The sections of a sweep's report."""

from math import nan
from pathlib import Path

from sam_ft.report.names import hide_in_override
from sam_ft.report.page.plots import draw_setting
from sam_ft.report.page.run_files import read_settings
from sam_ft.report.page.section import Section
from sam_ft.report.sweep import describe_best_job, own_overrides, read_sweep, sweep_rows


def sweep_verdict(directory: Path, hidden: bool) -> list[str]:
    """The best job, and what its score is worth."""
    jobs, monitor = _jobs(directory, hidden), _monitor(directory)
    done = _done(jobs, monitor)
    if not done:
        return ["No job of this sweep has a result yet."]
    best, sentence = max(done, key=lambda job: job["best"][monitor]), describe_best_job(jobs, monitor)
    zero_shot = best["zero_shot"].get(monitor)
    return [
        sentence[0].upper() + sentence[1:],
        f"Zero-shot of that job: {monitor} {nan if zero_shot is None else zero_shot:.4f}.",
        f"The job was chosen among {len(done)} jobs by the validation images: expect somewhat less on others.",
    ]


def sweep_sections(directory: Path, hidden: bool) -> list[Section]:
    """A table of the jobs, a plot for each setting that differs between them, and the settings that all have."""
    jobs, monitor = _jobs(directory, hidden), _monitor(directory)
    done = _done(jobs, monitor)
    values: dict[str, dict[int, str]] = {}
    for place, job in enumerate(done):
        for override in own_overrides(job, jobs).split():
            name, _, value = override.partition("=")
            values.setdefault(name, {})[place] = value
    plots = {}
    for name, own in values.items():
        if len(set(own.values())) > 1:
            scores = [done[place]["best"][monitor] for place in own]
            plots[f"{monitor} of each job by {name}"] = draw_setting(name, list(own.values()), scores, monitor)
    shared = set.intersection(*(set(job["overrides"]) for job in jobs)) if jobs else set()
    # The settings first: the first column may have several lines.
    rows = [[*row[-1:], *row[:-1]] for row in sweep_rows(jobs, monitor)] if jobs else []
    sections = [
        Section("Jobs", tables=[rows] if rows else []),
        Section("Score by setting", plots=plots),
        Section(
            "Settings of all jobs", text="\n".join(one for one in jobs[0]["overrides"] if one in shared) if jobs else ""
        ),
    ]
    return [section for section in sections if section.tables or section.plots or section.text]


def _jobs(directory: Path, hidden: bool) -> list[dict]:
    jobs = read_sweep(directory / "sweep.jsonl")
    if hidden:
        jobs = [{**job, "overrides": [hide_in_override(one) for one in job["overrides"]]} for job in jobs]
    return jobs


def _done(jobs: list[dict], monitor: str) -> list[dict]:
    return [job for job in jobs if job.get("best", {}).get(monitor) is not None]


def _monitor(directory: Path) -> str:
    """Of the first job with a configuration; in a sweep all have one monitor, or their scores cannot be compared."""
    for path in sorted(directory.glob("*/config.yaml")):
        return str(read_settings(path.parent).get("monitor", "iou"))
    return "iou"
