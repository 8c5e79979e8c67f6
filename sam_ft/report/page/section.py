"""A section of a page."""

from dataclasses import dataclass, field
from pathlib import Path

from sam_ft.report.score_rows import Rows


@dataclass
class Section:
    """Parts in the order in which the page shows them.

    facts: values by title · tables: the header first · plots: SVG by caption · pictures: caption and file
    wide: those of the width of the page · text: preformatted · folded: whether it is shown on a click
    """

    title: str
    facts: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    tables: list[Rows] = field(default_factory=list)
    plots: dict[str, str] = field(default_factory=dict)
    pictures: list[tuple[str, Path]] = field(default_factory=list)
    wide: list[tuple[str, Path]] = field(default_factory=list)
    text: str = ""
    folded: bool = False
