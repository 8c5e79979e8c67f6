"""Disks that are full or read-only. What needs root is skipped without it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import start

LIMITED = "import os, resource, sys; n = int(sys.argv[1]); resource.setrlimit(resource.RLIMIT_FSIZE, (n, n)); "


@pytest.fixture
def small_disk(tmp_path):
    """A Disk of 300 kB."""
    if sys.platform != "linux" or os.geteuid():
        pytest.skip("only root on Linux can mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("this container may not mount")
    yield Disk(place)
    subprocess.run(["umount", "--lazy", place], check=True)


class Disk:
    def __init__(self, place: Path) -> None:
        self.place = place

    def resize(self, size: str) -> None:
        self._remount(f"size={size}")

    def protect(self) -> None:
        self._remount("ro")

    def fill(self, leave: int = 0) -> None:
        """Writes a file that leaves so many bytes."""
        with open(self.place / "filler", "wb", buffering=0) as file:
            file.write(bytes(max(0, self.free - leave)))

    def empty(self) -> None:
        (self.place / "filler").unlink()

    @property
    def free(self) -> int:
        status = os.statvfs(self.place)
        return status.f_bavail * status.f_frsize

    def _remount(self, option: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{option}", self.place], check=True)


def with_file_limit(size: int, *command: str, **environment: str):
    """A Python command that cannot write a file of more than `size` bytes."""
    code = LIMITED + "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    return start(sys.executable, "-c", code, str(size), *command, **environment)
