"""What grows with the number of files, images, objects and processes, and what must not."""

import argparse
import os
import tempfile
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch

from benchmarks import jobs
from benchmarks.harness import Side, gigabytes, in_turn, machine, ratio, say, table
from benchmarks.pictures import save_pair, write_cells, write_discs
from sam_ft.data.datasets import EvaluationSet, TrainingSet
from sam_ft.data.loader import TrainingLoader
from sam_ft.data.sources.folder import Folder
from sam_ft.data.splits import survey_split
from sam_ft.data.transforms import Augment
from sam_ft.evaluation.evaluate import evaluate_prompts
from sam_ft.metrics import SegmentationMetrics
from sam_ft.models.build import build_sam
from sam_ft.prompts import Box
from sam_ft.task import PromptedSegmentation

DISTINCT = 256  # files; the others are hard links to them
MASK_CASES = (("sample", 400, 1024), ("train.py", 1500, 2000), ("evaluation", 300, 4000))  # objects, image side

FILES = f"""
A folder of this many images and as many masks, {DISTINCT} distinct PNG files of 64 × 64 each, the others hard links to
them under names of their own, all in the disk's cache. *index*: pairing the files and drawing the split. *survey*:
every mask is read once before training. *first batch*: 4 images, with the start of the loader's processes. *memory*:
resident after that.
"""
IMAGES = """
train.py on this many distinct images of 64 × 64 with one object each, LiteMedSAM at `model.image_size=64`, 2 epochs, 4
images a step: peak resident memory of the main process, with embeddings on disk. It should not grow with the
number of images.
"""
OBJECTS = """
One image of 1024 × 1024 with this many discs, vit_t (input side 1024), `max_objects_per_image=null`, `train_chunk` and
`eval_chunk` as they are by default. The embedding is in the cache. Training: the second of 2 epochs of one step each.
Evaluation: `evaluate.py` on the same image. *memory*: peak resident memory of the main process. "does not fit": the
run may use 85 % of the free memory.
"""
MASKS = """
The memory of masks in the original frame, which should not grow with the number of objects. *sample*: one training
sample with `max_objects_per_image=8`, above what is resident before. *train.py*: LiteMedSAM on such an image, validated
on another one, one epoch, `workers=0` and `pictures=0`, all else by default. *evaluation*: `EvaluationSet`, `evaluate`
and its rows, LiteMedSAM at `model.image_size=64` with random weights. Both: peak resident memory of the process.
"""
PROCESSES = """
The same training by one process with all threads and by two with half of them each, on the CPU, LiteMedSAM with
embeddings on disk, 16 images with 8 objects, 4 images a step; `epoch/seconds`, the median of the epochs after the
first. *ratio*: one process / two, above 1 two are faster; in brackets the lowest and the highest round.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--files", nargs="+", type=int, default=[1_000, 10_000, 100_000])
    parser.add_argument("--images", nargs="+", type=int, default=[10, 100, 1000])
    parser.add_argument("--objects", nargs="+", type=int, default=[1, 10, 100, 300])
    parser.add_argument("--repeats", type=int, default=2, help="rounds of one and two processes")
    options = parser.parse_args()
    sections = [machine()]
    for part in options.only:
        title, measure, notes = PARTS[part]
        with tempfile.TemporaryDirectory() as folder:
            sections += [f"### {title}", table(measure(options, Path(folder))), notes.strip()]
    print(*sections, sep="\n\n")


def files(options: argparse.Namespace, folder: Path) -> list[dict]:
    rows = []
    for count in options.files:
        say(f"{count} files: writing them")
        write_many(folder / str(count), count)
        with Side(Index, folder / str(count), ours=True) as side:
            taken = {step: side.ask(step) for step in ("index", "survey", "first_batch")}
            now = side.ask("resident").value
        rows.append(
            {
                "files of each kind": count,
                "microseconds a file in this run, index": f"{1e6 * taken['index'].seconds / count:.0f}",
                "microseconds a file in this run, survey": f"{1e6 * taken['survey'].seconds / count:.0f}",
                "bytes of memory a file": f"{(now - side.loaded) / count:.0f}",
                "seconds in this run, index": f"{taken['index'].seconds:.2f}",
                "seconds in this run, survey": f"{taken['survey'].seconds:.2f}",
                "seconds in this run, first batch": f"{taken['first_batch'].seconds:.2f}",
                "memory in GB": gigabytes(now),
            }
        )
    return rows


class Index:
    """The way from a folder to the first batch, one step after the other."""

    def __init__(self, root: Path) -> None:
        torch.zeros(1)  # what torch itself needs is there before
        self.root = root

    def index(self) -> None:
        self.split = Folder(self.root, val_fraction=0.001).split("train")

    def survey(self) -> None:
        survey_split(self.split, "train")

    def first_batch(self) -> None:
        images = TrainingSet(self.split, Augment([]), image_size=64, max_objects=8, seed=0)
        loader = TrainingLoader(images, range(len(self.split)), batch_size=4, micro_batch_size=None, seed=0, workers=4)
        self.steps = loader.epoch(1)
        next(self.steps)

    def resident(self) -> int:
        from benchmarks.harness import resident_bytes

        return resident_bytes("VmRSS")


def write_many(root: Path, count: int) -> None:
    """images/ and masks/ with `count` files each."""
    for number in range(min(count, DISTINCT)):
        save_pair(root, f"{number:06d}", *tiny(number))
    for number in range(DISTINCT, count):
        for kind in ("images", "masks"):
            os.link(root / kind / f"{number % DISTINCT:06d}.png", root / kind / f"{number:06d}.png")


def tiny(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc on noise, 64 × 64, and its mask."""
    rng = np.random.default_rng(number)
    mask = np.zeros((64, 64), np.uint8)
    x, y, radius = (int(rng.integers(*bounds)) for bounds in ((16, 48), (16, 48), (6, 14)))
    cv2.circle(mask, (x, y), radius, 255, -1)
    return np.clip(mask * 0.4 + rng.normal(80, 20, mask.shape), 0, 255).astype(np.uint8), mask


