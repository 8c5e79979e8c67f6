"""SIGTERM and SIGUSR1, by which a scheduler takes a machine back: training saves its state before it ends.

A signal reaches each process at another time, and a process that stopped alone would leave the others waiting. So it is
only noted. It travels along in the sum with which each step begins, see `training.step`, and after that step all
processes stop. The wish to save by the clock, which the main process alone reads, travels with it.
"""

import signal
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from sam_ft.utils import distributed
from sam_ft.utils.errors import Preempted, Terminated

T = TypeVar("T")

SAVE = 0  # the wish to save and go on; the others are the numbers of signals
STOPS: dict[int, type[Terminated]] = {signal.SIGTERM: Terminated}
if hasattr(signal, "SIGUSR1"):  # not on Windows
    STOPS[signal.SIGUSR1] = Preempted
WISHES = (SAVE, *STOPS)


class Preemption:
    """The wishes of this process, and those that all processes know of.

    waits: whether a signal waits for the end of a step; before training and after it, it ends the program at once
    """

    def __init__(self) -> None:
        self.waits = False
        self._wishes: set[int] = set()
        self._agreed: set[int] = set()

    def forget(self) -> None:
        """A process may train several runs."""
        self.waits = False
        self._wishes.clear()
        self._agreed.clear()

    def note(self, wish: int) -> bool:
        """Notes a signal, or the wish to save; → whether it waits."""
        if self.waits and wish in WISHES:
            self._wishes.add(wish)
        return self.waits and wish in WISHES

    def shares(self) -> list[float]:
        """The wishes of this process as numbers, whose sums over all processes `agree` takes."""
        return [float(wish in self._wishes) for wish in WISHES]

    def agree(self, sums: Sequence[float]) -> None:
        self._agreed |= {wish for wish, total in zip(WISHES, sums, strict=True) if total}

    def agreed(self) -> bool:
        """Whether all processes know of a wish, so that each does what follows at the same step."""
        if distributed.world_size() == 1:
            self.agree(self.shares())
        return bool(self._agreed)

    def settle(self) -> None:
        """Takes back the wishes that all know of, once the state is saved. Raises: Terminated after a signal"""
        agreed, self._agreed = self._agreed, set()
        self._wishes -= {SAVE}
        _raise_first(agreed)

    def stop(self) -> None:
        """Raises: Terminated if a signal waits"""
        _raise_first(self._wishes)

    def stoppable(self, items: Iterable[T]) -> Iterator[T]:
        """The items of a loop that holds nothing to save, in which a signal need not wait. Raises: Terminated

        The main process leaves it first: it saves what was done before, and the others would find it gone.
        """
        for item in items:
            if distributed.is_main():
                self.stop()
            yield item

    @property
    def is_stopping(self) -> bool:
        return bool((self._wishes | self._agreed) - {SAVE})


def _raise_first(wishes: set[int]) -> None:
    for number, stop in STOPS.items():
        if number in wishes:
            raise stop


preemption = Preemption()  # one for the process, as signals are
