"""Fine-tune SAM: read this file top to bottom like a recipe.

python train.py data=folder data.root=/path/to/cells model=vit_b
torchrun --standalone --nproc-per-node=2 train.py data=folder data.root=/path/to/cells model=vit_b
"""

import sam_ft  # noqa: F401, I001  first: it refuses an old Python in one line

from functools import partial
from pathlib import Path

import hydra
import torch
from omegaconf import DictConfig, OmegaConf

from sam_ft.adapt import freeze_unreached
from sam_ft.cache.cost import EncodingCost
from sam_ft.cli.config import build, choice_of
from sam_ft.cli.exit import exit_cleanly
from sam_ft.cli.hints import CONF
from sam_ft.cli.pruning import is_behind_sweep
from sam_ft.cli.runs import open_run
from sam_ft.cli.sweeps import record_sweep_job
from sam_ft.data.datasets import EvaluationSet, TrainingSet
from sam_ft.data.map_targets import head_targets
from sam_ft.data.loader import TrainingLoader, evaluation_loader
from sam_ft.data.splits import add_empty_images, open_splits, survey_splits, tile_splits
from sam_ft.evaluation.evaluate import Evaluation, evaluate_prompts, head_scorer
from sam_ft.evaluation.head_scores import score_head
from sam_ft.models import Sam
from sam_ft.models.compiled import compile_parts
from sam_ft.models.heads import SemanticHead
from sam_ft.report.facts import write_facts
from sam_ft.report.finished import report_finished_run
from sam_ft.report.run_report import RunReport
from sam_ft.task import PromptedSegmentation
from sam_ft.training.checkpoint import best_weights, save_partial_weights
from sam_ft.training.ema import Ema
from sam_ft.training.head_alone import train_head_alone
from sam_ft.training.mix import Mix
from sam_ft.training.optim import set_learning_rate
from sam_ft.training.parallel import wrap
from sam_ft.training.state import BEST, TrainState
from sam_ft.training.state_saver import StateSaver
from sam_ft.training.step import train_step
from sam_ft.training.tensor_file import read_tensors
from sam_ft.utils import distributed
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.precision import compute_dtype
from sam_ft.utils.seeds import derive_seed


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(cfg: DictConfig) -> float:
    with exit_cleanly(cfg), distributed.process_group():
        return run(cfg)


def run(cfg: DictConfig) -> float:
    """Trains one run and returns its best validation score, for sweepers and notebooks."""
    with open_run(cfg) as directory:
        state = train(cfg, directory)
        scores = ("zero_shot", "best", "best_epoch", "epoch", "pruned")
        record_sweep_job({key: getattr(state, key) for key in scores}, cfg.monitor)
        return float(state.best[cfg.monitor])


