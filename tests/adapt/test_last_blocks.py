import pytest

from sam_ft.adapt import LastBlocks
from sam_ft.adapt.last_blocks import last_unit_names
from sam_ft.models import build_model
from sam_ft.utils.errors import ConfigError

ENCODERS = {name: build_model(name, checkpoint=None, image_size=64) for name in ("lite_medsam", "vit_b")}


def learning(model):
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


@pytest.mark.parametrize(
    ("model", "blocks", "stages", "first"),
    [
        ("vit_b", 0, None, "neck"),
        ("vit_b", 1, None, "blocks.11"),
        ("vit_b", 3, None, "blocks.9"),
        ("vit_b", 12, None, "blocks.0"),
        ("lite_medsam", 0, None, "neck"),
        ("lite_medsam", 1, None, "layers.3.blocks.1"),
        ("lite_medsam", 3, None, "layers.2.blocks.5"),
        ("lite_medsam", None, 1, "layers.3.blocks.0"),
        ("lite_medsam", None, 2, "layers.2.blocks.0"),
    ],
)
def test_the_cut_lies_before_the_first_block_that_learns(model, blocks, stages, first):
    model = ENCODERS[model]
    LastBlocks(blocks, stages)(model)
    units = [unit.names[0] for unit in model.image_encoder.units()]
    assert units[model.image_encoder.cut] == first
    assert last_unit_names(model.image_encoder, blocks, stages) == units[units.index(first) :]
    names = learning(model)
    assert all(name.startswith(("mask_decoder.", "image_encoder.")) for name in names)
    parts = {next((u for u in units if name.startswith(f"image_encoder.{u}.")), "decoder") for name in names}
    assert parts == {*units[units.index(first) :], "decoder"}


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"blocks": 1, "stages": 1}, "stages=1"),
        ({"blocks": None}, "blocks=None"),
        ({"blocks": -1}, "blocks=-1"),
        ({"blocks": None, "stages": 0}, "stages=0"),
        ({"train": []}, "train=[]"),
    ],
)
def test_options_that_cannot_be_are_refused(messages, options, fact):
    with messages.raises(ValueError, fact):
        LastBlocks(**options)


@pytest.mark.parametrize(
    ("model", "blocks", "stages", "fact"), [("vit_b", 13, None, "has 12 blocks"), ("vit_b", None, 1, "has 0 stages")]
)
def test_more_than_the_encoder_has_is_refused(messages, model, blocks, stages, fact):
    with messages.raises(ConfigError, fact):
        LastBlocks(blocks, stages)(ENCODERS[model])


def test_the_other_patterns_are_those_of_freeze():
    model = ENCODERS["lite_medsam"]
    LastBlocks(1, train=["mask_decoder.*", "prompt_encoder.*"], freeze=["image_encoder.neck.*"])(model)
    names = learning(model)
    assert any(name.startswith("prompt_encoder.") for name in names)
    assert not any(name.startswith("image_encoder.neck.") for name in names)
