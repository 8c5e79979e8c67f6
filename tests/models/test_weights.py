"""Weights of a file in a model: another model's, in part, at another input side, or real."""

import logging

import pytest
import torch

import sam_ft.models
from sam_ft.models import build_model, build_sam
from sam_ft.models.download import OFFICIAL
from sam_ft.models.weights import find_checkpoint, identify_model_type, load_base_weights, read_state_dict
from sam_ft.utils import files
from sam_ft.utils.errors import CheckpointError, ConfigError
from tests.support.tiny import SPEC, tiny_sam


def blank(image_size=64):
    """A tiny model whose weights are all zero."""
    with torch.device("meta"):
        model = build_sam("tiny", image_size=image_size, spec=SPEC)
    model.load_state_dict({name: torch.zeros(t.shape) for name, t in model.state_dict().items()}, assign=True)
    return model


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def meta_state(model_type):
    with torch.device("meta"):
        return build_sam(model_type).state_dict()


# Whose it is


@pytest.mark.parametrize("model_type", list(OFFICIAL))
def test_each_model_is_identified_by_its_shapes(model_type):
    assert identify_model_type(meta_state(model_type)) == model_type


def test_other_models_are_not_identified():
    assert identify_model_type({"image_encoder.trunk.pos_embed": torch.ones(1)}) is None
    assert identify_model_type(tiny_sam().state_dict()) is None


def not_loaded(messages, model, state, path, *facts):
    torch.save(state, path)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with messages.raises(CheckpointError, *facts):
        load_base_weights(model, path)
    assert same(model.state_dict(), before)
    assert model.base_sha256 is None


def test_weights_of_another_model_are_refused_with_both_names_and_the_first_differences(messages, path):
    other = {name: torch.zeros(()).expand(tensor.shape) for name, tensor in meta_state("vit_h").items()}
    facts = (path, "vit_h", "model=vit_h", "model=tiny", " image_encoder.blocks.2.")
    not_loaded(messages, blank(), other, path, *facts)


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("image_encoder.trunk.pos_embed", "SAM 2"),
        ("vision_encoder.pos_embed", "Hugging Face"),
        ("module.image_encoder.pos_embed", "model.module.state_dict()"),
        ("image_encoder.blocks.0.attn.qkv.lora_a", "load_partial_weights"),
        ("layer1.0.conv1.weight", "model=tiny"),
    ],
)
def test_foreign_files_are_named(messages, name, fact, path):
    not_loaded(messages, blank(), {name: torch.ones(1)}, path, path, fact)


def test_one_missing_name_is_refused(messages, weights, path):
    del weights["mask_decoder.mask_tokens.weight"]
    not_loaded(messages, blank(), weights, path, "mask_decoder.mask_tokens.weight", "load_partial_weights")


def test_one_name_too_many_is_refused(messages, weights, path):
    not_loaded(messages, blank(), weights | {"extra": torch.ones(1)}, path, " extra")


def test_integers_do_not_pass_for_weights(messages, weights, path):
    weights["mask_decoder.iou_token.weight"] = weights["mask_decoder.iou_token.weight"].to(torch.int8)
    not_loaded(messages, blank(), weights, path, "iou_token.weight", "(1, 256) integer", "(1, 256) float")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(messages, weights, value, path):
    weights["image_encoder.pos_embed"][0, 1, 2, 3] = value
    not_loaded(messages, blank(), weights, path, "image_encoder.pos_embed ")


def test_an_altered_file_with_an_official_name_is_refused(messages, weights, tmp_path):
    path = tmp_path / "mobile_sam.pt"
    not_loaded(messages, blank(), weights, path, path, OFFICIAL["vit_t"].sha256)


# How it fits


def test_weights_load_bit_for_bit_with_the_digest_of_the_file(weights, path, caplog):
    torch.save(weights, path)
    model = blank()
    with caplog.at_level(logging.INFO, "sam_ft"):
        load_base_weights(model, path)
    assert same(model.state_dict(), weights)
    assert model.base_sha256 == files.sha256(path)
    assert caplog.messages == []