def train(cfg: DictConfig, directory: Path) -> TrainState:
    torch.manual_seed(cfg.seed)  # for random weights; samples and prompts have seeds of their own

    # The cheap parts first, so that a wrong setting is refused before all masks are read.
    train_prompter, eval_prompter, augment = build(cfg.train_prompt), build(cfg.eval_prompt), build(cfg.train_transform)
    loss, metric, schedule, cache = build(cfg.loss), build(cfg.metric), build(cfg.schedule), build(cfg.cache)
    data = build(cfg.data)
    train_split, val_split = open_splits(data)
    head = build(cfg.head)
    if cfg.train_only and head is None:
        raise ConfigError("train_only=head: there is no head to train; add head=instances")
    if head is not None:
        head.set_classes(train_split.classes)
    scorer = None if head is None else head_scorer(head)
    metric.check_monitor(cfg.monitor, val_split.classes, () if scorer is None else scorer.monitors)
    splits = survey_splits(train_split, val_split)

    # The model with its official weights, and the parameters that learn.
    model = build(cfg.model).to(distributed.device())
    build(cfg.adapt)(model)
    freeze_unreached(model, train_prompter)
    if head is not None:
        model.attach_head(head)
    if cfg.train_only:
        train_head_alone(model, cfg.init)
    model.image_encoder.activation_checkpointing = cfg.activation_checkpointing
    if cfg.compile:
        compile_parts(model)

    # Small objects in large images: the tiles of these, which are the samples of the loop, at the scale of the model.
    tile_option = getattr(data, "tile", None)  # not every data set has it
    tiles, tile = tile_splits(splits, tile_option, model.image_size, model.normalize == "minmax")

    if head is not None:
        tiles = add_empty_images(tiles)

    # The cache of the features that the frozen part of the encoder computes, and the task that goes on from there.
    cache.open(model, compute_dtype(cfg.precision, model.device))
    task = PromptedSegmentation(model, loss, cfg.precision, cache.features_dtype)
    read = cache.read if cache.enabled else None

    # Two data sets, of which the loaders give each process its share.
    side = model.image_size
    make_maps = None
    if head is not None:
        labels = head.labels if isinstance(head, SemanticHead) else None
        make_maps = partial(head_targets, image_size=side, side=model.mask_side, labels=labels)
    train_set = TrainingSet(
        tiles.train, augment, side, cfg.max_objects_per_image, cfg.seed, cache.views, read, make_maps
    )
    val_set = EvaluationSet(tiles.val, side, read, keep_pixels=model.head is not None)
    cost = EncodingCost(task.prefix)
    fill = partial(cache.fill, encode=cost.encode, per_pass=task.chunks.images, workers=cfg.workers)
    batch_sizes = (cfg.batch_size, cfg.micro_batch_size)
    train_loader = TrainingLoader(train_set, tiles.train_images, *batch_sizes, cfg.seed, cfg.workers)
    val_loader = evaluation_loader(val_set, cfg.eval_batch_size, cfg.workers)

    prompted: Evaluation | None = None  # of a decoder that does not learn

    def validate(title: str) -> Evaluation:
        nonlocal prompted
        fill(val_set, val_set.all_views, title="val")
        classes = splits.val.classes
        found = evaluate_prompts(
            task, val_loader, eval_prompter, metric, cfg.eval_chunk, title, classes, scorer, prompted
        )
        prompted = found if task.only_head_learns else None
        return found

    # The parallel wrapper first, then the optimizer over the same parameters, and the average of their weights.
    wrapped = wrap(task)
    optimizer = build(cfg.optimizer, model=model)
    ema = Ema(model, cfg.ema)
    mix = Mix(model, cfg.mix)  # the model still has its zero-shot weights

    # best: the partial checkpoint, for use; last: the training state, to resume from
    best_path, last_path = (directory / f"checkpoints/{name}.safetensors" for name in ("best", "last"))
    trackers = {name: build(one) for name, one in cfg.logger.items()}
    report = RunReport(directory, cfg, trackers, task, val_set, eval_prompter)
    with report, StateSaver(last_path, model, optimizer, ema, cfg.save_every_minutes) as saver:
        write_facts(directory, model, splits, tiles, tile if tile_option else None)
        fill(val_set, val_set.all_views, title="val")
        # Before `last` is loaded: the model still has its base weights, also in a run that resumes.
        report.draw_zero_shot()
        state = saver.load(best_path)
        if state is None:  # a new run, and zero-shot is the score to beat
            scored = validate("zero-shot")
            state = TrainState.start(cfg.epochs * train_loader.steps, scored)
            report.log_zero_shot(state, scored, choice_of("prompt@eval_prompt"))
            saver.save(state)
        else:
            report.log_resume(state)
        if not distributed.broadcast_from_main(best_path.exists):  # also where it was deleted
            with saver.zero_shot_weights():
                save_best(cfg, model, best_path, state, tile)

        cost.explain(cache, train_set, len(tiles.train_images))
        # An epoch: encode the views that it draws and no run has cached, train, validate, keep the best, save.
        for epoch in saver.epochs(state, cfg.epochs):
            if (cfg.prune_after and state.pruned) or state.stalled(cfg.patience):
                report.log_stop(state)
                break
            fill_seconds = fill(train_set, train_set.views_in(epoch, tiles.train_images), title="train")
            # A step's seed depends on its number alone, so a resumed run draws the same prompts.
            for micro_batches in report.steps(state, train_loader, fill_seconds):
                rate = set_learning_rate(optimizer, schedule(state.step, state.total_steps))
                seed = derive_seed(cfg.seed, state.step)
                result = train_step(
                    wrapped, micro_batches, train_prompter, seed, optimizer, cfg.clip_norm, cfg.train_chunk
                )
                state.count_step()
                ema.update(state.step)
                report.log_step(state.step, rate, result)
                saver.end_step(state, report.flush)  # saves within the epoch: by the clock, and before a signal ends it

            with ema.applied():
                scored = validate("validate")
                if improved := state.update(epoch, scored, cfg.monitor):  # better than zero-shot and all before
                    save_best(cfg, model, best_path, state, tile)
                report.log_epoch(state, scored, improved)
            state.pruned = is_behind_sweep(cfg, directory, state)
            saver.save(state)  # last: a resumed run drops what was logged after this, and logs it again

        # WiSE-FT: the best weights between zero-shot and the best epoch, or the last one if none beat zero-shot
        if mix.shares and state.mixable:
            with ema.applied():
                scored_mixes = mix.score(best_path if state.best_epoch else None, validate)
            share = state.choose_mix(scored_mixes, cfg.monitor)
            saver.save(state)  # the state first: `match_best` takes the mix back if a crash keeps it from the file
            if share is not None:
                with mix.applied(share):
                    save_best(cfg, model, best_path, state, tile)
            report.log_mix(state, scored_mixes)

        # How the head is used with the best weights, by training images: validation images choose nothing.
        improved_at_all = state.best_epoch or state.mix is not None
        scored_head = distributed.broadcast_from_main(lambda: bool(read_tensors(best_path)[1].get("head_scores")))
        if head is not None and improved_at_all and not (scored_head and state.head_scores):
            with best_weights(model, best_path):
                state.head_notes, state.head_scores, state.baseline = score_head(task, splits, tile)
            report.log_head(state)
            saver.save(state)  # the state first, as above
            with best_weights(model, best_path):
                save_best(cfg, model, best_path, state, tile)
        report.finish(state, best_path)
        report_finished_run(directory, cfg, task, val_set, eval_prompter, best_path)
    return state


def save_best(cfg: DictConfig, model: Sam, path: Path, state: TrainState, tile: int) -> None:
    """Writes the partial checkpoint of the best weights so far: what learns, and how a head is used."""
    if distributed.is_main():
        adapt = OmegaConf.to_container(cfg.adapt, resolve=True)
        scores = {name: getattr(state, name) for name in (*BEST, "zero_shot", "head_scores")}
        notes = {"tile": tile, **state.head_notes}
        save_partial_weights(model, path, adapt=adapt, monitor=cfg.monitor, **scores, **notes)


if __name__ == "__main__":
    from sam_ft.recipes.train import main  # this file, by a name under which a launcher of sweeps can pickle it

    with exit_cleanly(), distributed.process_group():
        main()
