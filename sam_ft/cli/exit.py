"""How a script ends: a user's mistake, Ctrl-C, SIGTERM and SIGUSR1 each become one line and an exit code."""

import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from hydra.errors import CompactHydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from sam_ft.cli.config import is_sweep_job
from sam_ft.cli.hints import check_flags, check_setting_names, explain_error
from sam_ft.cli.sweeps import record_sweep_job
from sam_ft.data.workers import explain_worker_failure
from sam_ft.utils import distributed
from sam_ft.utils.disk import NO_ACCESS, NO_ROOM, write_error
from sam_ft.utils.errors import ConfigError, Preempted, Terminated, TrainingError, UserError
from sam_ft.utils.memory import explain_any_out_of_memory, is_out_of_memory
from sam_ft.utils.preemption import STOPS, preemption

SAME_SECONDS = 2.0  # timeout, and others that signal a process and its group, send one wish twice
INTERRUPTED = (130, 143, 0)  # exit codes after Ctrl-C, SIGTERM and SIGUSR1


@contextmanager
def exit_cleanly(cfg: DictConfig | None = None) -> Iterator[None]:
    """Turns a user's mistake into one line on stderr and its exit code; other errors keep their traceback.

    Ctrl-C exits with 130, SIGTERM with 143, SIGUSR1 with 0. In a sweep the mistake is recorded in sweep.jsonl; with
    one process the other jobs run, and the script repeats the mistake at its end and exits with 1.

    It is entered twice: around the whole program, without `cfg`, and inside the function that Hydra calls, with it.
    """
    if cfg is None:
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises its errors instead of printing them
    try:
        with _handle_signals():
            if cfg is None:
                check_flags()
            else:
                check_setting_names(cfg)
            try:
                yield
            finally:
                sys.stdout.flush()  # now: on a closed pipe, Python's own flush at exit would print an error
    except KeyboardInterrupt as stop:
        if distributed.is_main() and distributed.end_of_others() in (None, *INTERRUPTED):
            then = stop.args[0] if stop.args else "start anew; what was encoded is kept"
            line = "\n" if sys.stderr.isatty() else ""  # below a progress bar
            _print_error(f"{line}interrupted; run the same command again to {then}")
        raise SystemExit(stop.exit_code if isinstance(stop, Terminated) else 130) from None
    except BrokenPipeError:
        if not _stdout_is_closed():  # another pipe
            raise
        discard_stdout()
        raise SystemExit(141) from None  # 128 + SIGPIPE, as a shell reports it
    except (
        RuntimeError,
        MemoryError,
        UserError,
        OSError,
        OmegaConfBaseException,
        CompactHydraException,
        ValueError,
        YAMLError,
    ) as error:
        if isinstance(error, ValueError | YAMLError) and not _is_of_command_line(error):
            raise
        if isinstance(error, RuntimeError | MemoryError):
            error = _explain(error)
        if isinstance(error, OSError) and not isinstance(error, UserError | CompactHydraException):
            if error.errno not in NO_ROOM | NO_ACCESS:
                raise
            error = write_error(Path(error.filename), error) if error.filename else ConfigError(error.strerror)
        if cfg is not None and cfg.debug is True:
            traceback.print_exc()
        process = f"[process {distributed.rank()}] " if distributed.world_size() > 1 else ""
        message = explain_error(error)
        if distributed.is_first(message):
            _print_error(f"{process}error: {message}")
        if is_sweep_job():
            record_sweep_job({"error": message})
            # With one process Hydra runs the other jobs and raises this at the end; of several, one alone may have
            # failed: it cannot start the next job while the others wait for it in this one.
            if distributed.world_size() == 1:
                raise UserError(message) from None
        raise SystemExit(error.exit_code if isinstance(error, UserError) else ConfigError.exit_code) from None


def _explain(error: RuntimeError | MemoryError) -> UserError:
    """The user's side of an error of torch; a bug is raised again."""
    if is_out_of_memory(error):
        return explain_any_out_of_memory(error)
    if failure := explain_worker_failure(error):
        return failure
    if distributed.is_lost_connection(error):
        if threading.current_thread() is threading.main_thread():  # torchrun ends all others with it
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        code = distributed.end_of_others(wait=5)
        if code is not None:  # which has printed its message
            raise SystemExit(code) from None
        return TrainingError(
            "another process of this run has ended without a message; if it was killed, most likely memory has run "
            "out: set a smaller batch_size= or workers=. The same command continues from the last checkpoint"
        )
    raise error


def _print_error(line: str) -> None:
    """Writes the line and its end in one call, so that lines of several processes do not run into each other.

    print() writes the end by itself where Python's output is unbuffered (PYTHONUNBUFFERED, as in many containers).
    """
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _is_of_command_line(error: Exception) -> bool:
    """Whether Hydra raised it before it called the program, out of which a ValueError is a bug."""
    functions = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    return "_run_hydra" in functions and "run_job" not in functions


def _stdout_is_closed() -> bool:
    """Whether standard output is a pipe whose reader has gone, as after `| head`."""
    if not hasattr(select, "poll"):  # on Windows, which raises another error for it
        return False
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def discard_stdout() -> None:
    """Redirects standard output to the null device once its reader has gone; Python's flush at exit would fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end_unless_same(first: float, number: int, _: Any) -> None:
    """A second signal while the first one waits for the end of a step. first: when that came"""
    if time.monotonic() - first > SAME_SECONDS:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


@contextmanager
def _handle_signals() -> Iterator[None]:
    """Makes SIGTERM and SIGUSR1 unwind the program as Ctrl-C does, which removes temporary files and releases locks.

    In training they wait for the end of a step.
    """

    def stop(number: int, _: Any) -> None:
        # A second one kills a program that hangs while it exits. Not SIGUSR1, nor under torchrun, which sends two.
        once = "TORCHELASTIC_RUN_ID" in os.environ or STOPS.get(number) is Preempted
        signal.signal(number, signal.SIG_IGN if once else signal.SIG_DFL)
        if preemption.note(number):
            if not once:
                signal.signal(number, partial(_end_unless_same, time.monotonic()))
            return
        if hasattr(signal, "SIGCHLD"):  # the signal also ends the loader's workers, for which torch would raise errors
            signal.signal(signal.SIGCHLD, lambda *_: None)
        raise STOPS.get(number, KeyboardInterrupt)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, *STOPS)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
