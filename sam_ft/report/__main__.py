"""python -m sam_ft.report run=outputs/NAME"""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from sam_ft.cli.exit import exit_cleanly
from sam_ft.cli.hints import CONF
from sam_ft.cli.setting_checks import check_settings, check_type
from sam_ft.report.page.html import write_report
from sam_ft.utils.files import refuse_links
from sam_ft.utils.leftovers import remove_leftovers


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="report")
def main(cfg: DictConfig) -> None:
    with exit_cleanly(cfg):
        check_settings(cfg, str, ("run",))
        check_settings(cfg, str | None, ("output",))
        check_type("report.names", cfg.report.names, bool | None)
        check_settings(cfg, bool, ("debug",))
        directory = Path(cfg.run).expanduser()
        path = directory / "report.html" if cfg.output is None else Path(cfg.output).expanduser()
        refuse_links(directory, path)
        remove_leftovers(path.parent)
        write_report(directory, cfg.report.names, path)
        print(f"written to {path} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    with exit_cleanly():
        main()
