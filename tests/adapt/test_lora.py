import numpy as np
import pytest
import torch
from torch import nn

from sam_ft import Predictor, load_partial_weights, save_partial_weights
from sam_ft.adapt import Freeze, Lora, freeze_unreached
from sam_ft.export import export_official
from sam_ft.models import build_model
from sam_ft.prompts import Box
from sam_ft.task import PromptedSegmentation
from sam_ft.training.ema import Ema
from sam_ft.training.optim import adamw
from sam_ft.training.state import TrainState
from sam_ft.training.step import train_step
from sam_ft.training.tensor_file import read_tensors, write_tensors
from sam_ft.utils.errors import CheckpointError, ConfigError
from tests.support.blobs import Blobs
from tests.support.steps import batch_of, learning_task, steps
from tests.support.tiny import bce_iou, tiny_sam, tiny_vit_sam
from tests.test_invariants import assert_same

ENCODERS = pytest.mark.parametrize("build", [tiny_sam, tiny_vit_sam], ids=["vit", "tiny_vit"])
TARGETS = pytest.mark.parametrize("targets", ["qv", "qkv", "all"])


def images(model, count=2):
    torch.manual_seed(3)
    return torch.randint(0, 256, (count, 3, model.image_size, model.image_size), dtype=torch.uint8)


def encode(model):
    return model.encode(images(model), [(64, 64), (48, 64)]).embedding


