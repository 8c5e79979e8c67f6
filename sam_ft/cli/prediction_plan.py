"""The plan of a prediction: the run, the images and their names, and where the results go."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig

from sam_ft.cli.evaluation_plan import make_output_folder
from sam_ft.cli.image_files import ImageFile, find_images, images_with_prompts
from sam_ft.cli.runs import Run, load_run
from sam_ft.cli.setting_checks import check_settings
from sam_ft.data.sources.names import MAX_LISTED
from sam_ft.data.sources.prompt_file import PromptFile, read_prompts
from sam_ft.types import OBJECT
from sam_ft.utils import distributed
from sam_ft.utils.errors import ConfigError, DataError
from sam_ft.utils.files import as_json, refuse_links_within, sha256, write_atomic
from sam_ft.utils.leftovers import remove_leftovers
from sam_ft.utils.precision import PRECISIONS
from sam_ft.utils.tiles import check_tile
from sam_ft.writers.formats import FORMATS, check_formats, remove_results

log = logging.getLogger("sam_ft")

SETTINGS = "predict.json"  # in the output folder


@dataclass(frozen=True)
class PredictionPlan:
    """run: its model to build, and how it read images · checkpoint: its best weights

    prompts: None for `auto` · classes: {label: name}
    """

    run: Run
    checkpoint: Path
    images: list[ImageFile]
    output: Path
    precision: str
    prompts: PromptFile | None
    classes: Mapping[int, str]

    def unfinished(self, formats: Sequence[str]) -> list[ImageFile]:
        """The images that lack a result file, or have one that is older than the image or the recorded settings."""
        recorded = (self.output / SETTINGS).stat().st_mtime_ns
        return [image for image in self.images if not self._is_finished(image, formats, recorded)]

    def _is_finished(self, image: ImageFile, formats: Sequence[str], recorded: int) -> bool:
        try:
            results = [FORMATS[name].path(self.output, image.name).stat().st_mtime_ns for name in formats]
            return min(results) >= max(recorded, image.path.stat().st_mtime_ns)
        except OSError:  # one is missing
            return False


def plan_prediction(cfg: DictConfig) -> PredictionPlan:
    """Checks the settings and lists the images; none of them is opened.

    Raises:
        ConfigError: a setting has a wrong value, or the output folder holds images to read.
        DataError: there are no images, or the file of prompts has none for them.
    """
    check_settings(cfg, str, ("run", "images", "prompts"))
    check_settings(cfg, str | None, ("output",))
    check_settings(cfg, int, ("points_per_side",), least=1)
    check_settings(cfg, bool, ("overwrite", "debug"))
    check_settings(cfg, Sequence[str], ("save", "trust"))
    check_tile("tile", cfg.tile)
    if cfg.refine not in (None, "auto", "decoder"):
        raise ConfigError(f"refine={cfg.refine} is not known; expected decoder, auto or null")
    check_formats(cfg.save)
    if not cfg.save:
        raise ConfigError("save=[] would write nothing; expected formats, as save=[labels,overlay]")
    if cfg.precision is not None and cfg.precision not in PRECISIONS:
        raise ConfigError(f"precision={cfg.precision} is not one of {', '.join(PRECISIONS)}")
    run = load_run(cfg.run, ("model",), cfg.trust)
    checkpoint = run.directory / "checkpoints/best.safetensors"
    root, images = find_images(cfg.images)
    prompts = None
    if cfg.prompts != "auto":
        prompts = read_prompts(Path(cfg.prompts).expanduser())
        images = images_with_prompts(root, images, prompts)
    output = run.directory / "predictions" / root.resolve().name if cfg.output is None else Path(cfg.output)
    output = output.expanduser()
    check_output(output, images)
    refuse_links_within(run.directory, output)
    return PredictionPlan(
        run=run,
        checkpoint=checkpoint,
        images=images,
        output=output,
        precision=cfg.precision or run.precision,
        prompts=prompts,
        classes=OBJECT if prompts is None else prompts.classes,
    )


def check_output(output: Path, images: Sequence[ImageFile]) -> None:
    """Refuses a folder that holds images to read, beside which nothing is written. Raises: ConfigError"""
    folder = output.resolve()
    for image in images:
        if folder in image.path.resolve().parents:
            raise ConfigError(f"output={output}: holds the image {image.file}; choose a folder without images to read")


@contextmanager
def lock_output(output: Path) -> Iterator[None]:
    """Makes the output folder, and locks it against other commands; the processes of one share it.

    Raises: ConfigError when another command writes into it, or it cannot be written.
    """
    lock = FileLock(output / ".lock", timeout=0)

    def prepare() -> None:
        make_output_folder(output)
        try:
            lock.acquire()
        except Timeout:
            raise ConfigError(f"output={output}: another predict is writing to it; choose another output=") from None
        remove_leftovers(*{output / one.folder for one in FORMATS.values()}, deep=True)

    try:
        distributed.broadcast_from_main(prepare)
        yield
    finally:
        lock.release()


def record_settings(output: Path, settings: dict[str, Any], overwrite: bool, images: Sequence[ImageFile] = ()) -> None:
    """Writes the settings into the output folder, so that no results of others are mixed with these.

    images: of which `overwrite` removes the results of other settings

    Raises: ConfigError when it holds results of other settings, unless `overwrite`.
    """
    path = output / SETTINGS
    settings = json.loads(as_json(settings))
    before = json.loads(path.read_text()) if path.is_file() else None
    if before == settings:  # their results stay
        return
    if before is not None and not overwrite:
        names = sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key))
        raise ConfigError(
            f"output={output}: holds results of other settings ({', '.join(names)}); choose another output=, or "
            "replace them with overwrite=true"
        )
    if before is not None:
        remove_results(output, [image.name for image in images])
    write_atomic(path, as_json(settings, indent=2) + "\n")


def settings_of(cfg: DictConfig, plan: PredictionPlan, options: Mapping[str, Any]) -> dict:
    """Those that change a result, with the digests of the weights and of the prompts.

    options: of `SegmentOptions`
    """
    return {
        "weights": sha256(plan.checkpoint),
        "images": str(Path(cfg.images).expanduser().absolute()),
        "reading": plan.run.reading,
        "precision": plan.precision,
        "prompts": cfg.prompts if plan.prompts is None else sha256(plan.prompts.path),
        **options,
        "points_per_side": cfg.points_per_side,
    }


def report_bad_images(bad: Sequence[tuple[str, str]], total: int) -> None:
    """Ends the command with the list of images that could not be predicted. Raises: DataError"""
    if bad:
        lines = [message for _, message in bad[:MAX_LISTED]]
        more = [f"... and {len(bad) - MAX_LISTED} more"] if len(bad) > MAX_LISTED else []
        raise DataError("\n".join([f"{len(bad)} of {total} images have no results, the others do:", *lines, *more]))
