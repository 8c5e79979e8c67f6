import pytest
import torch

from sam_ft import load_partial_weights, save_partial_weights
from sam_ft.adapt import Freeze, Lora, freeze_unreached
from sam_ft.models import build_model
from sam_ft.prompts import Box
from sam_ft.task import PromptedSegmentation
from sam_ft.training.ema import Ema
from sam_ft.training.optim import adamw
from sam_ft.training.state import TrainState
from sam_ft.training.step import train_step
from sam_ft.utils.errors import ConfigError
from tests.support.lora import adapted, encode, factors_of
from tests.support.steps import batch_of, learning_task
from tests.support.tiny import bce_iou, tiny_sam, tiny_vit_sam


@pytest.mark.parametrize(
    ("model", "options", "first"),
    [
        ("vit_b", {}, "blocks.0"),
        ("vit_b", {"targets": "qv"}, "blocks.0"),
        ("vit_b", {"blocks": 3}, "blocks.9"),
        ("lite_medsam", {}, "layers.1.blocks.0"),  # those before it are convolutions
        ("lite_medsam", {"blocks": 1}, "layers.3.blocks.1"),
        ("lite_medsam", {"stages": 2}, "layers.2.blocks.0"),
        ("lite_medsam", {"stages": 1, "train": ["mask_decoder.*", "image_encoder.neck.*"]}, "layers.3.blocks.0"),
    ],
)
def test_the_cut_lies_before_the_first_update(model, options, first):
    model = build_model(model, checkpoint=None, image_size=64)
    Lora(**options)(model)
    units = [unit.names[0] for unit in model.image_encoder.units()]
    assert units[model.image_encoder.cut] == first


@pytest.mark.parametrize(
    ("build", "targets", "names"),
    [
        (tiny_sam, "all", {"attn.qkv", "attn.proj", "mlp.lin1", "mlp.lin2"}),
        (tiny_sam, "qkv", {"attn.qkv"}),
        (tiny_vit_sam, "all", {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"}),
        (tiny_vit_sam, "qv", {"attn.qkv"}),
    ],
)
def test_the_factors_and_the_decoder_learn_and_nothing_else(build, targets, names):
    plain, model = build(), build()
    Lora(targets=targets)(model)
    assert {name.split("blocks.")[1].split(".", 1)[1].rpartition(".")[0] for name in factors_of(model)} == names
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    decoder = {name for name, _ in model.named_parameters() if name.startswith("mask_decoder.")}
    assert learning == {*factors_of(model), *decoder}
    freeze_unreached(model, Box())
    assert all(model.get_parameter(name).requires_grad for name in factors_of(model))
    assert model.state_dict().keys() - set(factors_of(model)) == plain.state_dict().keys()


def test_exceptions_and_a_second_call_leave_nothing_of_the_first():
    model = tiny_sam()
    Lora(rank=4, targets="all")(model)
    Lora(rank=2, targets="qv", blocks=1)(model)
    assert factors_of(model) == [f"image_encoder.blocks.1.attn.qkv.lora_{factor}" for factor in "ab"]
    # 2 x 32 and 64 x 2: queries and values have 32 rows each
    assert [tuple(model.get_parameter(name).shape) for name in factors_of(model)] == [(2, 32), (64, 2)]
    Lora(rank=2, freeze=["*.lora_a"])(model)
    assert not any(p.requires_grad for name, p in model.named_parameters() if name.endswith(".lora_a"))


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"rank": 0}, "rank=0"),
        ({"alpha": 0}, "alpha=0"),
        ({"dropout": 1}, "dropout=1"),
        ({"targets": "q"}, "targets=q"),
        ({"blocks": 0}, "blocks=0"),
        ({"blocks": 1, "stages": 1}, "stages=1"),
        ({"train": []}, "train=[]"),
    ],
)
def test_options_that_cannot_be_are_refused(messages, options, fact):
    with messages.raises(ValueError, fact):
        Lora(**options)


def test_more_blocks_than_the_encoder_has_are_refused(messages):
    with messages.raises(ConfigError, "has 2 blocks"):
        Lora(blocks=3)(tiny_sam())


def test_updates_stay_and_are_saved_when_other_parameters_learn_on_top_of_them(tmp_path):
    path, plain = tmp_path / "best.safetensors", tiny_sam()
    model = adapted(tiny_sam, targets="qv")
    Freeze(["mask_decoder.*"])(model)
    assert model.image_encoder.cut == len(model.image_encoder.units())
    save_partial_weights(model, path)
    load_partial_weights(plain, path)
    with torch.no_grad():
        assert torch.equal(encode(model), encode(plain))
        assert not torch.equal(encode(model), encode(tiny_sam()))


def trained(numbers, path=None, **options):
    """A task after these training steps, from the state in the file if there is one."""
    task = learning_task(Lora(**options))
    optimizer = adamw(task.model, lr=0.01)
    if path:
        TrainState.load(path, task.model, optimizer, Ema(task.model, None))
    for number in numbers:
        train_step(task, [batch_of([1 + number % 2])], Box(jitter=0.1), number, optimizer, 1.0)
    return task, optimizer


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"rank": 2, "targets": "qv"}, {"rank": 4, "dropout": 0.3}, {"freeze": ["*.lora_a"]}]
)
def test_a_resumed_run_goes_on_exactly_as_an_uninterrupted_one(options, tmp_path):
    path = tmp_path / "last.safetensors"
    task, optimizer = trained(range(2), **options)
    TrainState(total_steps=4, step=2).save(path, task.model, optimizer, Ema(task.model, None))
    whole, _ = trained(range(4), **options)
    torch.manual_seed(5)
    resumed, _ = trained(range(2, 4), path, **options)
    for (name, mine), theirs in zip(whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name
    moved = [name for name in factors_of(whole.model) if name.endswith("b")]
    assert moved
    assert all(whole.model.get_parameter(name).any() for name in moved)
    base = tiny_sam().state_dict()
    encoder = [name for name in base if name.startswith("image_encoder.")]
    assert all(torch.equal(whole.model.state_dict()[name], base[name]) for name in encoder)


def test_batchnorm_statistics_and_the_frozen_weights_do_not_move():
    model = tiny_vit_sam()
    Lora(stages=2)(model)
    freeze_unreached(model, Box())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    train_step(PromptedSegmentation(model, bce_iou()), [batch_of([0, 1])], Box(), 0, optimizer, 1.0)
    for name, tensor in model.state_dict().items():
        learns = name in dict(model.named_parameters()) and model.get_parameter(name).requires_grad
        if not learns:
            assert torch.equal(tensor, before[name]), name
    assert any(model.get_parameter(name).any() for name in factors_of(model) if name.endswith("b"))
