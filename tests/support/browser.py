"""Drives the page in Chromium by tests/app/browser.js.

Needs node, Chromium and playwright-core: $SAM_FT_PLAYWRIGHT names the folder with its node_modules. $SAM_FT_PICTURES
names a folder for screenshots.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.cli import ROOT

PLAYWRIGHT = Path(os.environ.get("SAM_FT_PLAYWRIGHT", "."))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = [
    name
    for name, found in (
        ("node", shutil.which("node")),
        ("chromium", CHROMIUM),
        ("playwright-core in $SAM_FT_PLAYWRIGHT", (PLAYWRIGHT / "node_modules/playwright-core").is_dir()),
    )
    if not found
]
needs_browser = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")


def drive(address, **given):
    """What the browser saw on the page at this address."""
    given |= {"address": address, "chromium": CHROMIUM, "pictures": os.environ.get("SAM_FT_PICTURES")}
    command = ["node", str(ROOT / "tests/app/browser.js"), json.dumps(given)]
    environment = {**os.environ, "NODE_PATH": str(PLAYWRIGHT.resolve() / "node_modules")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)
