"""ONNX files run by onnxruntime: the same tensors in give the same tensors out as the graphs in torch."""

import numpy as np
import pytest
import torch
import yaml

from sam_ft.export import onnx as export
from sam_ft.export.onnx_graphs import DecoderGraph, EncoderGraph
from sam_ft.export.request import ExportRequest
from sam_ft.models import build_model
from sam_ft.models.build import build_sam
from tests.support.onnx import BOX, decoder_call, photo
from tests.support.tiny import randomize, tiny_sam

pytestmark = pytest.mark.slow  # exporting a decoder takes ten seconds
reason = "pip install onnx onnxscript onnxruntime, which the extra test does"
for package in ("onnx", "onnxscript"):
    pytest.importorskip(package, reason=reason)
onnxruntime = pytest.importorskip("onnxruntime", reason=reason)

POINTS = {  # by the number of points that the client sends
    1: ([[10, 12]], [1]),
    2: ([BOX[:2], BOX[2:]], [2, 3]),
    3: ([BOX[:2], BOX[2:], [0, 0]], [2, 3, -1]),
    7: ([[10, 12], [30, 20], [5, 5], [9, 9], [33, 21], [1, 2], [0, 0]], [1, 0, 1, 1, 0, 1, -1]),
}
TOLERANCE = 1e-3  # of logits and embeddings


def small_vit_b():
    """Blocks, heads and channels of vit_b at a quarter of its input side, with random weights."""
    torch.manual_seed(0)
    model = build_sam("vit_b", image_size=256)
    randomize(model)
    return model


MODELS = {
    "tiny": tiny_sam,
    "vit_b": small_vit_b,
    "vit_t": lambda: build_model("vit_t", checkpoint=None),
    "lite_medsam": lambda: build_model("lite_medsam"),
}


@pytest.fixture(scope="module", params=MODELS)
def exported(request, tmp_path_factory):
    """(model, paths of the files)"""
    model, folder = MODELS[request.param](), tmp_path_factory.mktemp(request.param)
    written = export.export_onnx(ExportRequest(model, folder, folder, f"{request.param}_cells_0123abcd"))
    assert [file.name.removeprefix(request.param) for file in written] == [
        "_cells_0123abcd_encoder.onnx",
        "_cells_0123abcd_decoder.onnx",
        "config.yaml",
        "README.md",
    ]
    return model, written


@pytest.fixture(scope="module")
def files(exported):
    """(model, encoder, decoder): sessions of onnxruntime."""
    return exported[0], *(onnxruntime.InferenceSession(file) for file in exported[1][:2])


def test_inputs_and_outputs_are_those_that_clients_expect(files):
    _, encoder, decoder = files
    assert [(one.name, one.shape[2], len(one.shape)) for one in encoder.get_inputs()] == [("input_image", 3, 3)]
    assert [one.name for one in encoder.get_outputs()] == ["image_embeddings"]
    assert [one.name for one in decoder.get_inputs()] == [
        "image_embeddings",
        "point_coords",
        "point_labels",
        "mask_input",
        "has_mask_input",
        "orig_im_size",
    ]
    assert [one.name for one in decoder.get_outputs()] == ["masks", "iou_predictions", "low_res_masks"]


@pytest.mark.parametrize("size", [(300, 480), (480, 300), (256, 256), (700, 1500), (31, 29)], ids=str)
def test_embeddings_and_masks_are_those_of_torch_on_images_of_any_size(files, size):
    model, encoder, decoder = files
    image = photo(size).astype(np.float32)
    (embedding,) = encoder.run(None, {"input_image": image})
    with torch.no_grad():
        expected = EncoderGraph(model)(torch.from_numpy(image)).numpy()
    # Resizing may round a value of a pixel to its neighbor.
    assert abs(embedding - expected).mean() < TOLERANCE
    compare(model, decoder, expected, decoder_call(size, *POINTS[2]))


@pytest.mark.parametrize("has_mask", [-1, 0, 1])
@pytest.mark.parametrize("count", POINTS)
def test_masks_and_scores_are_those_of_torch_for_all_prompts(files, count, has_mask):
    model, _, decoder = files
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(1, *model.embedding_shape)).astype(np.float32)
    mask = rng.normal(size=(1, 1, 256, 256)).astype(np.float32)
    compare(model, decoder, embedding, decoder_call((300, 480), *POINTS[count], mask=mask, has_mask=has_mask))


def test_a_mask_without_any_point_is_a_prompt(files):
    model, _, decoder = files
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(1, *model.embedding_shape)).astype(np.float32)
    mask = rng.normal(size=(1, 1, 256, 256)).astype(np.float32)
    compare(model, decoder, embedding, decoder_call((64, 48), [[0, 0]], [-1], mask=mask, has_mask=1))


def compare(model, decoder, embedding, call):
    """The three outputs of the decoder in onnxruntime and in torch."""
    found = decoder.run(None, {"image_embeddings": embedding, **call})
    with torch.no_grad():
        tensors = {name: torch.from_numpy(value) for name, value in call.items()}
        expected = DecoderGraph(model)(torch.from_numpy(embedding), **tensors)
    for ours, theirs in zip(expected, found, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(theirs, ours.numpy(), atol=TOLERANCE)


def test_the_settings_file_names_what_anylabeling_reads(exported):
    _, (encoder, decoder, config, _) = exported
    settings = yaml.safe_load(config.read_text())
    assert settings["type"] == "segment_anything"
    assert [settings[f"{part}_model_path"] for part in ("encoder", "decoder")] == [encoder.name, decoder.name]
    assert {"name", "display_name", "input_size", "max_width", "max_height"} <= settings.keys()


def test_weights_above_the_limit_of_protobuf_lie_in_a_second_file(tmp_path, monkeypatch):
    model = tiny_sam()
    monkeypatch.setattr(export, "ONE_FILE", 100_000)
    path = tmp_path / "encoder.onnx"
    written = export.write_graph(EncoderGraph(model), path, export.encoder_inputs(), ["image_embeddings"])
    assert [file.name for file in written] == ["encoder.onnx", "encoder.onnx.data"]
    assert sorted(tmp_path.iterdir()) == written
    image = photo((40, 64)).astype(np.float32)
    (embedding,) = onnxruntime.InferenceSession(path).run(None, {"input_image": image})
    with torch.no_grad():
        expected = EncoderGraph(model)(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(embedding, expected, atol=TOLERANCE)
