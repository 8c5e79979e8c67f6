"""How a script ends: a user's mistake, Ctrl-C and SIGTERM each become one line and an exit code."""

import inspect
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.errors import CompactHydraException
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from sam_ft.cli.config import in_sweep
from sam_ft.cli.messages import USUAL, check_names, check_switches, in_plain_words
from sam_ft.cli.sweeps import record_sweep_job
from sam_ft.utils import distributed
from sam_ft.utils.errors import ConfigError, Terminated, UserError


class JobFailed(CompactHydraException):
    """A job of a sweep ended with a user's mistake. Hydra goes on with the others and raises it at the end."""


@contextmanager
def user_errors(cfg: DictConfig | None = None, usual: str = USUAL) -> Iterator[None]:
    """Turns a user's mistake into one line on stderr and its exit code; other errors keep their traceback.

    So it does with Ctrl-C and with SIGTERM, which exit with 130 and 143. In a sweep the mistake is noted in
    sweep.jsonl and, in one process, the other jobs go on; it is repeated at the end, which exits with 1.

    cfg: what Hydra made of the command line, inside of the function that it calls; nothing around that
    usual: what the script is given first, with VALUE for what is probably meant where there is a value alone
    """
    if cfg is None:
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # it raises what it would print, to be put into our words here
    try:
        with _signals():
            if cfg is not None:
                check_names(cfg)
                check_switches(cfg)
            try:
                yield
            finally:
                sys.stdout.flush()  # now, for if nobody reads it any more, Python's own last flush would complain
    except KeyboardInterrupt as stop:
        if distributed.is_main():
            then = stop.args[0] if stop.args else "start anew; what was encoded is kept"
            line = "\n" if sys.stderr.isatty() else ""  # where a progress bar may stand
            print(f"{line}interrupted; run the same command again to {then}", file=sys.stderr, flush=True)
        raise SystemExit(143 if isinstance(stop, Terminated) else 130) from None
    except BrokenPipeError:
        if not _nobody_reads():  # a pipe of another kind
            raise
        stop_printing()
        raise SystemExit(141) from None  # as a shell says of what SIGPIPE ended
    except JobFailed as failed:
        print(failed, file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    except (UserError, OmegaConfBaseException, CompactHydraException, ValueError) as error:
        if isinstance(error, ValueError) and not _of_the_command_line(error):
            raise
        if cfg is not None and cfg.debug is True:
            traceback.print_exc()
        who = f"[process {distributed.rank()}] " if distributed.world_size() > 1 else ""
        text = _words(error, usual)
        print(f"{who}error: {text}", file=sys.stderr, flush=True)
        if in_sweep():
            record_sweep_job({"error": text})
            # of several processes one alone may have failed: it cannot begin the next job while they wait in this
            if distributed.world_size() == 1:
                raise JobFailed(f"error: {text}") from None
        raise SystemExit(error.exit_code if isinstance(error, UserError) else ConfigError.exit_code) from None


def _of_the_command_line(error: ValueError) -> bool:
    """Whether Hydra raised it itself before it called the program, of which anything else is a fault."""
    frames = traceback.extract_tb(error.__traceback__)
    hydra = str(Path(inspect.getfile(CompactHydraException)).parent)
    return frames[-1].filename.startswith(hydra) and "run_job" not in [frame.name for frame in frames]


def _words(error: UserError | OmegaConfBaseException | CompactHydraException | ValueError, usual: str) -> str:
    if isinstance(error, CompactHydraException | ValueError):
        return in_plain_words(error, usual)
    text = str(error).split("\n")[0] if isinstance(error, OmegaConfBaseException) else str(error)
    return f"{text}; add {error.full_key}=... to the command" if isinstance(error, MissingMandatoryValue) else text


def _nobody_reads() -> bool:
    """Whether standard output is a pipe whose other end is closed, as after `| head`."""
    if not hasattr(select, "poll"):  # Windows, where this is another error
        return False
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def stop_printing() -> None:
    """Lets all further output go nowhere, once nobody reads it; Python would fail again in its own last flush."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _signals() -> Iterator[None]:
    """Lets SIGTERM unwind the program as Ctrl-C does: files that are being written are cleaned up, locks given back."""

    def stop(number: int, _: Any) -> None:
        # The second one ends a program that hangs on its way out; torchrun, though, always sends two.
        signal.signal(number, signal.SIG_IGN if "TORCHELASTIC_RUN_ID" in os.environ else signal.SIG_DFL)
        if hasattr(signal, "SIGCHLD"):  # torch would raise an error for each loader worker that the same signal ended
            signal.signal(signal.SIGCHLD, lambda *_: None)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # where Python takes no handlers
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
