"""The end of a process group."""

import sys

import pytest

from tests.support.cli import torchrun


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_thread_of_the_group_is_left_when_the_program_ends():
    done = torchrun("-m", "tests.support.gloo_threads")
    assert done.code == 0, done.err
    assert sorted(done.out.split()) == ["0:True,0", "1:True,0"]


@pytest.mark.slow
def test_a_program_may_join_two_groups_one_after_the_other():
    # as sam_ft.train and then sam_ft.evaluate in one script; the main process is late for the second one
    done = torchrun("-m", "tests.support.gloo_threads", "twice")
    assert done.code == 0, done.err
    assert sorted(done.out.split()) == ["0:True,0"] * 2 + ["1:True,0"] * 2


@pytest.mark.slow
def test_a_program_that_exits_with_an_error_does_not_shut_the_interpreter_down():
    # gloo's threads run on in it, and may abort a process that is shutting down
    done = torchrun("-m", "tests.support.gloo_threads", "exit")
    assert "exitcode  : 3" in done.err
    assert sorted(done.out.split()) == ["leaving"] * 2
