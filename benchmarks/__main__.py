"""Runs the benchmarks one after the other and writes each one's section of RESULTS.md as soon as it is done."""

import argparse
import subprocess
import sys

from benchmarks.harness import ROOT, say

NAMES = ("encoder", "decoder", "epoch", "overhead", "adapt", "scale", "predict")
RESULTS = ROOT / "benchmarks/RESULTS.md"
HEAD = """# Measured

Written by `python -m benchmarks`; `benchmarks/__init__.py` describes the method and the ratios. Every section names its
machine and commit.
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    chosen, options = parser.parse_known_args()
    if unknown := set(chosen.names) - {*NAMES}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose of {', '.join(NAMES)}")
    if options and len(chosen.names) != 1:
        parser.error(f"{' '.join(options)}: options go to one benchmark; name it")
    failed = [name for name in chosen.names or NAMES if not run(name, options)]
    if failed:
        say(f"failed, their sections are as before: {', '.join(failed)}")
    return len(failed)


def run(name: str, options: list[str]) -> bool:
    say(f"== {name}")
    command = [sys.executable, "-m", f"benchmarks.{name}", *options]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        replace_section(name, done.stdout)
    return done.returncode == 0


def replace_section(name: str, text: str) -> None:
    """Sections begin with "## NAME" and are in the order of NAMES; all but this one stay as they are."""
    sections = {}
    if RESULTS.exists():
        for part in RESULTS.read_text(encoding="utf-8").split("\n## ")[1:]:
            title, _, body = part.partition("\n")
            sections[title] = body
    sections[name] = text
    parts = [f"## {title}\n\n{sections[title].strip()}\n" for title in NAMES if title in sections]
    RESULTS.write_text("\n".join([HEAD, *parts]), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
