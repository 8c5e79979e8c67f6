"""python -m sam_ft.predict names the commands that exist; masks for new images come from `sam_ft.Predictor`."""

from sam_ft.cli.commands import COMMANDS
from sam_ft.cli.exit import exit_cleanly
from sam_ft.utils.errors import ConfigError

if __name__ == "__main__":
    with exit_cleanly():
        raise ConfigError(
            f"there is no command predict; there are sam-ft {', '.join(COMMANDS)}. In Python: "
            'sam_ft.Predictor.from_run("outputs/NAME").predict("new.png", boxes=[[x0, y0, x1, y1]])'
        )