def images(options: argparse.Namespace, folder: Path) -> list[dict]:
    rows: list[dict] = []
    first = 0
    for count in options.images:
        say(f"{count} images: a run of train.py")
        data = folder / f"data-{count}"
        for number in range(count + 1):
            save_pair(data / ("train" if number < count else "val"), f"{number:06d}", *tiny(number))
        overrides = [f"data.root={data}", "model=lite_medsam", "model.image_size=64", "epochs=2", "batch_size=4"]
        home = folder / f"home-{count}"
        job = jobs.timed("train", overrides, folder / f"run-{count}", home)
        first = first or job.peak
        rows.append(
            {
                "images": count,
                "memory / that of the first line": f"{job.peak / first:.2f}",
                "memory in GB": gigabytes(job.peak),
                "embeddings in MB": f"{sum(path.stat().st_size for path in home.rglob('*.safetensors')) / 1e6:.0f}",
                "ms an image in this run": f"{1e3 * job.values('epoch/seconds')[-1] / count:.1f}",
            }
        )
    return rows


def objects(options: argparse.Namespace, folder: Path) -> list[dict]:
    weights, rows = jobs.weights_of("vit_t", folder), []
    for count in options.objects:
        data = write_discs(folder / f"data-{count}", count)
        own = [f"data.root={data}", "data.objects=instances", "model=vit_t", f"model.checkpoint={weights}", "workers=0"]
        home = folder / f"home-{count}"
        # The images are encoded before: an encoder takes more memory than the decoder does for some objects.
        jobs.train([*own, "max_objects_per_image=1", "epochs=1"], folder / f"encode-{count}", home)
        row: dict[str, object] = {"objects in the image": count}
        extra = {"train": ["max_objects_per_image=null", "epochs=2"], "evaluate": ["split=train"]}
        for script, overrides in extra.items():
            say(f"{count} objects: {script}.py")
            memory, speed = "does not fit", "—"
            try:
                limit = int(0.85 * available_bytes())
                job = jobs.timed(script, [*own, *overrides], folder / f"{script}-{count}", home, limit=limit)
                taken = job.values("epoch/seconds")[-1] if script == "train" else job.parts["validation"]
                memory, speed = gigabytes(job.peak), f"{1e3 * taken / count:.0f}"
            except jobs.Failed as error:
                if not any(
                    sign in str(error) for sign in ("allocate memory", "MemoryError", "bad_alloc", "exit code -9")
                ):
                    raise
            row |= {f"{script}: memory in GB": memory, f"{script}: ms an object in this run": speed}
        rows.append(row)
    return rows


