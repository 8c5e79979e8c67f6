"""Trains a tiny model for a few steps and saves what happened; run under torchrun to compare with one process.

python -m tests.support.steps OUTPUT ADAPT MICRO_BATCH_SIZE COUNTS [DTYPE of stored embeddings [CHUNK [PROMPTER]]]
"""

import sys

import torch

from sam_ft.adapt import Freeze, freeze_unreached
from sam_ft.cache.precompute import encode_ahead
from sam_ft.cache.store import FeatureStore
from sam_ft.data.datasets import EvaluationSet, TrainingSet
from sam_ft.data.loader import TrainingBatches, evaluation_loader, training_loader
from sam_ft.data.transforms import Augment, QuarterTurn
from sam_ft.evaluation.evaluate import evaluate
from sam_ft.metrics import SegmentationMetrics
from sam_ft.models.compiled import compile_parts
from sam_ft.prompts import Box, Iterative
from sam_ft.task import PromptedSegmentation
from sam_ft.training.parallel import wrap
from sam_ft.utils import distributed
from tests.support.blobs import Blobs
from tests.support.tiny import bce_iou, tiny_sam
from train import batched, train_step

PROMPTERS = {"box": lambda: Box(jitter=0.1), "iterative": lambda: Iterative(rounds=4)}


def steps(adapt, micro_batch_size, counts, dtype=None, epochs=2, batch_size=4, chunk=32, backend=None, prompter="box"):
    """{"losses": of each step, "gradients": of the last one, "weights": after it, "scores": of a validation}.

    dtype: of the embeddings in a store, None for no store
    backend: of torch.compile, None for none
    """
    model = tiny_sam()
    asking = PROMPTERS[prompter]()
    Freeze([f"{adapt}*"])(model)
    freeze_unreached(model, asking.asks)
    if backend:
        compile_parts(model, backend)
    task = PromptedSegmentation(model, bce_iou(), store=FeatureStore(dtype) if dtype else None)
    wrapped = wrap(task)
    # not AdamW: its first steps have the size of the rate whatever the gradient, which hides a wrong scale
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.05)
    split = Blobs(counts)
    dataset = TrainingSet(split, Augment([QuarterTurn()]), model.image_size, 3, 0, task.store)
    batches = TrainingBatches(range(len(split)), dataset.draw, batch_size, micro_batch_size, seed=0)
    loader = training_loader(dataset, batches, workers=0)
    losses, gradients = [], {}
    keep = optimizer.zero_grad

    def remember(set_to_none=True):
        gradients.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        keep(set_to_none)

    optimizer.zero_grad = remember
    for epoch in range(1, epochs + 1):
        batches.epoch = epoch
        draws = [dataset.draw(epoch, image) for image in range(len(split))]
        encode_ahead(dataset, [(draw.image, draw.view) for draw in draws], task.encode_frozen, 1, 0, "train")
        for micro_batches in batched(loader, batches.per_step):
            values = train_step(wrapped, micro_batches, asking, epoch, optimizer, clip_norm=1e9, chunk=chunk)
            losses.append(values)
    weights = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    val_set = EvaluationSet(split, model.image_size, task.store)
    encode_ahead(val_set, [(image, 0) for image in range(len(split))], task.encode_frozen, 1, 0, "val")
    val = evaluation_loader(val_set, images_per_batch=2, workers=0)
    scores = evaluate(task, val, Box(), SegmentationMetrics()).scores
    return {"losses": losses, "gradients": gradients, "weights": weights, "scores": scores}


if __name__ == "__main__":
    arguments = sys.argv[1:]
    output, adapt, micro, counts, dtype, chunk, prompter = [*arguments, *["", "32", "box"][len(arguments) - 4 :]]
    torch.set_num_threads(1)
    with distributed.process_group():
        counted = [int(count) for count in counts.split(",")]
        result = steps(adapt, int(micro) or None, counted, dtype, chunk=int(chunk), prompter=prompter)
        torch.save(result, f"{output}.{distributed.rank()}")
