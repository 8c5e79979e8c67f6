"""One process or many: wrapping the task so that gradients really are averaged over processes."""

from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sam_ft.utils import distributed

# torch 2.15 renamed the option and warns about the old name, which is all that older ones know
_PARAMETERS = signature(DistributedDataParallel.__init__).parameters
_SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _PARAMETERS else "broadcast_buffers"
_OPTIONS: dict[str, Any] = {_SYNC_BUFFERS: False, "gradient_as_bucket_view": True}


def wrap(task: nn.Module) -> nn.Module:
    """The task in DistributedDataParallel, or the task itself in a single process.

    Call what this returns, never its `.module`: only the wrapper's forward makes gradients meet. Buffers are not
    broadcast, for none moves (see `adapt.Freeze`).
    """
    if distributed.world_size() == 1:
        return task
    device = distributed.device()
    return DistributedDataParallel(task, device_ids=[device] if device.type == "cuda" else None, **_OPTIONS)


def plain(wrapped: nn.Module) -> Any:
    """The task inside, for what needs no gradients."""
    return wrapped.module if isinstance(wrapped, DistributedDataParallel) else wrapped


def gradient_sync(wrapped: nn.Module, enabled: bool) -> AbstractContextManager:
    """Context of one backward pass: gradients are only averaged on the last micro-batch of a step."""
    if enabled or not isinstance(wrapped, DistributedDataParallel):
        return nullcontext()
    return wrapped.no_sync()
