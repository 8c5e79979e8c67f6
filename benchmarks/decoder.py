"""Training the mask decoder: ours, which takes the objects of all images at once, against the official modules."""

import argparse
import tempfile
from functools import lru_cache
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.harness import Side, gigabytes, in_turn, machine, peak, ratio, say, seconds, table
from sam_ft.models.build import ModelSpec, build_sam
from sam_ft.types import Features, Prompts

# The decoder of all models, behind an encoder that is as small as can be: it is not used here.
SPEC = ModelSpec("vit", image_size=1024, embed_dim=32, depth=1, num_heads=2, global_attn_indexes=(0,))
REPEATS = {4: 5, 16: 3, 64: 2}

NOTES = """
Forward and backward pass of prompt encoder and mask decoder for M objects with a box each. The embeddings of 64 × 64
are given, and the decoder's parameters get gradients. Single-mask output; the loss is the mean of the logits times
fixed random weights, plus the sum of pred_iou, on both sides.

- *ratio*: seconds of the reference / seconds of ours; in brackets the lowest and the highest round.
- The official decoder takes the prompts of one image per call. So M images are M calls of it, as in a plain loop, and
  one image with M objects is one call. Ours makes one call for either. The third line of each M compares our M images
  with the official call for one image, as if it could take several.
- Our side tells glibc's malloc to keep freed memory (`sam_ft/utils/cpu_kernels.py`), as train.py does; the reference
  does not. With `--same-malloc` both do.
- *memory*: peak resident memory of the process during these calls. Ours keeps freed memory, so a smaller call after a
  larger one shows that of the larger.
- *gradients*: largest absolute difference of the decoder's gradients / largest absolute value of the reference's.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoder", description=__doc__)
    parser.add_argument("--objects", nargs="+", type=int, default=list(REPEATS), metavar="M")
    parser.add_argument("--repeats", type=int, help="rounds; default: 5 for 4 objects, 3 for 16, 2 for 64")
    parser.add_argument("--same-malloc", action="store_true", help="the reference keeps freed memory too")
    parser.add_argument("--compile", action="store_true", help="ours as with compile=true; minutes in the first round")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pth"
        with (
            Side(Official, weights, ours=options.same_malloc) as theirs,
            Side(Ours, weights, options.compile, ours=True) as ours,
        ):
            for objects in sorted(options.objects):
                rows += compare(theirs, ours, objects, options.repeats or REPEATS.get(objects, 2))
    print(machine(), table(rows), NOTES.strip(), sep="\n\n")


def compare(theirs: Side, ours: Side, objects: int, repeats: int) -> list[dict]:
    """Three rows: M images, one image, and ours of the first beside theirs of the second."""
    say(f"{objects} objects: {repeats} + 1 rounds")
    calls = {
        "one call each": lambda: theirs.ask("many_images", objects),
        "ours, M images": lambda: ours.ask("many_images", objects),
        "one call": lambda: theirs.ask("one_image", objects),
        "ours, one image": lambda: ours.ask("one_image", objects),
    }
    taken = in_turn(calls, repeats)
    settings = (
        ("M images, one object each", "ours, M images", f"{objects} calls", "one call each", "many_images"),
        ("one image, M objects", "ours, one image", "1 call", "one call", "one_image"),
        ("M images; the reference one image", "ours, M images", "1 call", "one call", None),
    )
    rows = []
    for setting, own, official, other, method in settings:
        rows.append(
            {
                "M": objects,
                "objects lie in": setting,
                "ratio": ratio(seconds(taken[other]), seconds(taken[own])),
                "ours": "1 call",
                "reference": official,
                "memory in GB, ours": gigabytes(peak(taken[own])),
                "memory in GB, reference": gigabytes(peak(taken[other])),
                "gradients": difference(theirs, ours, method, objects) if method else "other objects",
                "ms an object in this run, ours": f"{1e3 * median(seconds(taken[own])) / objects:.0f}",
                "ms an object in this run, reference": f"{1e3 * median(seconds(taken[other])) / objects:.0f}",
                "rounds": repeats,
            }
        )
    return rows


def difference(theirs: Side, ours: Side, method: str, objects: int) -> str:
    """Of the gradients, over all parameters of the decoder, relative to the largest of the reference's."""
    gradients = []
    for side in (theirs, ours):
        side.ask(method, objects)
        gradients.append(side.ask("gradients").value)
    official, own = gradients
    # Ours has none for the heads of the multimask outputs, which are not used; theirs are zeros.
    worst = max(np.abs(value - own.get(name, 0)).max() for name, value in official.items())
    return f"{worst / max(np.abs(value).max() for value in official.values()):.0e}"


