"""The whole job: fine-tuning from the command to the last file, against a plain loop over the official modules."""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median

from benchmarks import jobs
from benchmarks.harness import in_turn, machine, ratio, say, table
from benchmarks.jobs import Job
from benchmarks.pictures import write_cells

MODELS = {"vit_t": 10, "lite_medsam": 10, "vit_b": 2}  # with their epochs
TRAIN, VAL, SIDE, BATCH = 16, 4, 512, 4
PARTS = (
    ("start-up", "encode", "embeddings on disk", "data", "decode", "loss", "backward", "optimizer"),
    ("validation", "log and checkpoints", "rest"),
)

NOTES = f"""
{TRAIN} training and {VAL} validation images of {SIDE} × {SIDE} with one object each, {BATCH} images a step, the mask
decoder trained. The reference is `benchmarks/reference_loop.py` on the package of the model: in every epoch each
image is read, encoded and decoded by itself. vit_t and vit_b have random weights, the same on all sides, so only
LiteMedSAM's scores are meaningful; all show whether the sides do the same work.

- *whole job*: seconds from the command to its exit, with the start of Python, the reading of weights, the scores
  before training, all epochs, and all files written. Ours begins with an empty SAM_FT_HOME, so it encodes every image
  once. The loop writes no checkpoints and no log.
- *an epoch*: its training steps alone, without validation. Ours: `epoch/seconds` of metrics.jsonl, reading data, all
  steps and their lines in the log; the median of the epochs after the first. With the cache its images are encoded
  before, without it in each step. The reference: reading, encoding, decoding and steps; the mean of all its epochs,
  which cost the same.
- In brackets the lowest and the highest of several rounds of whole jobs, if `--repeats` is above one.
"""
SCORES = """
IoU on the validation images at their original size, tight boxes. Ours and the reference differ in the order of
images, in the jitter of training boxes, warm-up and decay of the learning rate, and the clipping of gradients, which
the loop does not have. LiteMedSAM's authors resize by area, ours as SAM does, so there even the scores before training
differ a little.
"""
TIMES = """
The parts of our time: one run of {epochs} epochs in a process with timers round these parts, otherwise as above. Nested
parts count once: encoding always as *encode*; all else within the validation as *validation*, and within the pass that
looks for embeddings and writes them as *embeddings on disk*. *start-up* is all until the first of these two, *data* is
waiting for the loader, *rest* is all that has no timer, such as prompts and the end of the process.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.epoch", description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--epochs", type=int, help="default: 10, and 2 for vit_b")
    parser.add_argument("--reference-epochs", type=int, metavar="N", help="run only N of them, and scale the rest")
    parser.add_argument("--skip-uncached", action="store_true", help="leave out ours with cache=none")
    parser.add_argument("--repeats", type=int, default=1, help="rounds of whole jobs")
    parser.add_argument("--timed-epochs", type=int, default=3, help="of the run with clocks; 0 leaves it out")
    options = parser.parse_args()
    speed, scores, times = [], [], []
    for model in options.models:
        with tempfile.TemporaryDirectory() as folder:
            rows = measure(model, options.epochs or MODELS[model], Path(folder), options)
        speed, scores, times = ([*old, *new] for old, new in zip((speed, scores, times), rows, strict=True))
    parts = [machine(), table(speed), NOTES.strip(), "### Scores", table(scores), SCORES.strip()]
    if times:
        parts += ["### Where the time goes", table(times), TIMES.strip().format(epochs=options.timed_epochs)]
    print(*parts, sep="\n\n")


def measure(
    model: str, epochs: int, folder: Path, options: argparse.Namespace
) -> tuple[list[dict], list[dict], list[dict]]:
    """The rows of one model for the three tables."""
    weights = jobs.weights_of(model, folder)
    data = write_cells(folder / "data", TRAIN, VAL, SIDE)
    own = [f"data.root={data}", "data.objects=whole", f"model={model}", f"model.checkpoint={weights}"]
    own.append(f"batch_size={BATCH}")
    jobs.warm_up(folder / "home-0")
    number = 0

    def new(kind: str) -> Path:  # every run has folders of its own, so none finds what another left
        nonlocal number
        number += 1
        if kind != "home":
            say(f"{model}: {kind}")
        return folder / f"{kind}-{number}"

    def ours(cache: str) -> Job:
        return jobs.train([*own, f"epochs={epochs}", f"cache={cache}"], new(f"run-{cache}"), new("home"))

    calls: dict[str, Callable[[], Job]] = {"ours": lambda: ours("auto")}
    if not options.skip_uncached:
        calls["ours, cache=none"] = lambda: ours("none")
    run_epochs = min(epochs, options.reference_epochs or epochs)
    calls["reference"] = lambda: reference(model, weights, data, epochs, run_epochs, new("reference"))
    taken = in_turn(calls, options.repeats, warmup=0)
    speed = speed_row(model, epochs, run_epochs, taken)
    scores = [score_row(model, kind, found) for kind, found in taken.items()]
    times = []
    if options.timed_epochs:
        times = [time_row(model, [*own, f"epochs={options.timed_epochs}"], new("timed"), new("home"))]
    return [speed], scores, times


def reference(model: str, weights: Path, data: Path, epochs: int, run_epochs: int, directory: Path) -> Job:
    """Its rows have the names of ours; the seconds of epochs that were not run are those of the others on average."""
    result = directory.with_suffix(".json")
    arguments = {"model": model, "weights": weights, "root": data, "result": result, "epochs": run_epochs}
    command = ["-m", "benchmarks.reference_loop", *(f"--{name}={value}" for name, value in arguments.items())]
    seconds = jobs.run([*command, f"--batch-size={BATCH}"], directory)
    before, *ran = json.loads(result.read_text())
    seconds += (epochs - run_epochs) * mean(epoch["train"] + epoch["val"] for epoch in ran)
    rows = [{"val/iou": epoch["iou"], "epoch/seconds": epoch["train"]} for epoch in ran]
    return Job(seconds, [{"val/iou": before["iou"]}, *rows])


def speed_row(model: str, epochs: int, run_epochs: int, taken: dict[str, list[Job]]) -> dict:
    whole = {kind: [job.seconds for job in found] for kind, found in taken.items()}
    epoch = {kind: [epoch_seconds(kind, job) for job in found] for kind, found in taken.items()}
    scaled = "" if run_epochs == epochs else f", the reference scaled from {run_epochs} of {epochs} epochs"
    row = {"model": model, "epochs": epochs}
    for kind in taken:
        if kind != "reference":
            row[f"whole job, reference / {kind}"] = ratio(whole["reference"], whole[kind]) + scaled
            row[f"an epoch, reference / {kind}"] = ratio(epoch["reference"], epoch[kind])
    for kind in taken:
        row[f"seconds in this run, {kind}: whole, an epoch"] = f"{median(whole[kind]):.0f}, {median(epoch[kind]):.2f}"
    return row


def epoch_seconds(kind: str, job: Job) -> float:
    found = job.values("epoch/seconds")
    return mean(found) if kind == "reference" else median(found[1:] or found)


def score_row(model: str, kind: str, found: list[Job]) -> dict:
    before, *after = found[-1].values("val/iou")
    return {
        "model": model,
        "run": kind,
        "IoU before training": f"{before:.4f}",
        "best epoch": f"{max(after):.4f}",
        "last epoch": f"{after[-1]:.4f}",
        "epochs": len(after),
    }


def time_row(model: str, overrides: list[str], directory: Path, home: Path) -> dict:
    """Seconds and percent by part; the parts add up to the whole."""
    job = jobs.timed("train", overrides, directory, home)
    job.parts["rest"] = job.seconds - sum(job.parts.values())
    shown = [part for line in PARTS for part in line]
    row = {"model": model, "seconds in this run": f"{job.seconds:.1f}"}
    return row | {part: f"{(s := job.parts.get(part, 0.0)):.1f} ({s / job.seconds:.0%})" for part in shown}


if __name__ == "__main__":
    main()
