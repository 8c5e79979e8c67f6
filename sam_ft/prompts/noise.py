"""Random numbers that depend only on the seed, the image name and the object index.

The batch, the order, the device and the other objects do not matter. The numbers are hashes, computed for all objects
at once on their own device, so that nothing is read back from a GPU.
"""

import math

import torch
from torch import Tensor

from sam_ft.types import Batch
from sam_ft.utils.seeds import derive_seed

_GOLDEN = -0x61C8864680B583EB  # 2^64 / golden ratio, as a signed number


def uniform(batch: Batch, seed: int, purpose: str, count: int) -> Tensor:
    """(M, count) float32 in [0, 1): `count` numbers for each object, independent for each `purpose`.

    Source: the generator SplitMix64 (Steele, Lea and Flood 2014), with a state of its own for each object.
    """
    device = batch.image_index.device
    # Once for each image on the CPU; objects and numbers are hashed on the device.
    names = torch.tensor([derive_seed(seed, purpose, name) for name in batch.names], dtype=torch.int64)
    objects = _mix(names.to(device, non_blocking=True)[batch.image_index] + (batch.object_index + 1) * _GOLDEN)
    steps = torch.arange(1, count + 1, device=device) * _GOLDEN
    # The upper 24 bits of 64, all that float32 holds exactly.
    return _shift(_mix(objects[:, None] + steps), 40).float() * 2**-24


def normal(batch: Batch, seed: int, purpose: str, count: int) -> Tensor:
    """(M, count) float32, standard normal (Box and Muller 1958)."""
    first, second = uniform(batch, seed, purpose, 2 * count).split(count, dim=1)
    return (-2 * torch.log1p(-first)).sqrt() * torch.cos(2 * math.pi * second)  # 1 - first is never 0


def _mix(x: Tensor) -> Tensor:
    """Spreads every bit of (...) int64 over all 64; products wrap around."""
    # SplitMix64's constants 0xBF58476D1CE4E5B9 and 0x94D049BB133111EB as signed numbers.
    x = (x ^ _shift(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ _shift(x, 27)) * -0x6B2FB644ECCEEE15
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right, which fills with zeros; torch's own shift copies the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
