"""The file of messages is read and rewritten as tests/support/messages.py describes."""

import json

import pytest

SPOKEN = """
import pytest
def test_says(messages, tmp_path):
    with messages.raises(ValueError, "a.png"):
        raise ValueError(f"{tmp_path}/a.png is bad\\nat 127.0.0.1:8000")
def test_quiet():
    pass
"""
KEY = "tests/test_it.py::test_says 1"
TEXT = "TMP/a.png is bad\nat 127.0.0.1:PORT"


@pytest.fixture
def suite(pytester):
    """Runs a suite of two tests, with a file of such messages; gives the outcomes and the file afterwards."""
    folder = pytester.mkdir("tests")

    def run(known, *arguments, source=SPOKEN):
        (folder / "test_it.py").write_text(source)
        (folder / "messages.json").write_text(json.dumps(known))
        result = pytester.runpytest("-p", "tests.support.messages", "-p", "no:cacheprovider", *arguments)
        return result, json.loads((folder / "messages.json").read_text())

    return run


def test_a_known_message_passes_and_another_or_an_unknown_one_fails_with_both_texts(suite):
    suite({KEY: TEXT})[0].assert_outcomes(passed=2)
    for known in ({KEY: "old words"}, {}):
        result, left = suite(known)
        result.assert_outcomes(passed=1, failed=1)
        assert left == known
        shown = result.stdout.str()
        assert all(part in shown for part in (str(known.get(KEY)), "now: TMP/a.png is bad", "--update-messages"))


def test_update_mends_the_file_and_drops_what_is_stale(suite):
    stale = {
        "tests/test_it.py::test_says 2": "no longer checked",
        "tests/test_it.py::test_gone 1": "the test is gone",
        "tests/gone.py::test 1": "the file is gone",
    }
    result, left = suite({KEY: "old words", **stale}, "--update-messages", "-n2")
    result.assert_outcomes(passed=2)
    assert left == {KEY: TEXT}


def test_update_of_some_tests_keeps_the_messages_of_others(suite):
    known = {KEY: "old words", "tests/test_it.py::test_gone 1": "not looked for"}
    for arguments in (["-k", "quiet"], ["tests/test_it.py::test_quiet"]):
        _, left = suite(known, "--update-messages", *arguments)
        assert left[KEY] == "old words"
    assert left == known  # tests given by name do not show which ones are gone
    failing = SPOKEN.replace("with messages", "assert not tmp_path\n    with messages")
    assert suite({KEY: TEXT}, "--update-messages", source=failing)[1] == {KEY: TEXT}
