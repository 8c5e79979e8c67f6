"""What a step of train.py costs beyond the computation that no loop can do without."""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import jobs
from benchmarks.harness import ROOT, Side, machine, ratio, say, table
from benchmarks.pictures import write_cells

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
    parser.add_argument("--prompts", nargs="+", default=["box_jitter", "iterative"], help="choices of train_prompt")
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
        self.steps: list[Step] = []
        self.train_epoch = train.train_epoch
        train.train_epoch = self.epoch_and_bare_steps
        with contextlib.redirect_stdout(sys.stderr), train.exit_cleanly():  # stdout is for the table
            train.main()
        return self.full, self.bare, self.image_size

    def epoch_and_bare_steps(self, cfg, epoch, wrapped, loader, prompter, optimizer, *others) -> dict[str, float]:
        """In the place of train.train_epoch."""
        if not self.steps:
            loader.batch_sampler.epoch = epoch
            self.steps = [record(wrapped, batch, prompter) for batch in loader]
            self.image_size = wrapped.model.image_size
        found = self.train_epoch(cfg, epoch, wrapped, loader, prompter, optimizer, *others)
        self.full.append(found["seconds"])
        started = time.perf_counter()
        for step in self.steps:
            bare_step(wrapped, step, optimizer)
        self.bare.append(time.perf_counter() - started)
        return found


# What the model's decode and the loss are called with in one step; more than once if it takes its objects in parts.
Step = list[tuple[tuple, dict, tuple]]


def record(task: Any, batch: Any, prompter: Any) -> Step:
    """Notes what `decode` and the loss are given in a forward pass, whatever happens around them."""
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
            for given in task.passes(batch, prompter, 0):  # as train.train_step does
                task(*given)
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
