"""Compares the wording of messages with tests/messages.json, which `pytest --update-messages` rewrites.

A test asserts the facts of a message (exit code, file, option and value); the words stand in that one file.
"""

import json
import re
import sysconfig
from contextlib import contextmanager
from pathlib import Path

import pytest

from sam_ft.utils.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]
VARYING = {  # differs between runs, machines or versions of libraries
    r"(?m)(cannot be (?:read|loaded)|too large to read) \(.*?\)(?=[;:.,]|$)": r"\1 (REASON)",
    r"(cannot be read): .*": r"\1: REASON",
    r"(127\.0\.0\.1|localhost):\d+": r"\1:PORT",
    r"\(\w+Error: .*\)(?=;)": "(REASON)",
    r"\[Errno \d+\] ": "",
    r"\(\d+ bytes": "(N bytes",
    r"\b[0-9a-f]{64}\b": "SHA256",
    r"Error while deserializing .*": "REASON",
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}": "TIME",
    r"0x[0-9a-f]{6,}": "ADDRESS",
    r"_[0-9a-f]{8}(?=[_.])": "_DIGEST",
    r"(The last files that it was given): .*": r"\1: FILES",
    r"\(pid \d+( on [\w.-]+)?": r"(pid N",
    r"\b([\d,]+ of )?[\d,]+ bytes (needed|free)": r"N bytes \2",
    r"\d+\.\d{4,}": "FLOAT",
    r"\b\d+(\.\d+)? (s|GB|images/s)\b": r"N \2",
}


def pytest_addoption(parser):
    parser.addoption("--update-messages", action="store_true", help="rewrite tests/messages.json in this process (-n0)")


@pytest.hookimpl(wrapper=True)  # before xdist's own, whichever was registered first
def pytest_cmdline_main(config):
    if config.option.update_messages and hasattr(config.option, "numprocesses"):
        config.option.numprocesses = 0  # one process writes, so that no worker's messages are lost
    return (yield)


def pytest_configure(config):
    config.pluginmanager.register(Snapshot(config), "messages")


@pytest.fixture
def messages(request, tmp_path_factory):
    """Checks the texts of this test: see `Messages`."""
    return Messages(request.config.pluginmanager.get_plugin("messages"), request.node.nodeid, tmp_path_factory)


class Snapshot:
    """The known messages, by test id and running number."""

    def __init__(self, config):
        self.path, self.update = config.rootpath / "tests/messages.json", config.option.update_messages
        self.known = self.read()
        self.recorded, self.passed, self.collected = {}, set(), set()
        self.whole_files = not any("::" in argument for argument in config.args)

    def read(self):
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}

    def compare(self, key, text):
        self.recorded[key] = text
        if not self.update and self.known.get(key) != text:
            hint = f"pytest --update-messages {key.split('::')[0]} rewrites tests/messages.json"
            pytest.fail(f"{key}\nin tests/messages.json: {self.known.get(key)}\nnow: {text}\n{hint}", pytrace=False)

    @pytest.hookimpl(tryfirst=True)  # before -k and -m take tests away
    def pytest_collection_modifyitems(self, items):
        self.collected = {item.nodeid for item in items}

    def pytest_runtest_logreport(self, report):
        if report.when == "call" and report.passed:
            self.passed.add(report.nodeid)

    def pytest_sessionfinish(self):
        if not self.update:
            return
        files = {test.split("::")[0] for test in self.collected} if self.whole_files else set()

        def stale(key):
            test, file = key.rpartition(" ")[0], key.split("::")[0]
            gone = file in files and test not in self.collected
            return test in self.passed or gone or not (self.path.parents[1] / file).exists()

        kept = {key: text for key, text in self.read().items() if not stale(key)}
        lines = json.dumps({**kept, **self.recorded}, indent=0, sort_keys=True, ensure_ascii=False) + "\n"
        self.path.write_text(lines, encoding="utf-8", errors="backslashreplace")  # a lone surrogate becomes \udc..


class Messages:
    """The texts of one test, numbered in the order in which they are checked."""

    def __init__(self, snapshot, test, tmp_path_factory):
        self.snapshot, self.test, self.checked = snapshot, test, []
        self.places = {  # a fixture's folder has a running number
            re.escape(str(tmp_path_factory.getbasetemp())) + r"(/popen-gw\d+)?(/\w+)?": "TMP",
            re.escape(sysconfig.get_path("purelib")): "SITE",
            re.escape(str(ROOT)): "ROOT",
        }

    def check(self, text, *facts):
        """Asserts that each fact is in the text, and that its words are those of the snapshot."""
        text = str(text)
        for fact in facts:
            assert str(fact) in text
        for pattern, shown in {**self.places, **VARYING}.items():
            text = re.sub(pattern, shown, text)
        if text not in self.checked:  # a repeated text stands in the file once
            self.checked.append(text)
            self.snapshot.compare(f"{self.test} {len(self.checked)}", text)

    def line(self, text, *facts):
        """The same for the one line that holds all the facts."""
        (line,) = (line for line in text.splitlines() if all(str(fact) in line for fact in facts))
        self.check(line)

    def logged(self, caplog, *facts):
        """The same for the one message in the log."""
        (text,) = caplog.messages
        self.check(text, *facts)

    @contextmanager
    def raises(self, kind, *facts):
        """pytest.raises, and the same for the exception's text."""
        with pytest.raises(kind) as caught:
            yield caught
        self.check(caught.value, *facts)

    def refusal(self, act, *facts):
        """The same for a user's mistake, whose text is returned."""
        with self.raises((DataError, ConfigError), *facts) as caught:
            act()
        return str(caught.value)

    def refused(self, done, code, *facts):
        """The same for a command: it ended with this code, and one line of its stderr is an error."""
        assert done.code == code, done
        assert "Traceback" not in done.err
        assert sum("error: " in line for line in done.err.splitlines()) == 1, done.err
        self.check(done.err[done.err.index("error: ") :], *facts)