def masks(options: argparse.Namespace, folder: Path) -> list[dict]:
    rows = []
    for what, count, side in MASK_CASES:
        say(f"masks: {what}, {count} objects, {side} pixels")
        data = write_discs(folder / f"data-{what}", count, side, val_objects=count)
        if what == "train.py":
            own = [f"data.root={data}", "data.objects=instances", "model=lite_medsam", "epochs=1", "workers=0"]
            peak = jobs.timed("train", own, folder / "run", folder / "home", limit=int(0.85 * available_bytes())).peak
        else:
            with Side(Masks, data, ours=True) as process:
                answer = process.ask(what)
                peak = answer.peak - process.loaded * (what == "sample")
        rows.append({"": what, "objects": count, "image side": side, "memory in MB": f"{peak / 1e6:.0f}"})
    return rows


class Masks:
    """One image with many objects, to train on and to evaluate."""

    def __init__(self, root: Path) -> None:
        self.data = Folder(root, objects="instances")
        self.model = build_sam("lite_medsam", image_size=64).eval()

    def sample(self) -> None:
        images = TrainingSet(self.data.split("train"), Augment([]), image_size=256, max_objects=8, seed=0)
        images.batch([images.draw(1, 0)])

    def evaluation(self) -> int:
        batch = EvaluationSet(self.data.split("val"), self.model.image_size).batch([0])
        return len(evaluate_prompts(PromptedSegmentation(self.model), [batch], Box(), SegmentationMetrics()).rows)


def available_bytes() -> int:
    """Of memory, that nobody uses; all there is where the system does not say."""
    info = Path("/proc/meminfo")
    if not info.exists():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    lines = dict(line.split(":", 1) for line in info.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def processes(options: argparse.Namespace, folder: Path) -> list[dict]:
    data = write_cells(folder / "data", 16, 2, 512, objects=8)
    overrides = [f"data.root={data}", "data.objects=instances", "model=lite_medsam", "epochs=4", "batch_size=4"]
    threads = torch.get_num_threads()
    numbers = iter(range(1000))

    def run(count: int) -> float:
        say(f"{count} processes: a run of train.py")
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"] if count > 1 else []
        environment = {"OMP_NUM_THREADS": str(max(1, threads // count))}
        directory = folder / f"run-{next(numbers)}"
        job = jobs.train(overrides, directory, folder / "home", launcher, environment=environment)
        return median(job.values("epoch/seconds")[1:])

    run(1)  # fills the cache of embeddings for all that follow
    taken = in_turn({"one": lambda: run(1), "two": lambda: run(2)}, options.repeats, warmup=0)
    return [
        {
            "processes": "1 against 2",
            "threads each": f"{threads} against {max(1, threads // 2)}",
            "ratio": ratio(taken["one"], taken["two"]),
            "seconds an epoch in this run, 1": f"{median(taken['one']):.2f}",
            "seconds an epoch in this run, 2": f"{median(taken['two']):.2f}",
            "rounds": options.repeats,
        }
    ]


PARTS = {
    "files": ("Files in the folder", files, FILES),
    "images": ("Images with cached embeddings", images, IMAGES),
    "objects": ("Objects in an image", objects, OBJECTS),
    "masks": ("Masks of many objects", masks, MASKS),
    "processes": ("Processes", processes, PROCESSES),
}

if __name__ == "__main__":
    main()
