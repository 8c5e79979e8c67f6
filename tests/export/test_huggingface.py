"""A Hugging Face folder, loaded offline by transformers and huggingface_hub."""

import json

import numpy as np
import pytest
import torch

from sam_ft import Predictor
from sam_ft.adapt import Lora
from sam_ft.export.huggingface import export_huggingface
from sam_ft.export.request import ExportRequest
from sam_ft.models import build_model
from sam_ft.models.build import SPECS, ModelSpec, build_sam
from sam_ft.models.heads import InstanceHead
from sam_ft.utils.errors import ConfigError
from tests.support.lora import learned
from tests.support.onnx import BOX, photo
from tests.support.tiny import SPEC, randomize, tiny_vit_sam

NOTES = {"zero_shot": {"iou": 0.5, "dice": 0.6, "recall": 1.0}, "best": {"iou": 0.75, "dice": 0.8, "recall": 1.0}}


def exported(model, tmp_path):
    folder = tmp_path / "hub"
    export_huggingface(ExportRequest(model, tmp_path, folder, "vit_b_cells_0123abcd", NOTES))
    return folder


def tiny_vit_b(monkeypatch, spec=SPEC):
    """A vit_b of two narrow blocks."""
    monkeypatch.setitem(SPECS, "vit_b", spec)
    torch.manual_seed(0)
    model = build_sam("vit_b")
    randomize(model)
    return model


def load(folder, monkeypatch):
    transformers = pytest.importorskip("transformers", reason="pip install transformers, which the extra test does")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model, info = transformers.SamModel.from_pretrained(folder, output_loading_info=True)
    # Nothing is drawn at random, and nothing of the file is ignored.
    assert {name: list(values) for name, values in info.items() if values} == {}
    return model.eval(), transformers.SamProcessor.from_pretrained(folder)


def compare(model, folder, image, monkeypatch, **prompts):
    """The logits and the scores of transformers are those of `Predictor` on the same image."""
    theirs, processor = load(folder, monkeypatch)
    boxes, points = prompts.get("boxes"), prompts.get("points")
    inputs = processor(
        image,
        input_boxes=boxes and [boxes],
        input_points=points and [points],
        input_labels=points and [prompts["point_labels"]],
        return_tensors="pt",
    )
    with torch.no_grad():
        found = theirs(**inputs, multimask_output=False)
    _, scores, logits = Predictor(model).predict(image, **prompts)
    np.testing.assert_allclose(found.pred_masks[0].numpy(), logits, atol=1e-4)
    np.testing.assert_allclose(found.iou_scores[0].numpy(), scores, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 40), (40, 64), (64, 64)], ids=["portrait", "landscape", "square"])
@pytest.mark.parametrize(
    "prompts",
    [
        {"boxes": [BOX, [2, 3, 20, 30]]},
        {"points": [[[10, 12], [30, 20]]], "point_labels": [[1, 0]]},
        {"boxes": [BOX], "points": [[[10, 12]]], "point_labels": [[1]]},
    ],
    ids=["boxes", "points", "both"],
)
def test_transformers_predicts_the_same_offline(size, prompts, tmp_path, monkeypatch):
    model = tiny_vit_b(monkeypatch)
    compare(model, exported(model, tmp_path), photo(size), monkeypatch, **prompts)


def test_updates_of_lora_are_merged(tmp_path, monkeypatch):
    model = tiny_vit_b(monkeypatch)
    Lora(rank=2, targets="all")(model)
    compare(learned(model), exported(model, tmp_path), photo((40, 64)), monkeypatch, boxes=[BOX])


def test_a_head_is_left_out_and_named(tmp_path, monkeypatch):
    model = tiny_vit_b(monkeypatch)
    model.attach_head(InstanceHead())
    folder = exported(model, tmp_path)
    load(folder, monkeypatch)
    assert "Without its head" in (folder / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("image_size", [1024, 256])
def test_vit_b_predicts_the_same_at_any_input_side(image_size, tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = build_model("vit_b", checkpoint=None, image_size=image_size)
    randomize(model)
    # Of the input's side, since transformers does not resize as Pillow does.
    image = photo((image_size * 5 // 8, image_size))
    compare(model, exported(model, tmp_path), image, monkeypatch, boxes=[[40, 50, 140, 120]])


@pytest.mark.parametrize("model_type", ["vit_l", "vit_h"])
def test_depth_width_and_global_blocks_are_those_of_the_model(model_type, tmp_path, monkeypatch):
    official = SPECS[model_type]
    # Every third block attends globally, and the width of a head differs from that of vit_b.
    spec = ModelSpec("vit", image_size=64, embed_dim=official.num_heads * 4, depth=3, num_heads=official.num_heads)
    monkeypatch.setitem(SPECS, model_type, spec)
    torch.manual_seed(0)
    model = build_sam(model_type)
    randomize(model)
    compare(model, exported(model, tmp_path), photo((40, 64)), monkeypatch, boxes=[BOX])


@pytest.mark.parametrize("model_type", ["vit_t", "lite_medsam"])
def test_models_whose_encoder_transformers_lacks_are_refused(model_type, messages, tmp_path):
    with messages.raises(ConfigError, "format=huggingface", model_type):
        exported(tiny_vit_sam(model_type), tmp_path)
    assert not (tmp_path / "hub").exists()


def test_the_model_card_holds_the_scores_of_the_run(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="pip install huggingface_hub, which transformers requires")
    folder = exported(tiny_vit_b(monkeypatch), tmp_path)
    card = hub.ModelCard.load(folder / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "mask-generation")
    assert card.data.base_model == "facebook/sam-vit-base"
    assert card.data.model_name == "vit_b_cells_0123abcd"
    assert {one.metric_type: one.metric_value for one in card.data.eval_results} == {"iou": 0.75, "dice": 0.8}
    assert "iou 0.500 → 0.750, dice 0.600 → 0.800" in card.text
    assert "hf upload USER/vit_b_cells_0123abcd hub" in card.text


def test_a_model_without_scores_has_a_card_without_results(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="pip install huggingface_hub, which transformers requires")
    request = ExportRequest(tiny_vit_b(monkeypatch), tmp_path, tmp_path, "vit_b_cells_0123abcd")
    export_huggingface(request)
    assert hub.ModelCard.load(tmp_path / "README.md").data.eval_results is None


def test_the_processor_is_described_for_transformers_4_and_5(tmp_path, monkeypatch):
    folder = exported(tiny_vit_b(monkeypatch), tmp_path)
    one, other = (json.loads((folder / f"{name}_config.json").read_text()) for name in ("preprocessor", "processor"))
    assert other["image_processor"] == one
    assert one["size"] == {"longest_edge": 64}
    assert one["mask_size"] == {"longest_edge": 16}
