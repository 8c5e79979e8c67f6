"""Trackers: services that show the numbers of runs."""

import logging
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from sam_ft.utils.files import as_json

log = logging.getLogger("sam_ft")

FINISH_SECONDS = 60.0  # limit of a tracker's remaining uploads at the end of a run


class Tracker(Protocol):
    """A service that receives metrics and pictures, such as Weights & Biases. Any method may raise any exception.

    `start` comes first, then `rewind`, once: the run goes on after this step, or starts anew with -1.
    """

    def start(self, directory: Path, name: str, settings: dict) -> None: ...

    def rewind(self, step: int) -> None: ...

    def log(self, step: int, values: dict) -> None: ...

    def picture(self, step: int, title: str, path: Path) -> None: ...

    def finish(self, failed: bool) -> None: ...


class Wandb:
    """Weights & Biases: online if a key is configured and the server responds, else offline in the run directory.

    Never prompts for a key on the terminal, unlike wandb itself: a run may be unattended.

    project: W&B project of the run · mode: auto, online, offline or disabled; $WANDB_MODE overrides it, as in wandb
    timeout: seconds to wait for the server at the start · pictures: also send pictures, which contain the images
    """

    def __init__(
        self, project: str = "sam-ft", mode: str = "auto", timeout: float = 15.0, pictures: bool = False
    ) -> None:
        self.project = project
        self.mode = mode
        self.timeout = timeout
        self.pictures = pictures

    def start(self, directory: Path, name: str, settings: dict) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")  # otherwise it prints a dozen lines per run
        # Reports of wandb's own errors hold paths, and without a network wandb waits 20 s for them at the end.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb  # here, because it takes a second to import

        self._wandb = wandb
        mode = os.environ.get("WANDB_MODE") or self.mode
        try:
            if mode in ("auto", "online"):
                mode = self._online_with_key(mode)
            self._run = self._init(mode, directory, name, settings)
        # A key of the wrong form, or a server that does not respond in time or refuses the run.
        except (wandb.errors.Error, OSError) as error:
            log.warning("wandb: %s; logging offline", str(error).splitlines()[0])
            mode = "offline"
            self._run = self._init(mode, directory, name, settings)
        where = f"wandb sync {Path(self._run.dir).parent}" if mode == "offline" else self._run.url
        log.info("wandb: %s (%s)", mode, where)

    def _online_with_key(self, wanted: str) -> str:
        """ "online" if a key is configured, in the environment, wandb's settings or netrc, else "offline"."""
        # Without a prompt and without a request to the server: only looks for a key.
        if self._wandb.login(prompt=False, verify=False):
            return "online"
        if wanted == "online":
            log.warning("wandb: mode=online, but no key is configured (wandb login); logging offline")
        return "offline"

    def _init(self, mode: Any, directory: Path, name: str, settings: dict):
        return self._wandb.init(
            project=self.project,
            name=name,
            dir=directory,
            config=settings,
            mode=mode,
            reinit="finish_previous",
            settings=self._wandb.Settings(
                init_timeout=self.timeout,
                finish_timeout=FINISH_SECONDS,  # wandb's exit hook respects it too
                finish_timeout_raises=True,  # otherwise a timeout looks like success
                console="off",  # the run has its own log
                disable_git=True,  # nothing of the user's repository is uploaded
                save_code=False,
            ),
        )

    def rewind(self, step: int) -> None:
        """Does nothing: a run that goes on is a new run of W&B."""

    def log(self, step: int, values: dict) -> None:
        self._run.log(values, step=step)

    def picture(self, step: int, title: str, path: Path) -> None:
        """Sends a picture, if that is wanted."""
        if self.pictures:
            self._run.log({title: self._wandb.Image(str(path))}, step=step)

    def finish(self, failed: bool) -> None:
        """Waits for uploads for a limited time: a lost server must not keep the process alive."""
        try:
            self._run.finish(exit_code=int(failed))
        except TimeoutError:
            log.warning("wandb: upload not finished; `wandb sync %s` later", Path(self._run.dir).parent)


class TensorBoard:
    """TensorBoard: an event file in the run directory at each start. Nothing is sent.

    pictures: also write pictures

    Raises: ValueError when the package is not installed.
    """

    def __init__(self, pictures: bool = True) -> None:
        if find_spec("tensorboard") is None:
            raise ValueError('needs the package tensorboard; pip install "sam-ft[tensorboard]"')
        self.pictures = pictures

    def start(self, directory: Path, name: str, settings: dict) -> None:
        self._folder, self._settings = directory / "tensorboard", settings

    def rewind(self, step: int) -> None:
        """Opens an event file, which hides the values of earlier ones after `step`."""
        from torch.utils.tensorboard import SummaryWriter  # here, because it takes a second to import

        self._writer = SummaryWriter(str(self._folder), purge_step=step + 1)
        self._writer.add_text("settings", f"```\n{as_json(self._settings, indent=2)}\n```", max(0, step))

    def log(self, step: int, values: dict) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # a run that is killed goes on from the last epoch, whose values must be there

    def picture(self, step: int, title: str, path: Path) -> None:
        if self.pictures:
            with Image.open(path) as image:
                self._writer.add_image(title, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def finish(self, failed: bool) -> None:
        self._writer.close()
