"""The tables of a run's report: zero-shot beside tuned, in training and in evaluations."""

from collections.abc import Iterator, Mapping

from sam_ft.report.page.run_files import RunFiles
from sam_ft.report.page.section import Section
from sam_ft.report.score_rows import (
    Rows,
    before_and_after,
    class_map_rows,
    group_rows,
    instance_rows,
    is_head_score,
    mix_rows,
    only_title,
    prompt_rows,
    score_rows,
)


def scores_section(files: RunFiles) -> Section:
    progress = files.progress
    if "zero_shot" not in progress:
        return Section("Scores", lines=["No checkpoint was found here."])
    section = Section("Scores on the validation images")
    before, after = (
        {name: value for name, value in progress[which].items() if not is_head_score(name)}
        for which in ("zero_shot", "best")
    )
    if "objects" in before:
        section.lines.append(
            f"{before['objects']} objects in {before['images']} images, with the prompts of validation."
        )
    section.tables.append(score_rows(before, after))
    if progress.get("zero_shot_classes"):
        section.tables.append(
            group_rows({"class": progress["zero_shot_classes"]}, {"class": progress["best_classes"]})[0]
        )
    if progress.get("baseline") and progress.get("head_scores"):
        section.tables.append(_head_rows(progress["baseline"], progress["head_scores"]))
    prefix = f"mix_{files.monitor}/"
    mixes = {
        float(name.removeprefix(prefix)): {files.monitor: value}
        for row in files.others
        for name, value in row.items()
        if name.startswith(prefix) and value is not None
    }
    if mixes:
        section.tables.append(mix_rows(mixes, files.monitor, progress.get("mix") or 0.0))
    return section


def _head_rows(baseline: Mapping[str, float], head: Mapping[str, float]) -> Rows:
    return class_map_rows(baseline, head) if "miou" in head else instance_rows(baseline, head)


def evaluation_sections(files: RunFiles, hidden: bool) -> Iterator[Section]:
    """One for each evaluation of the run: all of its prompts, and masks without. Folders are named by their data."""
    for number, (folder, scores) in enumerate(files.evaluations.items(), 1):
        prompts = scores.get("prompts") or {
            scores["prompt"]: {which: scores[which] for which in ("zero_shot", "tuned") if which in scores}
        }
        section = Section(
            f"Evaluation {number}" if hidden else f"Evaluation: {folder}", lines=[f"Prompts: {', '.join(prompts)}."]
        )
        only = only_title(next(iter(prompts.values())))
        section.tables += [prompt_rows(prompts, only)] if len(prompts) > 1 else []
        for name, result in prompts.items():
            rows = score_rows(*before_and_after(result), only)
            rows[0][0] = name
            before, after = before_and_after(result)
            section.tables += [rows, group_rows(before["groups"], after and after["groups"], only)[0]]
        if amg := scores.get("amg"):
            rows = score_rows(*before_and_after(amg), only)
            rows[0][0] = "automatic masks"
            section.tables.append(rows)
        if auto := scores.get("auto"):
            section.tables.append(_head_rows(auto["baseline"], auto["head"]))
        yield section
