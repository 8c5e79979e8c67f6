"""Where the log goes when its disk is full."""

import logging
import os
import subprocess
import sys

import pytest

from sam_ft.cli.logs import log_to
from tests.support.cli import ROOT

log = logging.getLogger("sam_ft")
pytestmark = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full is only on Linux")


def test_a_file_that_finds_no_room_is_one_warning_and_the_screen_has_all_lines(messages, tmp_path, capsys):
    file = tmp_path / "train.log"
    file.symlink_to("/dev/full")
    with log_to(file):
        log.info("one")
        log.info("two")
    out, err = capsys.readouterr()
    assert out == "one\ntwo\n"
    messages.check(err, file, "No space left on device", "bytes needed")
    assert err.count("\n") == 1


@pytest.mark.slow
def test_a_screen_that_finds_no_room_leaves_the_log_to_its_file(tmp_path):
    code = "import logging, pathlib, sys; from sam_ft.cli.logs import log_to\n"
    code += "with log_to(pathlib.Path(sys.argv[1])): [logging.getLogger('sam_ft').info('line %d', i) for i in range(3)]"
    file = tmp_path / "train.log"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, str(file)], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert [line[-6:] for line in file.read_text().splitlines()] == ["line 0", "line 1", "line 2"]
