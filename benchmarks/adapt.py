"""The price of each choice of what learns: a training step, its memory and its files, beside cached and full tuning."""

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

from benchmarks import jobs
from benchmarks.harness import Side, gigabytes, in_turn, machine, ratio, say, seconds, table
from benchmarks.overhead import Step, bare_step, record
from benchmarks.pictures import write_cells
from sam_ft.adapt import freeze_unreached
from sam_ft.cli.compose import compose
from sam_ft.cli.config import build
from sam_ft.data.datasets import TrainingSet
from sam_ft.data.loader import TrainingLoader
from sam_ft.data.splits import open_splits, survey_splits
from sam_ft.task import PromptedSegmentation
from sam_ft.training.checkpoint import save_partial_weights
from sam_ft.training.parameters import trained_parameters
from sam_ft.training.step import train_step
from sam_ft.types import Features
from sam_ft.utils import distributed
from sam_ft.utils.precision import compute_dtype

IMAGES = {"lite_medsam": 2, "vit_t": 2, "vit_b": 1}  # of a step
ROUNDS = {"lite_medsam": 3, "vit_t": 3, "vit_b": 2}
OBJECTS, SIDE = 8, 512
# The choices by name with their settings on the command line of train.py; `adapt=` precedes each.
BOTH = {"decoder": "decoder", "decoder, neck": "last_blocks adapt.blocks=0"}
STAGES = {f"last_blocks stages={n}": f"last_blocks adapt.blocks=null adapt.stages={n}" for n in (1, 2)}
BLOCKS = {f"last_blocks blocks={n}": f"last_blocks adapt.blocks={n}" for n in (1, 3)}
TINY = {**BOTH, **STAGES, "lora stages=2": "lora adapt.stages=2", "lora": "lora", "full": "full"}
VIT = {**BOTH, **BLOCKS, "lora blocks=3": "lora adapt.blocks=3", "lora": "lora", "full": "full"}
UNCACHED = ", cache=none"

