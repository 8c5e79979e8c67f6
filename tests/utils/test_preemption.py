import signal

import pytest

from sam_ft.utils import distributed
from sam_ft.utils.errors import Preempted, Terminated
from sam_ft.utils.preemption import SAVE, Preemption


def waiting():
    one = Preemption()
    one.waits = True
    return one


def test_a_signal_waits_only_in_training():
    one = Preemption()
    assert not one.note(signal.SIGTERM)
    assert not one.agreed()
    one.waits = True
    assert one.note(signal.SIGTERM)
    assert not one.note(signal.SIGINT)  # ends the program at once
    assert one.agreed()
    with pytest.raises(Terminated):
        one.settle()


def test_the_wish_to_save_stops_nothing_and_is_forgotten_once_it_is_done():
    one = waiting()
    one.note(SAVE)
    assert one.agreed()
    assert not one.is_stopping
    one.settle()
    assert not one.agreed()


@pytest.mark.parametrize(("number", "stop"), [(signal.SIGTERM, Terminated), (signal.SIGUSR1, Preempted)])
def test_processes_act_on_what_one_of_them_has_noted_once_the_sum_has_told_all(monkeypatch, number, stop):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    processes = [waiting(), waiting()]
    processes[1].note(number)
    assert not any(one.agreed() for one in processes)
    sums = [sum(shares) for shares in zip(*(one.shares() for one in processes), strict=True)]
    for one in processes:
        one.agree(sums)
        assert one.agreed()
        with pytest.raises(stop) as caught:
            one.settle()
        assert caught.type is stop


def test_the_main_process_alone_leaves_a_loop(monkeypatch):
    one = waiting()
    items = one.stoppable(range(5))
    assert [next(items), next(items)] == [0, 1]
    one.note(signal.SIGUSR1)
    with pytest.raises(Preempted):
        next(items)
    monkeypatch.setattr(distributed, "is_main", lambda: False)
    assert list(one.stoppable(range(5))) == [0, 1, 2, 3, 4]


def test_the_exit_codes_are_those_that_schedulers_expect():
    assert (Terminated.exit_code, Preempted.exit_code) == (143, 0)


def test_a_second_run_of_the_process_knows_nothing_of_the_first():
    one = waiting()
    one.note(signal.SIGTERM)
    one.agree(one.shares())
    one.forget()
    assert not one.agreed()
    assert not one.is_stopping
    assert not one.note(signal.SIGTERM)
