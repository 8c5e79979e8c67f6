"""Trains a tiny model for a few steps, in one process or, as a job of two_processes.py, in two."""

from functools import partial

import torch
from torchvision.transforms import v2

from sam_ft.adapt import Freeze, freeze_unreached
from sam_ft.cache import EmbeddingCache, no_cache
from sam_ft.data.datasets import EvaluationSet, TrainingSet
from sam_ft.data.loader import TrainingLoader, evaluation_loader
from sam_ft.data.map_targets import instance_targets
from sam_ft.data.transforms import Augment, QuarterTurn
from sam_ft.evaluation.evaluate import evaluate_prompts
from sam_ft.metrics import SegmentationMetrics
from sam_ft.models.compiled import compile_parts
from sam_ft.models.heads import InstanceHead
from sam_ft.prompts import Box, Iterative
from sam_ft.task import PromptedSegmentation
from sam_ft.training.ema import Ema
from sam_ft.training.optim import adamw
from sam_ft.training.parallel import wrap
from sam_ft.training.step import read_back, split_into_passes, train_step
from tests.support.batches import training
from tests.support.blobs import Blobs
from tests.support.tiny import bce_iou, tiny_sam

PROMPTERS = {"box": lambda: Box(jitter=0.1), "iterative": lambda: Iterative(rounds=4)}
# 7 images of 0 to 6 objects in batches of 4: the last batch has 3, one image has none, and with 2 processes and
# micro-batches of 1 one process gets nothing at the end
COUNTS = [1, 4, 2, 0, 6, 3, 2]


def steps(
    adapt,
    micro_batch_size,
    counts,
    dtype=None,
    epochs=2,
    batch_size=4,
    chunk=32,
    backend=None,
    prompter="box",
    views=None,
    flips=False,
    build=tiny_sam,
    head=False,
):
    """{"losses": of each step, "gradients": of the last one, "weights": after it, "scores": of a validation}.

    adapt: how the names of all that learns begin, or an object of sam_ft.adapt
    dtype: of the embeddings in a cache, None for no cache
    backend: of torch.compile, None for none
    views: as of cache.views, None for all that the augmentation draws: quarter turns, and flips if `flips`
    build: makes the model · head: also trains an `InstanceHead`
    """
    train_prompter = PROMPTERS[prompter]()
    task = learning_task(f"{adapt}*" if isinstance(adapt, str) else adapt, prompter=train_prompter, build=build)
    model = task.model
    if head:
        model.attach_head(InstanceHead())
    if backend:
        compile_parts(model, backend)
    cache = EmbeddingCache(dtype) if dtype else no_cache()
    cache.open(model, task.compute_dtype)
    task.features_dtype = cache.features_dtype
    wrapped = wrap(task)
    # not AdamW: its first steps have the size of the rate whatever the gradient, which hides a wrong scale
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.05)
    split = Blobs(counts)
    images = range(len(split))
    augment = Augment([v2.RandomHorizontalFlip(), QuarterTurn()] if flips else [QuarterTurn()])
    make_maps = partial(instance_targets, image_size=model.image_size, side=model.mask_side) if head else None
    train_set = TrainingSet(split, augment, model.image_size, 3, 0, views, cache.read, make_maps)
    loader = TrainingLoader(train_set, images, batch_size, micro_batch_size, seed=0, workers=0)
    losses, gradients = [], {}
    keep = optimizer.zero_grad

    def remember(set_to_none=True):
        gradients.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        keep(set_to_none)

    optimizer.zero_grad = remember
    for epoch in range(1, epochs + 1):
        cache.fill(train_set, train_set.views_in(epoch, images), task.prefix, 1, 0, "train")
        for micro_batches in loader.epoch(epoch):
            result = train_step(wrapped, micro_batches, train_prompter, epoch, optimizer, 1e9, chunk)
            losses += read_back([result])
    weights = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    val_set = EvaluationSet(split, model.image_size, cache.read)
    cache.fill(val_set, val_set.all_views, task.prefix, 1, 0, "val")
    val = evaluation_loader(val_set, eval_batch_size=2, workers=0)
    scores = evaluate_prompts(task, val, Box(), SegmentationMetrics()).scores
    return {"losses": losses, "gradients": gradients, "weights": weights, "scores": scores}


def learning_task(*patterns, prompter=None, build=tiny_sam):
    """A tiny model with the loss of conf/loss/bce_iou.yaml, of which the parameters of these names learn.

    patterns: or one object of sam_ft.adapt
    """
    model = build()
    torch.manual_seed(0)  # as train.py does
    adapt = (
        patterns[0] if patterns and not isinstance(patterns[0], str) else Freeze(list(patterns or ["mask_decoder.*"]))
    )
    adapt(model)
    freeze_unreached(model, prompter or Box())
    return PromptedSegmentation(model, bce_iou())


def batch_of(indices, counts=COUNTS):
    return training(*(Blobs(counts)[index] for index in indices))


def losses_of(task, batch, prompter=None, seed=7, chunk=None):
    passes = split_into_passes(task, batch, prompter or Box(jitter=0.1), seed, chunk)
    return torch.cat([task(given)["loss"] for given in passes.decoder])


def trained(steps, *adapt, build=tiny_sam):
    """A task after training steps, counted from 0; see `learning_task`"""
    task = learning_task(*adapt, build=build)
    optimizer, ema = adamw(task.model, lr=0.01), Ema(task.model, 0.9)
    for seed in range(steps):
        train_step(task, [batch_of([1])], Box(jitter=0.1), seed, optimizer, 1.0)
        ema.update(seed + 1)
    return task, optimizer, ema
