import os
import sys

import pytest
import torch
from filelock import FileLock

from tests.support.blobs import write_folder
from tests.support.cli import SMALL, call, call_once, start

pytest_plugins = ["pytester", "tests.support.messages", "tests.support.disks"]

# Processes that share the cores must not each start a thread per core: they would only wait for each other.
workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
torch.set_num_threads(max(1, torch.get_num_threads() // workers))


def pytest_collection_modifyitems(items):
    """The files with the longest tests first, or a worker would be left with one of them at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(("tests/end_to_end/", "tests/test_invariants.py")))


@pytest.fixture(autouse=True, scope="session")
def home(tmp_path_factory):
    """A cache folder of the tests' own: nothing of the user's is read or written."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("SAM_FT_HOME", str(folder))
        patch.setenv("WANDB_MODE", "offline")
        yield folder


@pytest.fixture
def cli(capsys, monkeypatch):
    """`cli("train.py", "epochs=1", ...)` runs a script in this process."""
    return lambda script, *overrides: call(script, *overrides, capsys=capsys, monkeypatch=monkeypatch)


@pytest.fixture(scope="session")
def blobs(tmp_path_factory):
    """A folder of 9 small images, 6 to train on."""
    return write_folder(tmp_path_factory.mktemp("data") / "blobs", [2, 3, 0, 4, 1, 5, 3, 2, 4])


@pytest.fixture(scope="session")
def run(blobs, tmp_path_factory):
    """The directory of a finished run on `blobs`."""
    directory = tmp_path_factory.mktemp("runs") / "blobs"
    call_once("train.py", *SMALL, *of(blobs), f"run_dir={directory}", "epochs=2")
    return directory


@pytest.fixture(scope="session")
def two_processes(tmp_path_factory):
    """`two_processes(job)`: the result on each rank of a job of tests/support/two_processes.py.

    The first test that needs one starts the processes once for all jobs, also of the other pytest workers.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "two_processes"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            done = start(sys.executable, "-m", "tests.support.two_processes", str(folder))
            (folder / "stderr").write_text(done.err)

    def results(job):
        assert (folder / f"{job}.1").exists(), (folder / "stderr").read_text()
        return [torch.load(folder / f"{job}.{rank}", weights_only=True) for rank in range(2)]

    return results


def of(folder):
    """The overrides that train on instances of a folder written by `write_folder`."""
    return ["data=folder", f"data.root={folder}", "data.objects=instances", "data.mask_folder=instances"]
