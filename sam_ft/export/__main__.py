"""python -m sam_ft.export run=outputs/NAME format=official"""

from collections.abc import Sequence
from pathlib import Path

import hydra
from omegaconf import DictConfig

from sam_ft.cli.config import build
from sam_ft.cli.exit import exit_cleanly
from sam_ft.cli.hints import CONF
from sam_ft.cli.runs import load_run
from sam_ft.cli.setting_checks import check_settings
from sam_ft.export import export_official
from sam_ft.training.checkpoint import load_partial_weights
from sam_ft.utils.errors import ConfigError

FORMATS = {"official": (export_official, ".pth")}


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="export")
def main(cfg: DictConfig) -> None:
    with exit_cleanly(cfg):
        check_settings(cfg, str, ("run",))
        check_settings(cfg, str | None, ("output",))
        check_settings(cfg, Sequence[str], ("trust",))
        check_settings(cfg, bool, ("debug",))
        if cfg.format not in FORMATS:
            raise ConfigError(f"format={cfg.format} is not known; choose one of {', '.join(FORMATS)}")
        export, suffix = FORMATS[cfg.format]
        run = load_run(cfg.run, ("model",), cfg.trust)
        model = build(run.cfg.model)
        # The base weights with the trained ones on top: the file holds all of them.
        load_partial_weights(model, run.directory / "checkpoints/best.safetensors")
        path = Path(cfg.output or run.directory / "export" / f"{model.model_type}_{run.directory.name}{suffix}")
        path = path.expanduser()
        try:
            export(model, path)
        except OSError as error:
            raise ConfigError(f"output={path}: cannot be written ({error.strerror}); choose another output=") from None
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
        if model.head is not None:
            print(
                f"without the head, for which format={cfg.format} has no place: masks without prompts are predict.py's"
            )


if __name__ == "__main__":
    with exit_cleanly():
        main()
