"""What a step of train.py costs beyond the computation that no loop can do without."""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import jobs
from benchmarks.harness import ROOT, Side, machine, ratio, say, table
from benchmarks.pictures import write_cells
from sam_ft.training.step import split_into_passes

MODELS = ("vit_t", "lite_medsam")
BATCH, SIDE = 4, 512

NOTES = f"""
- *step in train.py*: `epoch/seconds` of metrics.jsonl / steps. It includes waiting for images, masks and cached
  embeddings, the prompts, decoder, loss, backward pass, clipping, optimizer and the line in the log. The embeddings
  are in the cache; no encoder runs.
- *bare step*: decoder, loss, backward pass and optimizer for the same objects, on tensors in memory, in the
  same process with the same model and functions. The prompt encoder is part of the decoder on both sides.
- *iterative*: 11 decoder rounds a step, on both sides; it adds the clicks drawn from the errors of each prediction.
- *ratio*: step in train.py / bare step. Epochs of both take turns; the first of each is left out. In brackets the
  lowest and the highest of the epochs.
- {BATCH} images of {SIDE} × {SIDE} a step, resized to the input side of the model, where the loss is taken.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--objects", nargs="+", type=int, default=[1, 8], help="in each image")
    parser.add_argument("--images", type=int, help="of an epoch; default: 32, and 16 with more than one object each")
    parser.add_argument("--epochs", type=int, default=5, help="the first is left out")
    parser.add_argument("--prompts", nargs="+", default=["box", "iterative"], help="choices of train_prompt")
    options = parser.parse_args()
    if options.epochs < 2:
        parser.error("--epochs: the first is left out, so give at least 2")
    rows = []
    for prompt in options.prompts:
        for model in options.models:
            # 11 rounds with 8 objects would take as long as all the others together, and say the same
            for objects in [min(options.objects[-1], 4)] if prompt == "iterative" else options.objects:
                images = options.images or (32 if objects == 1 else 16 if prompt != "iterative" else 8)
                rows.append(measure(model, prompt, objects, images, options.epochs))
    print(machine(), table(rows), NOTES.strip(), sep="\n\n")


def measure(model: str, prompt: str, objects: int, images: int, epochs: int) -> dict:
    say(f"{model}, {prompt}, {objects} objects an image: {epochs} epochs of {images} images and as many bare steps")
    with tempfile.TemporaryDirectory() as name, Side(Trainer, ours=True) as side:
        folder = Path(name)
        data = write_cells(folder / "data", images, 1, SIDE, objects)
        overrides = [
            *jobs.TRAIN,
            *(f"data.root={data}", f"data.objects={'whole' if objects == 1 else 'instances'}"),
            *(f"model={model}", f"model.checkpoint={jobs.weights_of(model, folder)}"),
            f"prompt@train_prompt={prompt}",
            *(f"run_dir={folder / 'run'}", f"epochs={epochs}", f"batch_size={BATCH}"),
        ]
        full, bare, image_size = side.ask("train", overrides, folder / "home").value
    steps = -(-images // BATCH)
    return {
        "model": model,
        "train_prompt": prompt,
        "input side": image_size,
        "objects an image": objects,
        "ratio": ratio(full[1:], bare[1:]),
        "more": f"{1e3 * (median(full[1:]) - median(bare[1:])) / steps:.0f} ms a step in this run",
        "ms in this run, step in train.py": f"{1e3 * median(full[1:]) / steps:.0f}",
        "ms in this run, bare step": f"{1e3 * median(bare[1:]) / steps:.0f}",
        "epochs": f"{len(full) - 1} of {steps} steps",
    }


class Trainer:
    """Runs train.py's main, with as many bare steps after each epoch as there were steps in it."""

    def train(self, overrides: list[str], home: Path) -> tuple[list[float], list[float], int]:
        """Seconds of the training of each epoch, of as many bare steps, and the model's input side."""
        os.environ["SAM_FT_HOME"] = str(home)
        sys.argv = ["train.py", "--config-path", str(ROOT / "conf"), *overrides]
        import train

        self.full: list[float] = []
        self.bare: list[float] = []
        self.recorded: list[Step] = []
        self.train_step, self.steps = train.train_step, train.RunReport.steps
        train.train_step = self.step_and_record
        train.RunReport.steps = lambda *arguments: self.steps_and_bare_steps(*arguments)
        with contextlib.redirect_stdout(sys.stderr), train.exit_cleanly():  # stdout is for the table
            train.main()
        return self.full, self.bare, self.task.model.image_size

    def step_and_record(self, wrapped, micro_batches, prompter, seed, optimizer, clip_norm, chunk) -> Any:
        """In the place of train.train_step: notes what the decoder and the loss do in the first epoch."""
        if not self.full:
            self.task, self.optimizer = wrapped, optimizer
            self.recorded.append(record(wrapped, micro_batches, prompter, seed, chunk))
        return self.train_step(wrapped, micro_batches, prompter, seed, optimizer, clip_norm, chunk)

    def steps_and_bare_steps(self, report, *arguments) -> Iterator[Any]:
        """In the place of RunReport.steps, which measures the seconds of an epoch."""
        yield from self.steps(report, *arguments)
        self.full.append(report._trained["seconds"])
        started = time.perf_counter()
        for step in self.recorded:
            bare_step(self.task, step, self.optimizer)
        self.bare.append(time.perf_counter() - started)


# Arguments of the model's decode and of the loss in one step; several if it takes its objects in chunks or rounds.
Step = list[tuple[tuple, dict, tuple]]


def record(task: Any, micro_batches: Sequence[Any], prompter: Any, seed: int, chunk: int | None) -> Step:
    """Notes the arguments of `decode` and the loss in the forward passes of a step."""
    decode, loss = task.model.decode, task.loss
    calls: Step = []

    def noting_decode(*arguments, **keywords):
        calls.append((arguments, keywords, ()))
        return decode(*arguments, **keywords)

    def noting_loss(prediction, *others):
        calls[-1] = (*calls[-1][:2], others)
        return loss(prediction, *others)

    task.model.decode, task.loss = noting_decode, noting_loss
    try:
        with torch.no_grad():
            for batch in micro_batches:
                for given in split_into_passes(task, batch, prompter, seed, chunk).decoder:
                    task(given)
    finally:
        del task.model.decode  # the class has it again
        task.loss = loss
    return calls


def bare_step(task: Any, step: Step, optimizer: torch.optim.Optimizer) -> None:
    for arguments, keywords, others in step:
        prediction = task.model.decode(*arguments, **keywords)
        task.loss(prediction, *others)["loss"].mean().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


if __name__ == "__main__":
    main()
