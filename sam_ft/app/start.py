"""From the settings of the page to its server."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from sam_ft.app.routes import PageRoutes
from sam_ft.app.segmenter import Segmenter
from sam_ft.app.server import PageServer
from sam_ft.app.workspace import Workspace
from sam_ft.cli.config import build
from sam_ft.cli.image_files import find_images
from sam_ft.cli.prediction_plan import check_output
from sam_ft.cli.runs import Run, load_run
from sam_ft.cli.setting_checks import check_settings
from sam_ft.evaluation.segment import SegmentOptions
from sam_ft.task import PromptedSegmentation
from sam_ft.training.checkpoint import holds_all_weights, load_partial_weights
from sam_ft.types import OBJECT
from sam_ft.utils import distributed
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.files import refuse_links_within
from sam_ft.utils.leftovers import remove_leftovers
from sam_ft.utils.precision import PRECISIONS
from sam_ft.utils.tiles import check_tile
from sam_ft.writers.formats import check_formats


def make_server(cfg: DictConfig) -> PageServer:
    """A server of a run's model, which waits for `serve_forever`.

    Raises: ConfigError, DataError, CheckpointError
    """
    check_app_settings(cfg)
    run = load_run(cfg.run, ("model",), cfg.trust)
    images = [] if cfg.images is None else find_images(cfg.images)[1]
    output = Path(cfg.output).expanduser() if cfg.output else run.directory / "page"
    check_output(output, images)
    refuse_links_within(run.directory, output)
    remove_leftovers(output, deep=True)
    segmenters = load_segmenters(run, cfg)
    head = segmenters["tuned"].task.model.head
    classes = OBJECT if head is None else head.classes
    workspace = Workspace(segmenters, images, output / "images", run.reading, classes)
    routes = PageRoutes(workspace, output, cfg.save, cfg.points_per_side).routes()
    try:
        return PageServer(routes, cfg.port)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "expected 0 to 65535"
        raise ConfigError(f"port={cfg.port}: cannot be used ({reason}); port=0 takes a free one") from None


def check_app_settings(cfg: DictConfig) -> None:
    """Raises: ConfigError"""
    check_settings(cfg, str, ("run",))
    check_settings(cfg, str | None, ("images", "output", "precision"))
    check_settings(cfg, int, ("port",), least=0)
    check_settings(cfg, int, ("points_per_side",), least=1)
    check_settings(cfg, bool, ("browser", "debug"))
    check_settings(cfg, Sequence[str], ("save", "trust"))
    check_tile("tile", cfg.tile)
    check_formats(cfg.save)
    if not cfg.save:
        raise ConfigError("save=[] would write nothing; expected formats, as save=[labels,overlay]")
    if cfg.precision is not None and cfg.precision not in PRECISIONS:
        raise ConfigError(f"precision={cfg.precision} is not one of {', '.join(PRECISIONS)}")


def load_segmenters(run: Run, cfg: DictConfig) -> dict[str, Segmenter]:
    """The model of the run and, if its weights are there, the one that it started from; both take the same tiles."""
    checkpoint = run.directory / "checkpoints/best.safetensors"
    names = ("tuned",) if holds_all_weights(checkpoint) else ("tuned", "zero-shot")
    models = {name: build(run.cfg.model) for name in names}
    notes = load_partial_weights(models["tuned"], checkpoint)
    options = SegmentOptions.from_notes(notes)
    if cfg.tile != "auto":
        options = replace(options, tile=cfg.tile)
    segmenters = {}
    for name, model in models.items():
        model = model.to(distributed.device()).eval().requires_grad_(False)
        segmenters[name] = Segmenter(PromptedSegmentation(model, precision=cfg.precision or run.precision), options)
    return segmenters