def test_half_precision_weights_load(weights, path):
    weights["image_encoder.neck.0.weight"][:] = 1000.0  # whose sum is no longer a half
    torch.save({name: tensor.half() for name, tensor in weights.items()}, path)
    load_base_weights(model := blank(), path)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_another_input_side_interpolates_what_depends_on_it_and_nothing_else(messages, weights, path, caplog):
    torch.save(weights, path)
    model = blank(128)
    with caplog.at_level(logging.INFO, "sam_ft"):
        load_base_weights(model, path)
    messages.logged(caplog, "weights.pth: ", "image_size=128", "pos_embed 4x4 -> 8x8", "2 rel_pos tables 7 -> 15")
    before, after = weights, model.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        "image_encoder.pos_embed",
        "image_encoder.blocks.1.attn.rel_pos_h",  # block 0 is windowed
        "image_encoder.blocks.1.attn.rel_pos_w",
    }


def test_tables_that_are_linear_in_position_stay_so(weights, path):
    """A table that holds x, of 4 cells at 16 pixels, must hold the same x at 8 cells of half the size."""
    centers = torch.arange(4) + 0.5  # of the cells, in cells of the file
    weights["image_encoder.pos_embed"][:] = centers[None, None, :, None]
    weights["image_encoder.blocks.1.attn.rel_pos_h"][:] = torch.arange(-3.0, 4.0)[:, None]  # distances
    torch.save(weights, path)
    load_base_weights(model := blank(128), path)
    table = model.state_dict()["image_encoder.pos_embed"][0, 0, :, 0]
    # Only cells 3 and 4 of 8 have all four of their points inside the table; torch's bicubic (a = -0.75)
    # bends a line by up to 0.05 of a cell.
    torch.testing.assert_close(table[3:5], (torch.arange(8) + 0.5)[3:5] / 2, atol=0.05, rtol=0)
    assert (table.diff() > 0).all()
    distances = model.state_dict()["image_encoder.blocks.1.attn.rel_pos_h"][:, 0]
    rows = (torch.arange(15) + 0.5) * 7 / 15 - 0.5 - 3  # F.interpolate's own grid, as SAM's get_rel_pos
    torch.testing.assert_close(distances, rows.clamp(-3, 3))


def test_relative_tables_shrink_as_in_the_official_code(weights, path):
    from tests.support.reference import segment_anything

    torch.save(weights, path)
    load_base_weights(model := blank(32), path)
    name = "image_encoder.blocks.1.attn.rel_pos_h"
    official = segment_anything.modeling.image_encoder.get_rel_pos(2, 2, weights[name])
    ours = model.state_dict()[name]
    torch.testing.assert_close(official, torch.stack([ours[[1, 0]], ours[[2, 1]]]))


# All of it


def test_the_real_weights_of_lite_medsam_load(caplog):
    model = build_model("lite_medsam")
    assert model.base_sha256 == "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"
    assert model.image_size == 256
    assert not model.training
    path = find_checkpoint("lite_medsam", "official")
    assert same(model.state_dict(), read_state_dict(path))
    assert same(build_model("lite_medsam", path).state_dict(), model.state_dict())


def test_random_weights_need_no_file(monkeypatch):
    monkeypatch.setattr(sam_ft.models, "find_checkpoint", pytest.fail)
    model = build_model("lite_medsam", checkpoint=None, image_size=128)
    assert model.base_sha256 is None
    assert model.image_size == 128
    assert model.mask_decoder.iou_prediction_head.layers[0].weight.std() > 0


def test_a_model_built_for_a_file_has_the_buffers_of_a_random_one(path):
    """Building leaves out the random values; buffers outside the state dict must be there all the same."""
    fresh = build_model("lite_medsam", checkpoint=None)
    loaded = build_model("lite_medsam")
    kept = set(fresh.state_dict())
    for name, buffer in fresh.named_buffers():
        if name not in kept:
            assert torch.equal(buffer, loaded.get_buffer(name))


def test_a_wrong_image_size_is_refused_before_the_download(messages, monkeypatch):
    monkeypatch.setattr(sam_ft.models, "find_checkpoint", pytest.fail)
    with messages.raises(ConfigError, "image_size is 100"):
        build_model("vit_t", image_size=100)
