"""The plots of a report, as SVG."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from sam_ft.report.object_scores import ObjectScores

SIZE = (5.2, 3.2)  # inches
COLORS = {"zero_shot": "#b8860b", "tuned": "#1f6fb4"}
LABELS = {"zero_shot": "zero-shot", "tuned": "tuned"}
BINS = 10  # of the reliability of pred_iou
FEWEST = 5  # objects in a bin that is drawn
MOST_LABELS = 6  # of the values of a setting, each at its job
MOST_POINTS = 1000  # of a line or a cloud: each takes about a hundred bytes of the file
# Text stays text, and a dollar in a name is no formula.
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sam-ft",
    "text.parse_math": False,
    "font.size": 9,
    "axes.formatter.useoffset": False,
}


def draw_curves(
    steps: Sequence[Mapping[str, float]], epochs: Sequence[Mapping[str, float]], monitor: str
) -> dict[str, str]:
    """{caption: SVG} of the loss of each step, the monitored score of each epoch, and the learning rate.

    steps, epochs: lines of metrics.jsonl
    """
    plots = {}

    def line(caption: str, rows: Sequence[Mapping[str, float]], x_name: str, y_name: str, **style: Any) -> None:
        pairs = [(row[x_name], row[y_name]) for row in rows if row.get(y_name) is not None]
        if pairs:
            x, y = np.array(pairs, dtype=float).T
            plots[caption] = _draw(lambda axis: _plot_line(axis, x, y, **style), x_name, y_name.split("/")[-1])

    line("Loss of each step, and its moving average", steps, "step", "train/loss", average=True)
    line(f"{monitor} on the validation images; epoch 0 is zero-shot", epochs, "epoch", f"val/{monitor}", marker="o")
    line("Learning rate", steps, "step", "lr")
    return plots


def _plot_line(axis: Axes, x: np.ndarray, y: np.ndarray, average: bool = False, marker: str | None = None) -> None:
    axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))  # of steps and epochs
    width = math.ceil(len(x) / MOST_POINTS)
    x, y = (_block_means(values, width) for values in (x, y))
    if not average:
        axis.plot(x, y, color=COLORS["tuned"], marker=marker, markersize=4)
        return
    axis.plot(x, y, color="#c5cdd5", linewidth=0.8)
    over = max(1, math.ceil(len(y) / 20))
    axis.plot(x[over - 1 :], np.convolve(y, np.ones(over) / over, mode="valid"), color=COLORS["tuned"])


def _block_means(values: np.ndarray, width: int) -> np.ndarray:
    return np.array([values[start : start + width].mean() for start in range(0, len(values), width)])


def draw_reliability(objects: ObjectScores) -> str:
    """The mean IoU of objects by their predicted IoU: on the diagonal the prediction is right."""

    def plot(axis: Axes) -> None:
        axis.plot([0, 1], [0, 1], color="#9aa0a6", linestyle=":", linewidth=1)
        for model in objects.models:
            predicted, iou = (objects.columns[f"{model}_{name}"] for name in ("pred_iou", "iou"))
            x, y = binned(predicted, iou, np.linspace(0, 1, BINS + 1))
            axis.plot(x, y, "o-", color=COLORS[model], label=LABELS[model], markersize=4)
        axis.set(xlim=(0, 1), ylim=(0, 1))
        axis.legend(frameon=False)

    return _draw(plot, "predicted IoU", "mean IoU")


def draw_iou_by_size(objects: ObjectScores) -> str:
    """The IoU of objects by the square root of their area, and its mean in eighths of them."""
    sides = np.sqrt(objects.columns["area"])
    shown = np.linspace(0, len(sides) - 1, min(len(sides), MOST_POINTS)).astype(int)

    def plot(axis: Axes) -> None:
        edges = np.unique(np.quantile(sides, np.linspace(0, 1, 9)))
        for model in objects.models:
            iou = objects.columns[f"{model}_iou"]
            axis.scatter(sides[shown], iou[shown], s=6, color=COLORS[model], alpha=0.15, linewidths=0)
            x, y = binned(sides, iou, edges)
            axis.plot(x, y, "o-", color=COLORS[model], label=LABELS[model], markersize=4)
        axis.set(xscale="log", ylim=(0, 1))
        if sides.max() < 10 * sides.min():
            axis.xaxis.set_minor_formatter("{x:g}")
        else:  # one power of ten or two would be the only labels
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter("{x:g}")
        axis.legend(frameon=False)

    return _draw(plot, "√area in pixels of the file", "IoU")


def draw_setting(name: str, values: Sequence[str], scores: Sequence[float], monitor: str) -> str:
    """The score of each job of a sweep by the value of one of its settings."""
    numbers = [number for value in values if (number := _as_number(value)) is not None]
    numeric = len(numbers) == len(values)
    # Values that are no numbers stand side by side, in the order of their first job.
    places = {value: place for place, value in enumerate(dict.fromkeys(values))}

    def plot(axis: Axes) -> None:
        x: Sequence[float] = numbers if numeric else [places[value] for value in values]
        axis.scatter(x, scores, color=COLORS["tuned"], s=24, alpha=0.7, linewidths=0)
        if not numeric:
            axis.set_xticks(list(places.values()), [value[:24] for value in places], rotation=20, ha="right")
            axis.set_xlim(-0.5, len(places) - 0.5)
        elif min(numbers) > 0 and max(numbers) >= 20 * min(numbers):
            axis.set_xscale("log")
            if len(set(numbers)) <= MOST_LABELS:
                axis.set_xticks(sorted(set(numbers)))
                axis.xaxis.set_minor_locator(NullLocator())
            axis.xaxis.set_major_formatter("{x:g}")

    return _draw(plot, name, monitor, long_ticks=not numeric)


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def binned(x: np.ndarray, y: np.ndarray, edges: np.ndarray) -> tuple[list[float], list[float]]:
    """The means of x and y in each bin that holds at least `FEWEST` of them."""
    place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, max(0, len(edges) - 2))
    kept = [members for number in range(max(1, len(edges) - 1)) if (members := place == number).sum() >= FEWEST]
    return [float(x[members].mean()) for members in kept], [float(y[members].mean()) for members in kept]


def _draw(plot: Callable[[Axes], object], x_title: str, y_title: str, long_ticks: bool = False) -> str:
    """The <svg> element, without the header of a file. long_ticks: whether the margins must be fitted, which is slow"""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained" if long_ticks else None)
        if not long_ticks:
            figure.subplots_adjust(left=0.13, right=0.97, bottom=0.16, top=0.9)
        canvas = FigureCanvasSVG(figure)
        axis = figure.subplots()
        plot(axis)
        axis.set_xlabel(x_title)
        axis.set_title(y_title, loc="left", fontsize=9)  # at the side it would run into long numbers
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#e6e9ec", linewidth=0.6)
        buffer = io.StringIO()
        canvas.print_svg(buffer, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    return text[text.index("<svg") :]
