"""The plots and pictures of a run's report: its course, its objects, and images before and after."""

from sam_ft.report.names import ImageNames
from sam_ft.report.page.plots import draw_curves, draw_iou_by_size, draw_reliability
from sam_ft.report.page.run_files import RunFiles
from sam_ft.report.page.section import Section


def curves_section(files: RunFiles) -> Section:
    return Section("Training", plots=draw_curves(files.steps, files.epochs, files.monitor))


def objects_section(files: RunFiles, hidden: bool) -> Section:
    objects, section = files.objects, Section("Objects")
    if not len(objects):
        section.lines.append(
            "This run has no objects.csv, the scores of each object. A report that is written again after "
            f"sam-ft evaluate run={'DIR' if hidden else files.directory} has them."
        )
        return section
    captions = {
        "Calibration: the IoU of objects by the IoU that the model predicts for them": draw_reliability,
        "IoU by the size of the object": draw_iou_by_size,
    }
    section.plots = {caption: draw(objects) for caption, draw in captions.items()}
    return section


def examples_section(files: RunFiles, hidden: bool) -> Section:
    """Pictures of single objects: those that training drew, or the sheet of an evaluation."""
    section = Section("Objects of the lowest, the median and the highest IoU")
    names = ImageNames([*files.objects.names, *(row["name"] for row in files.examples)], hidden)
    for row in files.examples:
        ious = " → ".join(f"{row[key]:.3f}" for key in ("zero_shot_iou", "tuned_iou") if key in row)
        caption = f"{row['part']}: {names(row['name'])}, object {row['object']}, IoU {ious}"
        section.pictures.append((caption, files.directory / "samples/objects" / row["file"]))
    if section.pictures:
        section.lines.append("Ground truth beside the prediction of the best weights, and the IoU zero-shot → tuned.")
    sheet = files.directory / "evaluation/worst_and_best.png"
    if not files.examples and sheet.is_file() and not hidden:
        section.wide.append(("Ground truth beside prediction.", sheet))
    return section


def samples_section(files: RunFiles, hidden: bool) -> Section:
    """The last picture of the validation images: that of the best epoch."""
    section = Section("Validation images before and after training")
    folder = files.directory / "samples"
    sheets = [*sorted(folder.glob("zero_shot.png")), *sorted(folder.glob("epoch_*.png"))]
    named = files.settings.get("report", {}).get("names", True)
    if sheets and hidden and named:
        section.lines.append("Left out: the pictures were drawn with the names of the files (report.names=true).")
    elif sheets:
        epoch = sheets[-1].stem.removeprefix("epoch_").lstrip("0")
        after = f", zero-shot and tuned by {epoch} epochs" if epoch.isdigit() else " and zero-shot"
        section.wide.append((f"Prompt, ground truth{after}.", sheets[-1]))
    return section