def learned(model, seed=0):
    """The same model as if it had been trained: B is not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".lora_b"):
                parameter.normal_(std=0.2, generator=generator)
    return model


def adapted(build, **options):
    model = build()
    torch.manual_seed(0)
    Lora(**options)(model)
    return learned(model)


def factors_of(model):
    return [name for name, _ in model.named_parameters() if ".lora_" in name]


def assert_same_weights(one, other):
    pairs = zip(one.named_parameters(), other.named_parameters(), strict=True)
    assert all(name == its_name and torch.equal(mine, theirs) for (name, mine), (its_name, theirs) in pairs)


@ENCODERS
@TARGETS
@pytest.mark.parametrize("grad", [True, False], ids=["training", "prediction"])
def test_it_starts_as_the_model_that_it_adapts_bit_for_bit(build, targets, grad):
    model = build().requires_grad_(False)  # torch picks the kernel of a convolution by whether its weight learns
    with torch.set_grad_enabled(grad):
        before = encode(model)
        Lora(targets=targets)(model)
        assert torch.equal(encode(model), before)
        assert not torch.equal(encode(learned(model)), before)


@ENCODERS
@TARGETS
def test_training_and_prediction_compute_the_same_updates(build, targets):
    model = adapted(build, rank=3, targets=targets)
    with torch.no_grad():
        predicted = encode(model)
    torch.testing.assert_close(encode(model).detach(), predicted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("build", "layer", "by_part"),
    [
        # ViT: all q, then all k, then all v. TinyViT: q, k and v of a head side by side.
        (tiny_sam, "blocks.0.attn.qkv", lambda update: update.reshape(3, -1)),
        (tiny_vit_sam, "layers.2.blocks.0.attn.qkv", lambda update: update.reshape(3, 3, -1).transpose(0, 1)),
    ],
    ids=["vit", "tiny_vit"],
)
@pytest.mark.parametrize("targets", ["qv", "qkv"])
def test_keys_are_updated_only_with_qkv(build, layer, by_part, targets, tmp_path):
    save_partial_weights(adapted(build, targets=targets), tmp_path / "best.safetensors")
    model = build()
    before = model.image_encoder.get_submodule(layer).weight.clone()
    load_partial_weights(model, tmp_path / "best.safetensors")
    q, k, v = by_part(model.image_encoder.get_submodule(layer).weight - before)
    assert q.any()
    assert v.any()
    assert bool(k.any()) == (targets == "qkv")


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


@ENCODERS
@TARGETS
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_plain_model_with_the_file_predicts_what_the_adapted_one_does_bit_for_bit(
    build, targets, precision, tmp_path
):
    path = tmp_path / "best.safetensors"
    model = adapted(build, rank=3, alpha=5, targets=targets)
    save_partial_weights(model, path, monitor="iou")
    tensors, metadata = read_tensors(path)
    assert metadata["lora"] == {"rank": 3, "alpha": 5.0, "targets": targets}
    assert tensors.keys() == {name for name, p in model.named_parameters() if p.requires_grad}

    plain = build()
    names = list(plain.state_dict())
    loaded = load_partial_weights(plain, path)
    assert loaded["trained_modules"] == ["image_encoder", "mask_decoder"]
    assert list(plain.state_dict()) == names
    assert not any(type(module) is not nn.Linear for module in plain.modules() if isinstance(module, nn.Linear))
    image = Blobs([4])[0].image.permute(1, 2, 0).numpy()
    one, other = (Predictor(found, precision).predict(image, boxes=[[8, 9, 30, 28]]) for found in (model, plain))
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))


def test_an_adapted_model_takes_the_factors_of_its_own_kind(messages, tmp_path):
    path = tmp_path / "best.safetensors"
    model = adapted(tiny_sam, rank=2)
    save_partial_weights(model, path)
    same, other = tiny_sam(), tiny_sam()
    Lora(rank=2)(same)
    load_partial_weights(same, path)
    assert_same_weights(model, same)
    Lora(rank=2, alpha=8.0)(other)
    with messages.raises(CheckpointError, str(path), "8.0"):
        load_partial_weights(other, path)


def tiny_of_a_file():
    model = tiny_sam()
    model.base_sha256 = 64 * "a"
    return model


@pytest.mark.parametrize("build", [tiny_sam, tiny_of_a_file], ids=["random weights", "weights of a file"])
def test_a_file_is_merged_once(messages, build, tmp_path):
    path = tmp_path / "best.safetensors"
    save_partial_weights(adapted(build), path)
    plain = build()
    load_partial_weights(plain, path)
    with messages.raises(CheckpointError, str(path)):
        load_partial_weights(plain, path)


def test_weights_trained_on_top_of_merged_ones_need_the_same_merged_ones(messages, tmp_path):
    lora, other, path = (tmp_path / f"{name}.safetensors" for name in ("lora", "other", "decoder"))
    save_partial_weights(adapted(tiny_of_a_file), lora)
    save_partial_weights(learned(adapted(tiny_of_a_file), seed=1), other)
    models = [tiny_of_a_file() for _ in range(3)]
    for model, file in zip(models, (lora, lora, other), strict=True):
        load_partial_weights(model, file)
    Freeze(["mask_decoder.*"])(models[0])
    save_partial_weights(models[0], path)
    load_partial_weights(models[1], path)
    for model in (models[2], tiny_of_a_file()):
        with messages.raises(CheckpointError, str(path)):
            load_partial_weights(model, path)


def test_an_adapted_model_exports_as_the_plain_one_that_its_file_makes(tmp_path):
    model, plain = (build_model("lite_medsam", checkpoint=None) for _ in range(2))
    plain.load_state_dict(model.state_dict())
    Lora(rank=2, stages=1)(model)
    save_partial_weights(learned(model), tmp_path / "best.safetensors")
    load_partial_weights(plain, tmp_path / "best.safetensors")
    exported = []
    for number, one in enumerate((model, plain)):
        export_official(one, tmp_path / f"{number}.pth")
        exported.append(torch.load(tmp_path / f"{number}.pth", weights_only=True))
    assert exported[0].keys() == exported[1].keys()
    assert all(torch.equal(tensor, exported[1][name]) for name, tensor in exported[0].items())


@pytest.mark.parametrize("change", ["alone", "narrow", "no layer"])
def test_factors_that_do_not_fit_are_refused_and_change_nothing(messages, change, tmp_path):
    path, name = tmp_path / "best.safetensors", "image_encoder.blocks.1.attn.qkv"
    save_partial_weights(adapted(tiny_sam, rank=2), path)
    tensors, metadata = read_tensors(path)
    if change == "alone":
        del tensors[f"{name}.lora_b"]
    elif change == "narrow":
        tensors[f"{name}.lora_b"] = tensors[f"{name}.lora_b"][:-1]
    else:
        tensors["image_encoder.neck.0.lora_a"] = torch.zeros(2, 32)
    write_tensors(path, tensors, metadata)
    plain = tiny_sam()
    with messages.raises(CheckpointError, str(path), "image_encoder.neck.0" if change == "no layer" else name):
        load_partial_weights(plain, path)
    assert_same_weights(plain, tiny_sam())


HUGE = 10**400


@pytest.mark.parametrize(
    "lora",
    [
        "all",
        ["rank"],
        {"rank": 2, "alpha": 16.0},
        {"rank": 2, "alpha": 16.0, "targets": "all", "dropout": 0.0},
        {"rank": 0, "alpha": 16.0, "targets": "all"},
        {"rank": 2.0, "alpha": 16.0, "targets": "all"},
        {"rank": 1_000_000_000, "alpha": 16.0, "targets": "all"},
        {"rank": HUGE, "alpha": 16.0, "targets": "all"},
        {"rank": 2, "alpha": -1.0, "targets": "all"},
        {"rank": 2, "alpha": HUGE, "targets": "all"},
        {"rank": 2, "alpha": float("nan"), "targets": "all"},
        {"rank": 2, "alpha": "16", "targets": "all"},
        {"rank": 2, "alpha": 16.0, "targets": ["all"]},
        {"rank": 2, "alpha": 16.0, "targets": "qv"},  # others were trained
        None,
    ],
    ids=lambda lora: str(lora).replace(str(HUGE), "HUGE"),
)
def test_metadata_that_no_run_writes_is_refused_in_one_line_and_changes_nothing(lora, tmp_path):
    path = tmp_path / "best.safetensors"
    save_partial_weights(adapted(tiny_sam, rank=2), path)
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors, {**metadata, "lora": lora})
    plain = tiny_sam()
    with pytest.raises(CheckpointError) as refused:
        load_partial_weights(plain, path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)
    assert_same_weights(plain, tiny_sam())


@pytest.mark.parametrize("layer", ["image_encoder.blocks.1.mlp.lin1", "image_encoder.blocks.1.attn.proj"])
def test_factors_of_a_layer_outside_the_targets_are_refused(layer, tmp_path):
    path = tmp_path / "best.safetensors"
    save_partial_weights(adapted(tiny_sam, rank=2, targets="qv"), path)
    tensors, metadata = read_tensors(path)
    tensors |= {f"{layer}.lora_a": torch.ones(2, 32), f"{layer}.lora_b": torch.ones(64, 2)}
    write_tensors(path, tensors, metadata)
    with pytest.raises(CheckpointError, match=layer):
        load_partial_weights(tiny_sam(), path)


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


def test_dropout_acts_in_training_alone():
    model = adapted(tiny_sam, dropout=0.5)
    with torch.no_grad():
        assert torch.equal(encode(model), encode(model))
    pixels, found = images(model), []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(model.encode(pixels, [(64, 64), (48, 64)]).embedding)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


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


@pytest.mark.parametrize("options", [{}, {"dropout": 0.3}])
def test_activation_checkpointing_gives_the_same_gradients(options):
    gradients = []
    for recompute in (False, True):
        model = adapted(tiny_sam, **options)
        model.image_encoder.activation_checkpointing = recompute
        encode(model).square().mean().backward()
        gradients.append({name: model.get_parameter(name).grad for name in factors_of(model)})
    assert all(torch.equal(gradient, gradients[1][name]) for name, gradient in gradients[0].items())
    assert all(gradient.any() for gradient in gradients[0].values())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_compiled_modules_give_the_same_losses_and_gradients():
    plain, compiled = (steps(Lora(rank=2, blocks=1), None, [2, 1, 3], epochs=1, backend=b) for b in (None, "aot_eager"))
    assert_same(plain, compiled)