class Ours:
    """The product's decoder with weights from a file."""

    def __init__(self, weights: Path, compiled: bool) -> None:
        self.model = build_sam("tiny", spec=SPEC)
        self.model.load_state_dict(torch.load(weights, weights_only=True), strict=True)
        self.decoder = self.model.requires_grad_(False).mask_decoder.requires_grad_(True)
        if compiled:
            from sam_ft.models.compiled import compile_parts

            compile_parts(self.model)

    def many_images(self, objects: int) -> None:
        self._train(objects, images=objects)

    def one_image(self, objects: int) -> None:
        self._train(objects, images=1)

    def _train(self, objects: int, images: int) -> None:
        embedding, boxes, weights = content(objects)
        self.decoder.zero_grad(set_to_none=True)
        image_index = torch.arange(objects) if images > 1 else torch.zeros(objects, dtype=torch.int64)
        prediction = self.model.decode(Features((embedding[:images],)), Prompts(boxes=boxes), image_index)
        loss(prediction.logits, prediction.pred_iou, weights, objects).backward()

    def gradients(self) -> dict[str, np.ndarray]:
        return gradients_of(self.decoder)


class Official:
    """Meta's own prompt encoder and mask decoder; their weights are left in a file for the other side."""

    def __init__(self, weights: Path) -> None:
        from tests.support import reference  # imports three packages, which only this side should have in memory

        model = reference.small_sam(SPEC)
        torch.save(model.state_dict(), weights)
        self.prompt_encoder, self.decoder = model.prompt_encoder, model.mask_decoder.requires_grad_(True)

    def many_images(self, objects: int) -> None:
        embedding, boxes, weights = content(objects)
        self.decoder.zero_grad(set_to_none=True)
        for i in range(objects):
            logits, iou = self._decode(embedding[i : i + 1], boxes[i : i + 1])
            loss(logits, iou, weights[i : i + 1], objects).backward()

    def one_image(self, objects: int) -> None:
        embedding, boxes, weights = content(objects)
        self.decoder.zero_grad(set_to_none=True)
        loss(*self._decode(embedding[:1], boxes), weights, objects).backward()

    def _decode(self, embedding: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        sparse, dense = self.prompt_encoder(points=None, boxes=boxes, masks=None)
        return self.decoder(
            image_embeddings=embedding,
            image_pe=self.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )

    def gradients(self) -> dict[str, np.ndarray]:
        return gradients_of(self.decoder)


@lru_cache(maxsize=1)  # made in the round of warming up
def content(objects: int) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings (M, 256, 64, 64), boxes (M, 4) of 100 to 500 pixels, loss weights (M, 1, 256, 256); alike on both."""
    generator = torch.Generator().manual_seed(objects)
    corners = torch.rand(objects, 2, generator=generator) * 500
    boxes = torch.cat([corners, corners + 100 + torch.rand(objects, 2, generator=generator) * 400], dim=1)
    embedding = torch.randn(objects, 256, 64, 64, generator=generator)
    return embedding, boxes, torch.randn(objects, 1, 256, 256, generator=generator)


def loss(logits: Tensor, iou: Tensor, weights: Tensor, objects: int) -> Tensor:
    """The part of some of M objects: their share of the mean over all pixels, and their pred_iou."""
    return (logits * weights).mean() * (len(logits) / objects) + iou.sum()


def gradients_of(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: p.grad.numpy() for name, p in module.named_parameters() if p.grad is not None}


if __name__ == "__main__":
    main()
