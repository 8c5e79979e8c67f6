"""The ranks of a run: the process group, and sums, gathers and broadcasts over it.

Without a process group every function works on the one process and communicates nothing.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from sam_ft.utils.cpu_kernels import keep_freed_memory
from sam_ft.utils.errors import ConfigError, Terminated, UserError
from sam_ft.utils.heartbeat import Heartbeat

T = TypeVar("T")

_cpu_group: dist.ProcessGroup | None = None  # joined by process_group()
_heartbeat: Heartbeat | None = None  # of the group
_groups = 0  # that this process has joined


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """True on rank 0, which writes files and draws progress bars."""
    return rank() == 0


def device() -> torch.device:
    """This process's device: its own GPU under torchrun, else the first one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


@contextmanager
def process_group() -> Iterator[None]:
    """Joins the process group that torchrun describes and destroys it at the end; outside torchrun there is none.

    It wraps the whole program and not one run, so that all jobs of a sweep share the group; entered again, it does
    nothing. On a CPU it also tells malloc to keep freed memory.

    Raises:
        ConfigError: torchrun started more processes than this machine has GPUs, or srun several without torchrun.
    """
    if dist.is_initialized():
        yield
        return
    if not torch.cuda.is_available():
        keep_freed_memory()
    _refuse_bare_srun()
    # Variables that torchrun sets for each process.
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or "MASTER_ADDR" not in os.environ:
        yield
        return
    processes, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if gpus and processes > gpus:
        raise ConfigError(f"--nproc-per-node={processes} but this machine has {gpus} GPUs; start at most one for each")
    if gpus:
        torch.cuda.set_device(device())
    # A restarted attempt, or a second group of the same program, must not read the addresses of the one before it in
    # the agent's store: gloo then fails to connect. With several machines each agent counts restarts by itself, so the
    # prefixes would differ and never meet.
    one_machine = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if one_machine else "0"
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    agent_hosts_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    hosts_store = os.environ["RANK"] == "0" and not agent_hosts_store
    # The store in which ranks find each other: torchrun's agent hosts it, or else rank 0.
    global _cpu_group, _groups, _heartbeat
    _groups += 1

    def connect(**options: Any) -> dist.Store:
        return dist.PrefixStore(f"attempt{attempt}.{_groups}", dist.TCPStore(address, port, **options))

    dist.init_process_group(
        backend="nccl" if gpus else "gloo",
        store=connect(is_master=hosts_store),
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        timeout=timedelta(minutes=10),
    )
    # Counts and Python objects go over the CPU. The timeout is long: the other ranks wait while one reads all masks.
    _cpu_group = dist.new_group(  # type: ignore[assignment]
        backend="gloo", timeout=timedelta(hours=6)
    )
    _heartbeat = Heartbeat(connect(timeout=timedelta(seconds=30)), rank(), world_size())
    try:
        yield
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        _heartbeat.announce_end(code)
        # The group is not destroyed: the other ranks would not take part, and torchrun kills them anyway. But gloo's
        # threads run on and may abort the process while the interpreter shuts down, so it ends without that.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    except KeyboardInterrupt as stop:
        _heartbeat.announce_end(stop.exit_code if isinstance(stop, Terminated) else 130)
        raise
    except BaseException:  # a bug, of which this rank prints the traceback
        _heartbeat.announce_end(1)
        raise
    _heartbeat.stop()
    dist.destroy_process_group()
    # Dropping the last reference joins gloo's threads. One that still frees a tensor of the last collective while the
    # interpreter shuts down aborts the process ("terminate called without an active exception").
    _cpu_group = _heartbeat = None


def end_of_others(wait: float = 0) -> int | None:
    """The exit code of another rank that has ended early, within `wait` seconds; None if none has."""
    return None if _heartbeat is None else _heartbeat.end_of_others(wait)


def is_first(message: str) -> bool:
    """Whether no rank has printed this message before."""
    return _heartbeat is None or _heartbeat.is_first(message)


def is_lost_connection(error: Exception) -> bool:
    """Whether a sum or another exchange has failed because another rank has ended."""
    return _heartbeat is not None and (isinstance(error, dist.DistError) or "gloo/" in str(error))


def _refuse_bare_srun() -> None:
    """srun starts the command once for each task; without torchrun these would be trainings of one directory.

    Raises:
        ConfigError: with the line to type.
    """
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS") or os.environ.get("SLURM_NTASKS") or 1)
    if tasks > 1 and "WORLD_SIZE" not in os.environ:
        nodes = int(os.environ.get("SLURM_NNODES") or 1)
        script = Path(sys.argv[0]).name.replace("sam-ft", "-m sam_ft")
        meet = "--standalone" if nodes == 1 else '--rdzv-backend=c10d --rdzv-endpoint="$(hostname):29500"'
        raise ConfigError(
            f"SLURM_NTASKS={tasks}: Slurm would start {tasks} separate trainings in one directory. Start torchrun once "
            f"on each machine: srun --ntasks={nodes} --ntasks-per-node=1 torchrun --nnodes={nodes} "
            f"--nproc-per-node={-(-tasks // nodes)} {meet} {script} ..., or one process: srun --ntasks=1"
        )


def sum_over_ranks(values: Sequence[float]) -> list[float]:
    """Adds lists of numbers element by element over all ranks, in float64 so that counts stay exact."""
    if world_size() == 1:
        return [float(value) for value in values]
    total = torch.tensor(values, dtype=torch.float64)  # on the CPU: gloo does not wait for the GPU
    dist.all_reduce(total, group=_cpu_group)
    return total.tolist()


def all_gather(items: list[T]) -> list[T]:
    """The items of all ranks in one list, in order of rank, on every rank."""
    if world_size() == 1:
        return items
    shares: list[list[T]] = [[] for _ in range(world_size())]
    dist.all_gather_object(shares, items, group=_cpu_group)
    return [item for share in shares for item in share]


def broadcast_from_main(function: Callable[[], T]) -> T:
    """Calls `function` on the main rank and returns its result on every rank; a UserError ends all ranks."""
    if world_size() == 1:
        return function()
    outcome: tuple[T | None, UserError | None] = (None, None)
    if is_main():
        try:
            outcome = (function(), None)
        except UserError as mistake:
            outcome = (None, mistake)
    value, error = all_gather([outcome])[0]  # that of rank 0
    if error is not None:
        raise error if is_main() else SystemExit(error.exit_code)  # printed once
    return value  # type: ignore[return-value]


def broadcast_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The main rank's tensors, which are on the CPU, on every rank; those of other ranks do not count."""
    if world_size() == 1:
        return tensors
    layout = broadcast_from_main(lambda: [(name, one.shape, one.dtype) for name, one in tensors.items()])
    received = {}
    for name, shape, dtype in layout:
        one = tensors[name].contiguous() if is_main() else torch.empty(shape, dtype=dtype)
        # As bytes: gloo does not know every number format.
        dist.broadcast(one.reshape(-1).view(torch.uint8), src=0, group=_cpu_group)
        received[name] = one
    return received
