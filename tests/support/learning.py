"""Each encoder with each part of it that can learn, for tests of equalities that hold for all of them."""

from functools import partial

import pytest

from sam_ft.adapt import Freeze, LastBlocks, Lora
from tests.support.tiny import tiny_sam, tiny_vit_sam

BUILDS = {"vit": tiny_sam, "vit_t": partial(tiny_vit_sam, "vit_t"), "lite_medsam": partial(tiny_vit_sam, "lite_medsam")}
ADAPTS = {
    "decoder": Freeze(["mask_decoder.*"]),
    "last block": LastBlocks(1),
    "last stages": LastBlocks(None, stages=2),
    "lora in the last block": Lora(rank=2, blocks=1),
    "lora in the last stages": Lora(rank=2, stages=2),
    "full": Freeze(["*"]),
}
CASES = [
    (encoder, adapt) for encoder in BUILDS for adapt in ADAPTS if not (encoder == "vit" and "stages" in adapt)
]  # a ViT has no stages

# Those where a part of the encoder learns and the part before it is cached, for one TinyViT: the other is as deep, and
# takes twice as long, for its embedding of 16 x 16 cells.
LEARNING = [case for case in CASES if case[0] != "lite_medsam" and case[1] not in ("decoder", "full")]


def each(cases, slow=()):
    """Runs a test for each of these cases, as `encoder` and `adapt`."""
    marked = [pytest.param(*case, marks=pytest.mark.slow) if case in slow else case for case in cases]
    return pytest.mark.parametrize(("encoder", "adapt"), marked, ids=lambda name: name.replace(" ", "_"))
