"""python -m sam_ft.app run=outputs/NAME [images=DIR]"""

import os
import sys
import webbrowser

import hydra
from omegaconf import DictConfig

from sam_ft.app.start import make_server
from sam_ft.cli.exit import exit_cleanly
from sam_ft.cli.hints import CONF
from sam_ft.cli.logs import log_to


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="app")
def main(cfg: DictConfig) -> None:
    with exit_cleanly(cfg), log_to():
        server = make_server(cfg)
        print(f"{server.address}\nserved until Ctrl-C; images stay on this machine", flush=True)
        if cfg.browser and _has_screen():
            webbrowser.open(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:  # the usual end
            print()
        finally:
            server.server_close()
        # A request may still compute in a thread of its own, and the interpreter would abort while it shuts down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _has_screen() -> bool:
    """Whether a browser would open a window: a text browser would take over the terminal."""
    return sys.platform in ("darwin", "win32") or any(name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY"))


if __name__ == "__main__":
    with exit_cleanly():
        main()
