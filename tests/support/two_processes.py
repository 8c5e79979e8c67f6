"""Runs all jobs that two processes must do as one does, so that the tests pay for a single start of them.

python -m tests.support.two_processes FOLDER
"""

import os
import socket
import sys
from functools import partial
from pathlib import Path

import torch
import torch.multiprocessing

from sam_ft.utils import distributed
from tests.support.learning import ADAPTS, BUILDS, LEARNING
from tests.support.metric_shares import scored, scored_classes
from tests.support.resumed import resumed
from tests.support.steps import COUNTS, steps


def cached_chunks():
    result = steps("mask_decoder", None, COUNTS, "float32", chunk=2)
    return {**result, "cached": len(list(Path(os.environ["SAM_FT_HOME"]).glob("embeddings/*/*.safetensors")))}


JOBS = {
    "whole batches": lambda: steps("mask_decoder", None, COUNTS),
    "accumulated": lambda: steps("mask_decoder", 1, COUNTS),
    # where no object of a process begins with a point, the heads of its candidates get no gradient
    "clicks": lambda: steps("mask_decoder", 1, COUNTS, "float32", epochs=1, chunk=3, prompter="iterative"),
    "cached chunks": cached_chunks,
    "encoder": lambda: steps("", None, [3]),  # one image leaves the second process without any
    "encoder in chunks": lambda: steps("", 1, COUNTS, epochs=1, chunk=2, prompter="iterative"),
    **{f"{e}, {a}": partial(steps, ADAPTS[a], 1, [3, 2, 1], chunk=2, build=BUILDS[e]) for e, a in LEARNING},
    "head": lambda: steps("image_encoder.blocks.1", 1, COUNTS, "float32", chunk=2, head=True),
    "metric": lambda: tuple(scored()),
    "classes": scored_classes,
    "resumed": resumed,
}


def work(rank, folder, port):
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    os.environ.update({name: str(value) for name, value in ranks.items()}, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    with distributed.process_group():
        for name, job in JOBS.items():
            os.environ["SAM_FT_HOME"] = str(folder / name)  # a cache of its own
            torch.save(job(), folder / f"{name}.{rank}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    # Forked, not by torchrun: three processes would import torch, which takes each some seconds.
    torch.multiprocessing.start_processes(work, (Path(sys.argv[1]), port), nprocs=2, start_method="fork")
