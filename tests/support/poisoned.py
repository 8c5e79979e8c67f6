"""Two processes, of which only the second has a loss that is not finite; run under torchrun."""

import sys

import torch

from sam_ft.cli.exit import exit_cleanly
from sam_ft.prompts import Box
from sam_ft.training.parallel import wrap
from sam_ft.training.step import train_step
from sam_ft.utils import distributed
from tests.support.steps import batch_of, learning_task
from tests.support.tiny import bce_iou


def poisoned(prediction, masks, valid):
    losses = bce_iou()(prediction, masks, valid)
    if distributed.rank() == 1:
        losses["loss"] = losses["loss"] * torch.nan
    return losses


if __name__ == "__main__":
    torch.set_num_threads(1)
    with distributed.process_group(), exit_cleanly():
        task = learning_task()
        task.loss = poisoned
        wrapped = wrap(task)
        optimizer = torch.optim.SGD([p for p in task.parameters() if p.requires_grad], lr=1.0)
        before = {name: p.clone() for name, p in task.named_parameters()}
        try:
            train_step(wrapped, [batch_of([distributed.rank() + 1])], Box(), 0, optimizer, 1.0)
        finally:
            untouched = all(torch.equal(p, before[name]) for name, p in task.named_parameters())
            print(f"rank {distributed.rank()}: weights {'untouched' if untouched else 'CHANGED'}", flush=True)
            sys.stdout.flush()
