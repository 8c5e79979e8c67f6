"""report.html: a run or a sweep on one page that needs no other file, no network and no JavaScript."""

import base64
import io
import time
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

import sam_ft
from sam_ft.report.page.run_files import read_run_files, read_settings
from sam_ft.report.page.section import Section
from sam_ft.report.page.sections import run_sections
from sam_ft.report.page.sweep_sections import sweep_sections, sweep_verdict
from sam_ft.report.page.verdict import verdict_lines
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.files import write_atomic

PICTURE_BYTES = 1_000_000  # at most of one picture, so that the page stays below 5 MB


def write_report(directory: Path, names: bool | None = None, path: Path | None = None) -> Path:
    """Writes the report of a run or of a sweep, and returns its path.

    names: False hides the names of files; None for the run's own report.names · path: None for report.html in it

    Raises:
        ConfigError: the directory holds no run. CheckpointError: a checkpoint is damaged. OSError
    """
    settings = read_settings(directory)
    sweep = (directory / "sweep.jsonl").is_file()
    if not sweep and not settings:
        raise ConfigError(f"run={directory}: there is no config.yaml; give the directory of a run, as outputs/NAME")
    hidden = not (settings.get("report", {}).get("names", True) if names is None else names)
    if sweep:
        verdict, sections = sweep_verdict(directory, hidden), sweep_sections(directory, hidden)
    else:
        files = read_run_files(directory)
        verdict, sections = verdict_lines(files), run_sections(files, hidden)
    title = directory.resolve().name
    if title.isdigit():  # a job of a sweep
        title = f"{directory.resolve().parent.name}/{title}"
    path = directory / "report.html" if path is None else path
    write_atomic(path, render(title, verdict, sections).encode(errors="replace"))
    return path


def render(title: str, verdict: list[str], sections: list[Section]) -> str:
    """The page; all texts are escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["jpeg"] = jpeg
    day = time.strftime("%Y-%m-%d")
    footer = f"Written by sam-ft {sam_ft.__version__} on {day}. Nothing on this page is loaded from elsewhere."
    return environment.get_template("report.html").render(
        title=title, verdict=verdict, sections=sections, footer=footer
    )


def jpeg(path: Path) -> str:
    """A picture in base64, made smaller until it has at most `PICTURE_BYTES`."""
    with Image.open(path) as file:
        picture = file.convert("RGB")
    while True:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=88, optimize=True)
        if buffer.tell() <= PICTURE_BYTES:
            return base64.b64encode(buffer.getvalue()).decode()
        picture = picture.resize((max(1, picture.width * 3 // 4), max(1, picture.height * 3 // 4)))
