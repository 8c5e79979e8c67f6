"""Fine-tune SAM: read this file top to bottom like a recipe.

python train.py data=folder data.root=/path/to/cells model=vit_b
torchrun --standalone --nproc-per-node=2 train.py data=folder data.root=/path/to/cells model=vit_b
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import islice
from math import isfinite
from pathlib import Path

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader
from tqdm import tqdm

from sam_ft.adapt import freeze_unreached
from sam_ft.cache.precompute import encode_ahead, explain_cost
from sam_ft.cli.config import build
from sam_ft.cli.exit import exit_cleanly
from sam_ft.cli.runs import open_run
from sam_ft.cli.setting_checks import check_whole_numbers
from sam_ft.cli.sweeps import record_sweep_job
from sam_ft.data.datasets import EvaluationSet, TrainingSet
from sam_ft.data.loader import TrainingBatches, evaluation_loader, open_both, survey_both, training_loader
from sam_ft.evaluation.evaluate import evaluate
from sam_ft.models.compiled import compile_parts
from sam_ft.prompts import Prompter
from sam_ft.report.closing import closing_words
from sam_ft.report.samples import SamplePictures
from sam_ft.report.tables import parameter_table
from sam_ft.task import Done, PromptedSegmentation, raise_not_finite
from sam_ft.training.checkpoint import load_training_state, save_partial_weights, save_training_state
from sam_ft.training.loggers import RunLog
from sam_ft.training.optim import set_learning_rate
from sam_ft.training.parallel import gradient_sync, plain, wrap
from sam_ft.types import Batch
from sam_ft.utils import distributed
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.memory import forget_peak, peak_gb
from sam_ft.utils.seeds import derive_seed

log = logging.getLogger("sam_ft")

Schedule = Callable[[int, int], float]  # step, number of steps -> factor on the learning rate


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float:
    """Trains one run and returns its best validation score, for sweepers."""
    with exit_cleanly(cfg), open_run(cfg) as directory, ExitStack() as stack:
        return train(cfg, directory, stack)


def train(cfg: DictConfig, directory: Path, stack: ExitStack) -> float:
    check_settings(cfg)
    torch.manual_seed(cfg.seed)
    forget_peak()
    device = distributed.device()

    # What costs nothing to build, so that a wrong setting is refused before all masks are read.
    train_prompter, eval_prompter, metric = build(cfg.train_prompt), build(cfg.eval_prompt), build(cfg.metric)
    loss, schedule, store = build(cfg.loss), build(cfg.schedule), build(cfg.cache)

    # Data: two splits of samples; loaders that deal them out to the processes.
    data = build(cfg.data)
    train_split, val_split = open_both(data)
    monitors = [*metric.monitors, *(metric.class_monitors if val_split.classes else ())]
    if cfg.monitor not in monitors:
        raise ConfigError(f"monitor={cfg.monitor} is no score of which more is better; choose of {', '.join(monitors)}")
    train_found, val_found = distributed.broadcast_from_main(lambda: survey_both(train_split, val_split))
    if train_found.bad or val_found.bad:
        train_split, val_split = train_split.without(train_found.bad), val_split.without(val_found.bad)

    # Model with its official weights, what learns of it, and the loss.
    model = build(cfg.model).to(device)
    build(cfg.adapt)(model)
    freeze_unreached(model, train_prompter.asks)
    model.image_encoder.activation_checkpointing = cfg.activation_checkpointing
    if cfg.compile:
        compile_parts(model)
    log.info("%s at %d px on %s\n%s", model.model_type, model.image_size, device, parameter_table(model))
    task = PromptedSegmentation(model, loss, cfg.precision, store)

    augment = build(cfg.train_transform)
    views = None if store is None else store.views
    train_set = TrainingSet(
        train_split, augment, model.image_size, cfg.max_objects_per_image, cfg.seed, task.store, views
    )
    empty = set(train_found.empty)
    with_objects = [index for index, name in enumerate(train_split.names) if name not in empty]
    batches = TrainingBatches(with_objects, train_set.draw, cfg.batch_size, cfg.micro_batch_size, cfg.seed)
    train_loader = training_loader(train_set, batches, cfg.workers)
    val_set = EvaluationSet(val_split, model.image_size, task.store)
    val_loader = evaluation_loader(val_set, batches.micro_batch_size, cfg.workers)

    # Parallel wrapper first, then the optimizer over the parameters that it looks after.
    wrapped = wrap(task)
    optimizer = build(cfg.optimizer, model=model)

    run_log = stack.enter_context(RunLog(directory, build(cfg.logger), OmegaConf.to_container(cfg, resolve=True)))
    # A frozen encoder sees each image once, now or in an earlier run; from then on its embedding is read.
    prepare = partial(encode_ahead, encode=task.encode_frozen, at_once=task.images_at_once, workers=cfg.workers)
    prepare(val_set, [(index, 0) for index in range(len(val_split))], title="val")
    pictures = SamplePictures(directory, val_set, cfg.pictures, eval_prompter, cfg.eval_chunk)
    pictures.draw_zero_shot(task)

    def score(title: str) -> tuple[dict[str, float], dict[str, dict]]:
        """The validation scores, and those of each class."""
        found = evaluate(task, val_loader, eval_prompter, metric, cfg.eval_chunk, title, val_split.classes)
        return found.scores, found.groups["class"]

    best_path, last_path = (directory / f"checkpoints/{name}.safetensors" for name in ("best", "last"))

    # Go on where an earlier run of the same command stopped; else score the model before its first step. That is
    # zero-shot, and what is learned has to beat it.
    if distributed.broadcast_from_main(last_path.exists):  # asked once, so that all processes take the same way
        progress = load_training_state(last_path, model, optimizer)
        if progress["epoch"] < cfg.epochs:
            log.info("continuing after epoch %d of %d", progress["epoch"], cfg.epochs)
        else:
            log.info("this run has already done %d epochs; more of them: epochs=N", progress["epoch"])
        run_log.rewind(progress["epoch"] * batches.steps)
    else:
        scores, classes = score("zero-shot")
        progress = {"epoch": 0, "zero_shot": scores, "best": scores, "best_epoch": 0}
        progress |= {"zero_shot_classes": classes, "best_classes": classes}
        asked = HydraConfig.get().runtime.choices["prompt@eval_prompt"]
        log.info("zero-shot, scored with prompt@eval_prompt=%s: %s", asked, _short(scores))
        run_log.rewind(-1)
        run_log.log(0, {"epoch": 0, **_as_logged(scores, classes)})
        save(cfg, model, best_path, progress)

    if store is not None:
        explain_cost(train_set, task.encode_frozen, task.encoder_learns, len(with_objects))
    for epoch in range(progress["epoch"] + 1, cfg.epochs + 1):
        if cfg.patience is not None and epoch - 1 - progress["best_epoch"] >= cfg.patience:
            log.info("no better %s for %d epochs: stopping early", cfg.monitor, cfg.patience)
            break

        started = time.perf_counter()
        prepare(train_set, train_set.views_in(epoch, with_objects), title="train")
        encode_seconds = time.perf_counter() - started
        trained = train_epoch(cfg, epoch, wrapped, train_loader, train_prompter, optimizer, schedule, run_log)
        trained["encode_seconds"] = encode_seconds

        # Validation is shared by all processes; each image is scored once.
        scores, classes = score("validate")
        progress["epoch"], step = epoch, epoch * batches.steps
        improved = scores[cfg.monitor] > progress["best"][cfg.monitor]
        if improved:
            progress |= {"best": scores, "best_epoch": epoch, "best_classes": classes}
            save(cfg, model, best_path, progress)
            for picture in pictures.draw(task, epoch):
                run_log.picture(step, "predictions", picture)
        mark = "  * best" if improved else ""
        log.info("epoch %d: %s, loss %.4f%s", epoch, _short(scores), trained["loss"], mark)
        run_log.log(step, {"epoch": epoch, **_as_logged(scores, classes), **_prefixed("epoch", trained)})
        if distributed.is_main():  # last: what is logged after a crash's last state is dropped and written again
            save_training_state(last_path, model, optimizer, progress)

    log.info("%s", closing_words(progress, cfg.monitor, best_path))
    memory = "of the GPU" if torch.cuda.is_available() else "resident in a process"
    log.info("memory: at most %.1f GB %s", max(distributed.all_gather([peak_gb()])), memory)
    record_sweep_job({key: progress[key] for key in ("zero_shot", "best", "best_epoch")}, cfg.monitor)
    return float(progress["best"][cfg.monitor])


def check_settings(cfg: DictConfig) -> None:
    or_null = ("patience", "micro_batch_size", "max_objects_per_image", "train_chunk", "eval_chunk")
    check_whole_numbers(cfg, 1, ("epochs", "batch_size"), or_null)
    check_whole_numbers(cfg, 0, ("seed", "workers", "pictures"))
    if cfg.precision not in ("auto", "float32", "bfloat16"):
        raise ConfigError(f"precision={cfg.precision} is not one of auto, float32, bfloat16")
    if type(cfg.clip_norm) not in (int, float) or cfg.clip_norm <= 0:
        raise ConfigError(f"clip_norm={cfg.clip_norm}; expected a number above 0")


def train_epoch(
    cfg: DictConfig,
    epoch: int,
    wrapped: nn.Module,
    loader: DataLoader,
    prompter: Prompter,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    run_log: RunLog,
) -> dict[str, float]:
    """All steps of one epoch; returns the mean loss over its objects and how fast it went."""
    batches = loader.batch_sampler
    assert isinstance(batches, TrainingBatches)
    batches.epoch = epoch
    step, started, loss, objects = (epoch - 1) * batches.steps, time.perf_counter(), 0.0, 0.0
    bar = tqdm(total=batches.steps, desc=f"epoch {epoch}", leave=False, disable=None if distributed.is_main() else True)
    for micro_batches in batched(loader, batches.per_step):
        rate = set_learning_rate(optimizer, schedule(step, cfg.epochs * batches.steps))
        seed = derive_seed(cfg.seed, step)
        values = train_step(wrapped, micro_batches, prompter, seed, optimizer, cfg.clip_norm, cfg.train_chunk)
        step += 1
        if values["objects"]:
            loss, objects = loss + values["loss"] * values["objects"], objects + values["objects"]
            run_log.log(step, {"epoch": epoch, "lr": rate, **_prefixed("train", values)})
            bar.set_postfix(loss=f"{values['loss']:.3f}")
        bar.update()
    bar.close()
    seconds = time.perf_counter() - started
    speed = {"objects_per_second": objects / seconds, "seconds": seconds}
    return {"loss": loss / max(1.0, objects), **speed, "peak_gb": max(distributed.all_gather([peak_gb()]))}


def train_step(
    wrapped: nn.Module,
    micro_batches: list[Batch],
    prompter: Prompter,
    seed: int,
    optimizer: torch.optim.Optimizer,
    clip_norm: float,
    chunk: int | None = None,
) -> dict[str, float]:
    """One optimizer step over all micro-batches of all processes; returns the losses' means over their objects.

    chunk: objects of one backward pass; None for what the device does well with

    Every object counts the same: losses are summed and divided by the number of objects in the whole global batch.
    DistributedDataParallel then divides by the number of processes, hence the factor.
    """
    (objects,) = distributed.sum_over_ranks([sum(batch.num_objects for batch in micro_batches)])
    if not objects:
        return {"objects": 0.0}
    done: list[Done] = []
    for number, batch in enumerate(micro_batches, 1):
        passes = plain(wrapped).passes(batch, prompter, seed, chunk)
        while passes:
            given = passes.pop(0)  # what is done with need not be kept
            with gradient_sync(wrapped, enabled=number == len(micro_batches) and not passes):
                losses = wrapped(*given)
                (losses["loss"].sum() * (distributed.world_size() / objects)).backward()
            image_index = torch.cat([dialogue.batch.image_index for dialogue in given[1]])
            done.append((batch.names, image_index, {name: values.detach() for name, values in losses.items()}))
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    for p in trained:  # what no prompt of this batch reached: the same for one process as for many, which meet there
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    norm = clip_grad_norm_(trained, clip_norm)  # the same on all processes, for their gradients are
    # What is logged comes off the device in one piece: here the loop waits for it.
    names = list(done[0][2])
    sums = [torch.cat([losses[name] for *_, losses in done]).sum() for name in names]
    norm, *totals = torch.stack([norm, *sums]).tolist()
    if not isfinite(norm):
        raise_not_finite(done)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    means = [total / objects for total in distributed.sum_over_ranks(totals)]
    return {**dict(zip(names, means, strict=True)), "grad_norm": norm, "objects": objects}


def save(cfg: DictConfig, model: nn.Module, path: Path, progress: dict) -> None:
    """Writes the partial checkpoint of the best epoch so far."""
    if distributed.is_main():
        adapt = OmegaConf.to_container(cfg.adapt, resolve=True)
        notes = {key: progress[key] for key in ("best_epoch", "best", "zero_shot")}
        save_partial_weights(model, path, adapt=adapt, monitor=cfg.monitor, **notes)


def batched(loader: DataLoader, size: int) -> Iterator[list[Batch]]:
    """The loader's batches in lists of `size`: the micro-batches of one step."""
    batches = iter(loader)
    while group := list(islice(batches, size)):
        yield group


def _short(scores: dict[str, float]) -> str:
    return f"IoU {scores['iou']:.4f}, Dice {scores['dice']:.4f}"


def _as_logged(scores: dict[str, float], classes: dict[str, dict]) -> dict[str, float]:
    ious = {name: group["iou"] for name, group in classes.items() if group["objects"]}
    return {**_prefixed("val", scores), **_prefixed("val_class", ious)}


def _prefixed(prefix: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name}": value for name, value in values.items()}


if __name__ == "__main__":
    with exit_cleanly(), distributed.process_group():
        main()