NOTES = f"""
- A step: `train_step` of train.py on one batch in memory, all settings by default: prompts, suffix of the encoder,
  decoder, loss, backward passes, clipping, AdamW. The cached features are float16, as read from the cache; reading
  them is not part of it. With *cache=none* and *full* the whole encoder runs in each step.
- *images*: of a step, with {OBJECTS} objects each, drawings of {SIDE} × {SIDE} resized to the model's input side.
- *a step / ...*: seconds of the choice in this line / seconds of another choice: below 1, this choice is faster. All
  choices take turns in one process after a round of warming up, vit_b without; in brackets the lowest and the highest
  round.
- *file*: of the partial checkpoint. *cache*: of one image in float16.
- *bare parts*: the forward and backward passes alone, of the suffix and of the decoder with the loss and AdamW, on the
  same tensors with the same modules, for the choices with a short suffix. *a step / bare parts*: above 1, prompts,
  chunks and clipping take the rest.
- *memory*: of a fresh process for each choice, with the model, AdamW's moments and the batch → at most during a step:
  resident memory, on a GPU that of its tensors. In brackets the share of that of *full*.
- vit_t and vit_b have random weights, LiteMedSAM the published ones.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapt", description=__doc__)
    parser.add_argument("--models", nargs="+", choices=IMAGES, default=list(IMAGES))
    parser.add_argument("--rounds", type=int, help="default: " + ", ".join(f"{k} {v}" for k, v in ROUNDS.items()))
    parser.add_argument("--images", type=int, help="of a step; default: 2, and 1 for vit_b")
    parser.add_argument("--threads", type=int, help="default: torch's, one for each core")
    parser.add_argument("--gpu", action="store_true", help="on the first GPU")
    options = parser.parse_args()
    rows, where = [], ""
    for model in options.models:
        with tempfile.TemporaryDirectory() as folder:
            found, where = measure(model, Path(folder), options)
        rows += found
    print(where, table(rows), NOTES.strip(), sep="\n\n")


def measure(model: str, folder: Path, options: argparse.Namespace) -> tuple[list[dict], str]:
    """A row for each choice, and the line that names the machine."""
    images, rounds = options.images or IMAGES[model], options.rounds or ROUNDS[model]
    data = write_cells(folder / "data", images, 1, SIDE, OBJECTS)
    own = ["data=folder", f"data.root={data}", f"model={model}", f"model.checkpoint={jobs.weights_of(model, folder)}"]
    own += ["data.objects=instances", f"batch_size={images}"]
    cached = {name: [*own, *f"adapt={line}".split()] for name, line in (VIT if model == "vit_b" else TINY).items()}
    again = [name for name in cached if name == "decoder" or name.startswith("last_blocks")]
    choices = cached | {f"{name}{UNCACHED}": [*cached[name], "cache=none"] for name in again}
    new = partial(Side, Trainer, folder / "home", options.threads, options.gpu, ours=True)
    say(f"{model}: {len(choices)} choices, {rounds} rounds")
    with new(choices) as side:
        calls: dict[str, Callable] = {name: partial(side.ask, "step", name) for name in choices}
        calls |= {f"bare {name}": partial(side.ask, "bare", name) for name in cached if name not in ("lora", "full")}
        # A round of vit_b takes minutes; its first one is not left out.
        taken = in_turn(calls, rounds, warmup=0 if model == "vit_b" else 1)
        sizes = {name: side.ask("sizes", name).value for name in choices}
        where = side.ask("machine").value
    memory = {}
    for name, overrides in choices.items():
        say(f"{model}: memory of {name}")
        with new({name: overrides}) as side:
            answer = side.ask("step", name)
            memory[name] = answer.value or (side.loaded, answer.peak)
    return [row(model, images, rounds, name, taken, sizes[name], memory) for name in choices], where


def row(
    model: str, images: int, rounds: int, name: str, taken: dict, sizes: tuple, memory: dict[str, tuple[int, int]]
) -> dict:
    own = seconds(taken[name])
    uncached = f"{name}{UNCACHED}"
    suffix, decoder = (
        [median(parts) for parts in zip(*(answer.value for answer in taken[f"bare {name}"]), strict=True)]
        if f"bare {name}" in taken
        else (None, None)
    )
    parameters, file, entry = sizes
    before, most = memory[name]
    return {
        "model": model,
        "adapt": name,
        "images": images,
        "learn, M": f"{parameters / 1e6:.2f}",
        "file in MB": f"{file / 1e6:.1f}",
        "cache in MB": f"{entry / 1e6:.1f}" if entry else "none",
        "a step / decoder": ratio(own, seconds(taken["decoder"])),
        "a step / full": ratio(own, seconds(taken["full"])),
        "a step / without cache": ratio(own, seconds(taken[uncached])) if uncached in taken else "",
        "a step / bare parts": "" if suffix is None else f"{median(own) / (suffix + decoder):.2f}",
        "memory in GB": f"{gigabytes(before)} → {gigabytes(most)} ({most / memory['full'][1]:.2f})",
        "s a step in this run": f"{median(own):.2f}",
        "s in this run, bare: suffix, decoder": "" if suffix is None else f"{suffix:.2f}, {decoder:.2f}",
        "rounds": rounds,
    }


class Trainer:
    """The models of some choices in one process, each with its optimizer, and one batch for all steps."""

    def __init__(self, home: Path, threads: int | None, gpu: bool, choices: dict[str, Sequence[str]]) -> None:
        os.environ["SAM_FT_HOME"] = str(home)
        if gpu:
            del os.environ["CUDA_VISIBLE_DEVICES"]  # set by `harness`; torch has not looked yet
        torch.set_num_threads(threads or torch.get_num_threads())
        self.runs = {name: Run(overrides) for name, overrides in choices.items()}

    def step(self, name: str) -> tuple[int, int] | None:
        """→ bytes on the GPU: before, and at most."""
        if not torch.cuda.is_available():
            self.runs[name].step()
            return None
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self.runs[name].step()
        torch.cuda.synchronize()
        return before, torch.cuda.max_memory_allocated()

    def bare(self, name: str) -> tuple[float, float]:
        return self.runs[name].bare()

    def sizes(self, name: str) -> tuple[int, int, int]:
        return self.runs[name].sizes()

    def machine(self) -> str:
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        return machine(gpu, str(next(iter(self.runs.values())).task.compute_dtype).removeprefix("torch."))


class Run:
    """What train.py makes of its settings before the first step, and that step's batch."""

    def __init__(self, overrides: Sequence[str]) -> None:
        with compose("train", overrides) as cfg:
            prompter, augment, self.cache = build(cfg.train_prompt), build(cfg.train_transform), build(cfg.cache)
            splits = survey_splits(*open_splits(build(cfg.data)))
            model = build(cfg.model).to(distributed.device())
            build(cfg.adapt)(model)
            freeze_unreached(model, prompter)
            self.cache.open(model, compute_dtype(cfg.precision, model.device))
            self.task = PromptedSegmentation(model, build(cfg.loss), cfg.precision, self.cache.features_dtype)
            read = self.cache.read if self.cache.enabled else None
            most = cfg.max_objects_per_image
            train_set = TrainingSet(splits.train, augment, model.image_size, most, cfg.seed, self.cache.views, read)
            self.optimizer = build(cfg.optimizer, model=model)
        views = train_set.views_in(1, splits.train_images)
        self.cache.fill(train_set, views, self.task.prefix, per_pass=self.task.chunks.images, workers=0, title="train")
        loader = TrainingLoader(train_set, splits.train_images, cfg.batch_size, None, cfg.seed, workers=0)
        self.micro_batches = next(loader.epoch(1))
        self.arguments = (self.micro_batches, prompter, cfg.seed)
        self.clip_norm = cfg.clip_norm
        self.recorded: Step = []
        # AdamW makes its moments at its first step; zero gradients leave the weights nearly as they are.
        for parameter in trained_parameters(model).values():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        train_step(self.task, *self.arguments, self.optimizer, self.clip_norm)

    def bare(self) -> tuple[float, float]:
        """Seconds of the suffix, and of decoder, loss and optimizer, forward and backward."""
        task, (batch,) = self.task, self.micro_batches
        if not self.recorded:
            self.recorded = record(task, *self.arguments, None)
            self.leaf = self.recorded[0][0][0].embedding.requires_grad_(task.encoder_learns)
            assert batch.features is not None  # only choices with a cache
            self.maps = batch.features.maps
        started = clock()
        if task.encoder_learns:
            with task.autocast():
                features = Features(tuple(one.to(self.leaf.device).float() for one in self.maps))
                embedding = task.model.suffix(features, task.cut).embedding
            embedding.backward(torch.ones_like(embedding))
        between = clock()
        bare_step(task, self.recorded, self.optimizer)
        self.leaf.grad = None
        return between - started, clock() - between

    def sizes(self) -> tuple[int, int, int]:
        """Parameters that learn, bytes of their file, and of the features of an image: 0 without a cache."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "best.safetensors"
            save_partial_weights(self.task.model, path)
            file = path.stat().st_size
        features = self.micro_batches[0].features
        entry = 0 if features is None else sum(one[0].nbytes for one in features.maps)
        return sum(p.numel() for p in trained_parameters(self.task.model).values()), file, entry


def clock() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()


if __name__ == "__main__":
    main()
