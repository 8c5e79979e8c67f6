"""Tables for the terminal and the log, as plain text."""

from collections.abc import Mapping, Sequence

from torch import nn

TITLES = {
    "iou": "IoU (mean over objects)",
    "dice": "Dice (mean over objects)",
    "iou_per_image": "IoU (mean over images)",
    "dice_per_image": "Dice (mean over images)",
    "iou_guess_error": "|guessed - true IoU|",
}


def score_table(zero_shot: Mapping[str, float], tuned: Mapping[str, float] | None = None) -> str:
    """One row per metric: zero-shot | tuned | change; zero-shot alone if nothing was tuned."""
    names = [name for name in zero_shot if name not in ("objects", "images")]
    header = ["", "zero-shot"] + (["tuned", "change"] if tuned else [])
    rows = []
    for name in names:
        row = [TITLES.get(name, name), f"{zero_shot[name]:.4f}"]
        if tuned:
            row += [f"{tuned[name]:.4f}", f"{tuned[name] - zero_shot[name]:+.4f}"]
        rows.append(row)
    counts = f"{zero_shot['objects']:.0f} objects in {zero_shot['images']:.0f} images"
    return f"{plain_table(header, rows)}\n{counts}"


def parameter_table(model: nn.Module) -> str:
    """One row per part of the model: parameters trained and frozen."""
    rows = []
    total = [0, 0]
    for name, part in model.named_children():
        trained = sum(p.numel() for p in part.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in part.parameters()) - trained
        total = [total[0] + trained, total[1] + frozen]
        rows.append([name, f"{trained:,}", f"{frozen:,}"])
    return plain_table(["part", "trained", "frozen"], [*rows, ["all", *(f"{count:,}" for count in total)]])


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need; the first one to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return "  " + " | ".join([first, *rest])

    rule = "  " + "-+-".join("-" * width for width in widths)
    return "\n".join([line(header), rule, *(line(row) for row in rows)])
