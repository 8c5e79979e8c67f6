"""The IoU that quantize=true prints; tests/end_to_end/test_export.py writes and reads files of 8 bits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sam_ft import Predictor
from sam_ft.export.onnx_graphs import DecoderGraph, EncoderGraph
from sam_ft.export.quantize import _run_graph, box_ious
from sam_ft.utils.geometry import masks_to_boxes
from tests.support.blobs import Blobs
from tests.support.tiny import tiny_sam


def test_the_iou_of_the_graphs_is_that_of_the_predictor():
    model, sample = tiny_sam(), Blobs([4])[0]
    found = box_ious(_run_graph(EncoderGraph(model)), _run_graph(DecoderGraph(model)), sample)
    image = sample.image.permute(1, 2, 0).numpy()
    masks = Predictor(model).predict(image, boxes=masks_to_boxes(sample.masks))[0][:, 0]
    gt = sample.masks.numpy()
    expected = (masks & gt).sum((1, 2)) / (masks | gt).sum((1, 2))
    assert expected.all()
    # Resizing in the graph may round a value of a pixel to its neighbor, which moves some pixels of the masks.
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_ignored_pixels_do_not_count():
    sample = Blobs([1])[0]
    left = torch.zeros(sample.size, dtype=torch.bool)
    left[:, : sample.size[1] // 2] = True
    (gt,) = sample.masks

    def encode(_):
        return [np.zeros((1, 256, 4, 4), np.float32)]

    def decode(_):  # the object, and the right half of the image
        return [torch.where(gt | ~left, 1.0, -1.0)[None, None].numpy()]

    assert not (gt & ~left).any()
    assert box_ious(encode, decode, sample)[0] < 0.2
    assert box_ious(encode, decode, replace(sample, ignore=~left)) == pytest.approx([1.0])
