import numpy as np
import pytest
import torch
from torch import nn

from sam_ft import Predictor, load_partial_weights, save_partial_weights
from sam_ft.adapt import Freeze, Lora
from sam_ft.export import write_state_dict
from sam_ft.models import build_model
from sam_ft.training.tensor_file import read_tensors, write_tensors
from sam_ft.utils.errors import CheckpointError
from tests.support.blobs import Blobs
from tests.support.lora import ENCODERS, TARGETS, adapted, assert_same_weights, learned
from tests.support.tiny import tiny_sam, tiny_vit_sam


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
        write_state_dict(one, tmp_path / f"{number}.pth")
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
