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
