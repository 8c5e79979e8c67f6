"""The memory that this process used at most, and that is free on its GPU."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from sam_ft.types import Batch
from sam_ft.utils.errors import TrainingError

# besides exceptions of a type of their own
_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
SHOWN = 8  # names of images in a message


def reset_peak() -> None:
    """Restarts the measurement of `peak_gb` on a GPU."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_gb() -> float:
    """Peak memory in GB: of tensors on this process's GPU, or without one the resident memory of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    status = Path("/proc/self/status")
    if status.exists():  # not getrusage, whose peak includes that of the parent process
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        if "VmHWM" in lines:
            return int(lines["VmHWM"].split()[0]) * 1024 / 1e9
    if sys.platform == "win32":  # which has no module `resource`
        return float("nan")
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def free_gpu_bytes(device: torch.device) -> int:
    """Bytes that new tensors can take on a GPU; 0 on another device."""
    if device.type != "cuda":
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    # torch keeps the memory of freed tensors for new ones.
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


@contextmanager
def explain_out_of_memory(batches: Sequence[Batch], chunk: int, settings: str) -> Iterator[None]:
    """Context of a pass over batches.

    chunk: objects at once · settings: those that need less memory, as on the command line

    Raises:
        TrainingError: memory has run out; with the batch, its sizes and the settings.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"{_first_line(error)}, with {_describe_batches(batches, chunk)}. Set {settings}"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the memory of a GPU or of the machine has run out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


def explain_any_out_of_memory(error: BaseException) -> TrainingError:
    """The same error for passes that know no batch."""
    return TrainingError(
        f"{_first_line(error)}. End other programs that use this memory, or choose a smaller model or model.image_size"
    )


def _first_line(error: BaseException) -> str:
    where = "GPU memory" if isinstance(error, torch.OutOfMemoryError) else "memory"
    # torch goes on with advice on its allocator
    words = str(error).strip().split("\n")[0].removeprefix("CUDA out of memory. ").split(" If reserved")[0].rstrip(".")
    return f"{where} has run out ({words or type(error).__name__})"


def _describe_batches(batches: Sequence[Batch], chunk: int) -> str:
    names = [
        f"{name} ({height} x {width})"
        for batch in batches
        for name, (height, width) in zip(batch.names, batch.sizes, strict=True)
    ]
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    largest = max((len(batch.names) for batch in batches), default=0)
    side = max((batch.image_size for batch in batches), default=0)
    objects = sum(batch.num_objects for batch in batches)
    return (
        f"{len(names)} images at an input side of {side}, {largest} at once: {shown}; {objects} objects, at most "
        f"{chunk} at once"
    )
