"""predict.py, killed while it writes its n-th label image: python -m tests.support.killed_predict N OVERRIDES"""

import os
import runpy
import signal
import sys

import tifffile

imwrite, written = tifffile.imwrite, 0


def write_or_die(path, *arguments, **options):
    global written
    written += 1
    if written == last:
        path.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    imwrite(path, *arguments, **options)


if __name__ == "__main__":
    last = int(sys.argv.pop(1))
    tifffile.imwrite = write_or_die
    runpy.run_path("predict.py", run_name="__main__")
