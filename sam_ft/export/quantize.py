"""ONNX files with weights of 8 bits, and the IoU that they cost on the validation images of the run."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sam_ft.data.splits import open_split, tile_split
from sam_ft.export.onnx_graphs import FRAME, MASK_SIDE, DecoderGraph, EncoderGraph
from sam_ft.models import Sam
from sam_ft.types import Sample, dense
from sam_ft.utils.files import atomic_path
from sam_ft.utils.geometry import masks_to_boxes
from sam_ft.utils.progress import progress

Runner = Callable[[dict[str, NDArray]], Any]  # from inputs by name to a list of outputs


def quantize_file(path: Path) -> Path:
    """Reduces the weights of the matrix products in an ONNX file to 8 bits, with a scale for each column.

    Convolutions keep 32 bits: TinyViT computes their weights in the graph, from those of its batch norms.
    """
    from onnxruntime.quantization import quantize_dynamic

    logging.disable(logging.WARNING)  # it advises a preparation that enlarges the file
    try:
        with atomic_path(path) as temporary:
            quantize_dynamic(path, temporary, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True)
    finally:
        logging.disable(logging.NOTSET)
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)  # weights that were too large for one file
    return path


def measure_loss(model: Sam, data: Any, tile: int | str | None, encoder: Path, decoder: Path) -> str:
    """Compares ONNX files with their model on validation images, with a tight box for each object: one line.

    data: of the run · tile: of its images, see `tile_split`
    """
    import onnxruntime

    graphs = _run_graph(EncoderGraph(model)), _run_graph(DecoderGraph(model))
    files = _run_session(onnxruntime.InferenceSession(encoder)), _run_session(onnxruntime.InferenceSession(decoder))
    split = tile_split(open_split(data, "val"), tile, model.image_size, own_extremes=False)
    before: list[float] = []
    after: list[float] = []
    for index in progress(range(len(split)), "comparing the files of 8 bits"):
        sample = split[index]
        if len(sample.masks):
            before += box_ious(*graphs, sample)
            after += box_ious(*files, sample)
    where = "validation images" if tile is None else "tiles of validation images"
    return (
        f"quantize=true: mean IoU of {len(before)} objects in {len(split)} {where}, with their boxes as "
        f"prompts: {np.mean(before):.4f} with 32 bits, {np.mean(after):.4f} with 8"
    )


def box_ious(encode: Runner, decode: Runner, sample: Sample) -> list[float]:
    """The IoU of each object of an image with the mask that its box gives, over pixels that are not ignored."""
    valid = torch.ones(sample.size, dtype=torch.bool) if sample.ignore is None else ~sample.ignore
    embedding = encode({"input_image": sample.image.permute(1, 2, 0).numpy().astype(np.float32)})[0]
    masks, found = dense(sample.masks), []
    for box, gt in zip(masks_to_boxes(masks), masks, strict=True):
        logits = decode({"image_embeddings": embedding, **box_inputs(box, sample.size)})[0]
        predicted = torch.from_numpy(logits[0, 0] > 0)
        found.append(float((predicted & gt & valid).sum() / ((predicted | gt) & valid).sum().clamp(min=1)))
    return found


def box_inputs(box: Tensor, size: tuple[int, int]) -> dict[str, NDArray[np.float32]]:
    """The inputs of the decoder besides the embedding. box: (4,) x0, y0, x1, y1 in pixels of the image"""
    return {
        "point_coords": (box.reshape(1, 2, 2) * FRAME / max(size)).numpy(),
        "point_labels": np.array([[2, 3]], np.float32),
        "mask_input": np.zeros((1, 1, MASK_SIDE, MASK_SIDE), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
        "orig_im_size": np.array(size, np.float32),
    }


def _run_graph(graph: nn.Module) -> Runner:
    @torch.no_grad()
    def run(inputs: dict[str, NDArray]) -> list[NDArray]:
        outputs = graph(**{name: torch.from_numpy(value) for name, value in inputs.items()})
        return [output.numpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]

    return run


def _run_session(session: Any) -> Runner:
    return lambda inputs: session.run(None, inputs)
