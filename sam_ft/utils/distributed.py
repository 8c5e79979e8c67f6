"""The processes of a run: who am I, how many are we, and sums over all of us.

Everything here also works in one plain process, where it does nothing and needs no process group.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from sam_ft.utils.cpu_kernels import keep_freed_memory
from sam_ft.utils.errors import ConfigError, UserError

T = TypeVar("T")

_cpu_group: dist.ProcessGroup | None = None  # of `process_group`


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """True in the one process that writes files and draws progress bars."""
    return rank() == 0


def device() -> torch.device:
    """This process's device: its own GPU under torchrun, else the first one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


@contextmanager
def process_group() -> Iterator[None]:
    """Prepares this process, and joins the group that torchrun describes; outside torchrun there is none.

    It wraps a whole program and not a single run, so that all jobs of a sweep share one group.
    """
    if not torch.cuda.is_available():
        keep_freed_memory()
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or "MASTER_ADDR" not in os.environ:
        yield
        return
    processes, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if gpus and processes > gpus:
        raise ConfigError(f"--nproc-per-node={processes} but this machine has {gpus} GPUs; start at most one for each")
    if gpus:
        torch.cuda.set_device(device())
    # A restarted attempt must not meet the addresses of the dead one in the agent's store: gloo then fails to connect.
    # With several machines the count is each agent's own, and they would wait for each other under different names.
    alone = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if alone else "0"
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    agent_has_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    serves = os.environ["RANK"] == "0" and not agent_has_store
    store = dist.PrefixStore(f"attempt{attempt}", dist.TCPStore(address, port, is_master=serves))
    dist.init_process_group(
        backend="nccl" if gpus else "gloo",
        store=store,
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        timeout=timedelta(minutes=10),
    )
    # What is counted and told between processes goes over the CPU, and waits long: one may read 20,000 masks meanwhile.
    global _cpu_group
    _cpu_group = dist.new_group(  # type: ignore[assignment]
        backend="gloo", timeout=timedelta(hours=6)
    )
    yield
    # Not when something was raised: the others would not take part, and torchrun ends them all the same.
    dist.destroy_process_group()


def sum_over_ranks(values: Sequence[float]) -> list[float]:
    """Adds the same list of numbers over all processes, in float64 so that no count is rounded."""
    if world_size() == 1:
        return [float(value) for value in values]
    total = torch.tensor(values, dtype=torch.float64)  # on the CPU: gloo adds it without waiting for the GPU
    dist.all_reduce(total, group=_cpu_group)
    return total.tolist()


def all_gather(items: list[T]) -> list[T]:
    """The items of all processes in one list, in order of rank, on every process."""
    if world_size() == 1:
        return items
    shares: list[list[T]] = [[] for _ in range(world_size())]
    dist.all_gather_object(shares, items, group=_cpu_group)
    return [item for share in shares for item in share]


def broadcast_from_main(function: Callable[[], T]) -> T:
    """What `function` returns on the main process, on every process; a user's mistake that it finds stops them all."""
    if world_size() == 1:
        return function()
    answer: tuple[T | None, UserError | None] = (None, None)
    if is_main():
        try:
            answer = (function(), None)
        except UserError as error:
            answer = (None, error)
    value, problem = all_gather([answer])[0]
    if problem is not None:
        raise problem if is_main() else SystemExit(problem.exit_code)  # said once is enough
    return value  # type: ignore[return-value]
