import pytest
import torch

from sam_ft.cache.prefix import prefix_digest, prefix_shapes
from sam_ft.models import build_model
from sam_ft.models.compiled import compile_parts
from sam_ft.models.sam import Sam
from tests.support.tiny import tiny_sam

MODELS = {
    "vit": tiny_sam,
    "tiny_vit": lambda: build_model("lite_medsam", checkpoint=None, image_size=64).eval(),
}


def cut_at(model: Sam, cut: int) -> Sam:
    """The model with an encoder that learns from unit `cut` on."""
    model.requires_grad_(False)
    units = model.image_encoder.units()[cut:]
    for name, parameter in model.image_encoder.named_parameters():
        parameter.requires_grad = any(unit.holds(name) for unit in units)
    assert model.image_encoder.cut == cut
    return model


def digest(model, compute_dtype=torch.float32):
    return prefix_digest(model, compute_dtype)


def test_models_of_the_same_weights_have_one_digest():
    assert digest(cut_at(tiny_sam(), 4)) == digest(cut_at(tiny_sam(), 4))


def test_the_digest_differs_by_number_format_and_by_cut():
    model = tiny_sam()
    digests = {digest(cut_at(model, cut)) for cut in (1, 2, 3, 4)} | {digest(cut_at(model, 4), torch.bfloat16)}
    assert len(digests) == 5


def test_the_digest_differs_by_the_kind_of_device(monkeypatch):
    model = cut_at(tiny_sam(), 4)
    on_cpu = digest(model)
    monkeypatch.setattr(Sam, "device", torch.device("cuda"))
    assert digest(model) != on_cpu


@pytest.mark.parametrize(("attribute", "other"), [("model_type", "other"), ("image_size", 32), ("normalize", "minmax")])
def test_the_digest_differs_by_the_preprocessing(attribute, other):
    model = cut_at(tiny_sam(), 4)
    before = digest(model)
    setattr(model, attribute, other)
    assert digest(model) != before


@pytest.mark.parametrize("name", MODELS)
def test_the_digest_depends_on_the_weights_before_the_cut_alone(name):
    model = MODELS[name]()
    units = model.image_encoder.units()
    cut = len(units) - 2
    before = digest(cut_at(model, cut))
    state = model.state_dict()
    names = [next(key for key in state if unit.holds(key.removeprefix("image_encoder."))) for unit in units]
    for key in [*names, next(reversed(state))]:
        tensor = state[key]
        inner = key.removeprefix("image_encoder.")
        in_prefix = inner != key and any(unit.holds(inner) for unit in units[:cut])
        kept = tensor.clone()
        tensor.flatten()[-1] += 1
        assert (digest(model) != before) == in_prefix, key
        tensor.copy_(kept)
    assert digest(model) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_shapes_are_those_of_an_encoding_at_every_cut(name):
    model = MODELS[name]()
    for cut in range(1, len(model.image_encoder.units()) + 1):
        cut_at(model, cut)
        with torch.no_grad():
            maps = model.prefix(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), [(64, 64)]).maps
        assert prefix_shapes(model) == [tuple(one.shape[1:]) for one in maps]
        assert all(parameter.device.type == "cpu" for parameter in model.parameters())


def test_shapes_need_no_compiled_encoder():
    def fail(*_):
        raise AssertionError("compiled")

    model = cut_at(tiny_sam(), 4)
    compile_parts(model, backend=fail)
    assert prefix_shapes(model) == [(256, 4, 4)]
