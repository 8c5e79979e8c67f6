import io
import re
from types import SimpleNamespace

import pytest

from sam_ft.utils.progress import LOG_SECONDS, progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test adds them, of a process whose stderr is a file."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("sam_ft.utils.progress.time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr("sys.stderr", io.StringIO())
    return clock


def logged(caplog, clock, seconds):
    """[(percent, time left)] of the log, where the items take these seconds each."""
    with caplog.at_level("INFO", logger="sam_ft"):
        for spent in progress(seconds, "predict"):
            clock.now += spent
    return [re.findall(r"(\d+) %.* (\d\d:\d\d)", line)[0] for line in caplog.messages]


def test_the_time_left_is_that_of_the_items_left_at_the_mean_so_far(clock, caplog):
    assert logged(caplog, clock, [20, 40, 30, 30]) == [("25", "01:00"), ("50", "01:00"), ("75", "00:30")]


def test_a_line_comes_no_sooner_than_some_seconds_after_the_last(clock, caplog):
    assert logged(caplog, clock, [LOG_SECONDS / 3] * 9) == [("33", "00:30"), ("67", "00:15")]


def test_every_item_is_given_and_short_work_has_no_lines(clock, caplog):
    assert list(progress("abc", "predict")) == ["a", "b", "c"]
    assert logged(caplog, clock, [1, 1]) == []
    assert list(progress([], "predict")) == []
