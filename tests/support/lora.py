"""A model with LoRA's updates that are not zero, and its embeddings."""

import pytest
import torch

from sam_ft.adapt import Lora
from tests.support.tiny import tiny_sam, tiny_vit_sam

ENCODERS = pytest.mark.parametrize("build", [tiny_sam, tiny_vit_sam], ids=["vit", "tiny_vit"])
TARGETS = pytest.mark.parametrize("targets", ["qv", "qkv", "all"])


def images(model, count=2):
    torch.manual_seed(3)
    return torch.randint(0, 256, (count, 3, model.image_size, model.image_size), dtype=torch.uint8)


def encode(model):
    return model.encode(images(model), [(64, 64), (48, 64)]).embedding


def learned(model, seed=0):
    """The same model as if it had been trained: B is not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".lora_b"):
                parameter.normal_(std=0.2, generator=generator)
    return model


def adapted(build, **options):
    model = build()
    torch.manual_seed(0)
    Lora(**options)(model)
    return learned(model)


def factors_of(model):
    return [name for name, _ in model.named_parameters() if ".lora_" in name]


def assert_same_weights(one, other):
    pairs = zip(one.named_parameters(), other.named_parameters(), strict=True)
    assert all(name == its_name and torch.equal(mine, theirs) for (name, mine), (its_name, theirs) in pairs)
