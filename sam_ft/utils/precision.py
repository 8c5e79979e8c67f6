"""The number format that a model computes in."""

from contextlib import AbstractContextManager, nullcontext

import torch

from sam_ft.utils.errors import ConfigError

PRECISIONS = ("auto", "float32", "bfloat16")


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """float32 or bfloat16; "auto" is bfloat16 on a GPU that has it.

    Raises:
        ConfigError: another precision.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision={precision} is not one of {', '.join(PRECISIONS)}")
    # Emulated bfloat16 would be slower than float32.
    has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    low = precision == "bfloat16" or (precision == "auto" and has_bfloat16)
    return torch.bfloat16 if low else torch.float32


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """The context in which a model computes."""
    dtype = compute_dtype(precision, device)
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)
