"""python -m sam_ft.export run=outputs/NAME format=onnx"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import hydra
from omegaconf import DictConfig

from sam_ft.cli.config import build
from sam_ft.cli.exit import exit_cleanly
from sam_ft.cli.hints import CONF
from sam_ft.cli.runs import load_run
from sam_ft.cli.setting_checks import check_settings
from sam_ft.export.cvat import export_cvat
from sam_ft.export.huggingface import export_huggingface
from sam_ft.export.model_card import upload_command
from sam_ft.export.official import export_official
from sam_ft.export.onnx import export_onnx
from sam_ft.export.quantize import measure_loss
from sam_ft.export.request import ExportRequest, export_name
from sam_ft.export.safetensors import export_safetensors
from sam_ft.training.checkpoint import load_partial_weights
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.files import refuse_links_within
from sam_ft.utils.leftovers import remove_leftovers

FORMATS: dict[str, Callable[[ExportRequest], list[Path]]] = {
    "official": export_official,
    "onnx": export_onnx,
    "huggingface": export_huggingface,
    "safetensors": export_safetensors,
    "cvat": export_cvat,
}
WITH_HEAD = ("safetensors", "cvat")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="export")
def main(cfg: DictConfig) -> None:
    with exit_cleanly(cfg):
        check_settings(cfg, str, ("run",))
        check_settings(cfg, str | None, ("output",))
        check_settings(cfg, bool, ("quantize", "debug"))
        check_settings(cfg, Sequence[str], ("trust",))
        if cfg.format not in FORMATS:
            raise ConfigError(f"format={cfg.format} is not known; choose one of {', '.join(FORMATS)}")
        if cfg.quantize and cfg.format != "onnx":
            raise ConfigError(f"quantize=true is an option of format=onnx, not of format={cfg.format}; leave it out")
        run = load_run(cfg.run, ("model", "data") if cfg.quantize else ("model",), cfg.trust)
        data = build(run.cfg.data) if cfg.quantize else None
        model = build(run.cfg.model)
        # The base weights with the trained ones on top.
        checkpoint = run.directory / "checkpoints/best.safetensors"
        notes = load_partial_weights(model, checkpoint)
        name = export_name(model.model_type, run.directory, checkpoint) + ("_int8" if cfg.quantize else "")
        folder = Path(cfg.output or run.directory / "export" / f"{name}_{cfg.format}").expanduser()
        export = partial(export_onnx, quantize=cfg.quantize) if cfg.format == "onnx" else FORMATS[cfg.format]
        refuse_links_within(run.directory, folder)
        remove_leftovers(folder, deep=True)
        files = export(ExportRequest(model.eval(), run.directory, folder, name, notes))
        print(*(f"{file} ({file.stat().st_size / 1e6:.1f} MB)" for file in files), sep="\n")
        if cfg.format == "huggingface":
            print(f"not uploaded; to publish it: {upload_command(name, folder)}")
        if data is not None:
            tile = getattr(data, "tile", None)
            print(measure_loss(model, data, notes.get("tile", tile) if tile == "auto" else tile, *files[:2]))
        if model.head is not None and cfg.format not in WITH_HEAD:
            print(f"left out: the head, for which format={cfg.format} has no place; predict.py finds objects with it")


if __name__ == "__main__":
    with exit_cleanly():
        main()
