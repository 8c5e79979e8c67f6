"""Wraps the task in DistributedDataParallel, so that gradients are averaged over processes."""

from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sam_ft.utils import distributed

# torch 2.15 renamed the option and deprecates the old name, the only one in older versions
_PARAMETERS = signature(DistributedDataParallel.__init__).parameters
_SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _PARAMETERS else "broadcast_buffers"
_OPTIONS: dict[str, Any] = {_SYNC_BUFFERS: False, "gradient_as_bucket_view": True}


def wrap(task: nn.Module) -> nn.Module:
    """The task in DistributedDataParallel, or the task itself in a single process.

    Train through the returned module: only the wrapper's forward synchronizes gradients. Buffers are not broadcast,
    because none of them changes (see `adapt.Freeze`).
    """
    if distributed.world_size() == 1:
        return task
    # device_ids must be absent for a module on a CPU.
    device = distributed.device()
    return DistributedDataParallel(task, device_ids=[device] if device.type == "cuda" else None, **_OPTIONS)


def unwrap(wrapped: nn.Module) -> Any:
    """The task without its wrapper, for computations without gradients."""
    return wrapped.module if isinstance(wrapped, DistributedDataParallel) else wrapped


def gradient_sync(wrapped: nn.Module, enabled: bool) -> AbstractContextManager:
    """Context of a backward pass; gradients are averaged only if `enabled`, in the last pass of a step."""
    if enabled or not isinstance(wrapped, DistributedDataParallel):
        return nullcontext()
    return wrapped.no_sync()
