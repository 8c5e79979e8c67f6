"""Signs of life between the ranks of a run: one that stands still, or has ended, ends the others.

Every rank watches the next one. Messages go over the store in which the ranks have found each other, and not over the
process group: a rank that waits in it for another one cannot do anything else.
"""

import hashlib
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import torch.distributed as dist

BEAT = 5.0  # seconds
SILENT_BEATS = 9  # after which a rank stands still
GRACE_BEATS = 6  # for a rank to end by itself, once another one has ended
EXIT_CODE = 5  # of `errors.TrainingError`
LEFT = "left"


class Heartbeat:
    """A thread that shows this rank's life in the store and watches the next rank, and torchrun.

    store: a connection of its own, for the rank that waits in the store for the others blocks its connection

    If the watched rank shows none for `SILENT_BEATS` and uses no processor, or another one has ended early, this
    process ends, whatever its main thread does. Where torchrun has gone it gets SIGTERM, as from torchrun.
    """

    def __init__(self, store: dist.Store, rank: int, world_size: int) -> None:
        self._store, self._rank, self._watched = store, rank, (rank + 1) % world_size
        self._stop = threading.Event()
        self._parent = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None
        self._store.set(f"process{rank}", f"{socket.gethostname()} {os.getpid()} {_namespace()}")
        self._store.set(f"beat{rank}", "0")
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Tells the others that this rank has ended well."""
        self._stop.set()
        with suppress(RuntimeError):  # the store has gone with the rank that hosts it
            self._store.set(f"beat{self._rank}", LEFT)

    def announce_end(self, code: int) -> None:
        """Tells the others that this rank ends early, with an error or a signal of which it has printed the message."""
        self._stop.set()
        with suppress(RuntimeError):
            if not self._store.check(["end"]):  # the first one is the reason
                self._store.set("end", f"{self._rank} {code}")

    def end_of_others(self, wait: float = 0) -> int | None:
        """The exit code of a rank that has ended early; None if none has within `wait` seconds."""
        until = time.monotonic() + wait
        while True:
            with suppress(RuntimeError):
                if self._store.check(["end"]):
                    rank, code = map(int, self._store.get("end").decode().split())
                    return None if rank == self._rank else code
            if time.monotonic() >= until:
                return None
            time.sleep(0.1)

    def is_first(self, message: str) -> bool:
        """Whether no rank has printed this message before."""
        try:
            return self._store.add(f"printed {hashlib.sha256(message.encode()).hexdigest()}", 1) == 1
        except RuntimeError:
            return True

    def _run(self) -> None:
        beats, silent, last, seconds, ended = 0, 0, b"", 0.0, 0
        while not self._stop.wait(BEAT):
            beats += 1
            if self._parent is not None and os.getppid() != self._parent:
                self._follow_torchrun()
            try:
                self._store.set(f"beat{self._rank}", str(beats))
                ended += self._store.check(["end"])
                # A rank that joins late has shown no life yet.
                known = self._store.check([f"beat{self._watched}"])
                sign = self._store.get(f"beat{self._watched}") if known else last
                used = _processor_seconds(self._store.get(f"process{self._watched}").decode()) if known else 0.0
            except RuntimeError:  # the store does not answer at the moment: nobody could show life
                continue
            # A count of own beats and not the clock: all ranks may have been stopped and continued together.
            silent = 0 if sign != last or sign == LEFT.encode() or used > seconds else silent + 1
            last, seconds = sign, used
            if silent == SILENT_BEATS:
                self._end(self._silence())
            if ended > GRACE_BEATS:  # its main thread waits for the rank that has ended
                code = self.end_of_others()
                self._end("", EXIT_CODE if code is None else code)

    def _silence(self) -> str:
        host, pid, *_ = self._store.get(f"process{self._watched}").decode().split()
        return (
            f"[process {self._rank}] error: process {self._watched} (pid {pid} on {host}) has shown no sign of life "
            f"for {BEAT * SILENT_BEATS:.0f} s: it was stopped, or its machine does not respond. The run ends; the same "
            "command continues from its last checkpoint"
        )

    def _end(self, message: str, code: int = EXIT_CODE) -> None:
        """Ends the process at once: the main thread may wait in a library for ever."""
        if message:
            self.announce_end(code)
            sys.stderr.write(f"{message}\n")
        sys.stderr.flush()
        os._exit(code)

    def _follow_torchrun(self) -> None:
        if self._rank == 0:
            sys.stderr.write("torchrun has ended, and its processes end with it\n")
        os.kill(os.getpid(), signal.SIGTERM)
        if not self._stop.wait(BEAT * GRACE_BEATS):
            self._end("")


def _namespace() -> str:
    """The same for processes that see each other by their numbers; "" where that is unknown."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    return ""


def _processor_seconds(process: str) -> float:
    """The time that a process of this machine has computed, which a long call may do without any other sign of life.

    process: as in the store · → in ticks of the clock; 0 for a process of another machine
    """
    _, pid, *namespace = process.split()
    if not namespace or namespace[0] != _namespace():
        return 0.0
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return float(fields[11]) + float(fields[12])
    return 0.0
