"""ONNX: encoder and decoder in a file each, with the settings file of AnyLabeling and X-AnyLabeling."""

import os
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sam_ft.export.onnx_graphs import FRAME, MASK_SIDE, DecoderGraph, EncoderGraph
from sam_ft.export.quantize import quantize_file
from sam_ft.export.request import ExportRequest
from sam_ft.models import Sam
from sam_ft.utils.disk import writing
from sam_ft.utils.errors import ConfigError
from sam_ft.utils.leftovers import held, temporary_beside

OPSET = 18
ONE_FILE = 2**31  # bytes: protobuf's limit; larger weights lie in a second file
# max_width and max_height are the canvas that AnyLabeling draws each image on.
CONFIG = """\
type: segment_anything
name: {name}
display_name: {name}
encoder_model_path: {encoder}
decoder_model_path: {decoder}
input_size: {frame}
max_width: {frame}
max_height: 682
"""
USAGE = """
AnyLabeling and X-AnyLabeling: choose Load Custom Model and then `config.yaml`. In Python, for an RGB `image` (H, W, 3):

```python
encoder, decoder = onnxruntime.InferenceSession("{encoder}"), onnxruntime.InferenceSession("{decoder}")
(embedding,) = encoder.run(None, {{"input_image": image.astype("float32")}})
```

The decoder has the inputs and outputs of segment-anything's ONNX export. It takes one object a call, a box as two
points with labels 2 and 3, and all coordinates times {frame} / max(H, W).
{note}"""
EXTERNAL = """
The weights of the encoder are too large for an ONNX file. They are in `{data}`, which must stay beside it.
"""


def export_onnx(request: ExportRequest, quantize: bool = False) -> list[Path]:
    """Writes the encoder, the decoder, and config.yaml for annotation tools.

    quantize: reduce the weights of matrix products to 8 bits

    Raises:
        ConfigError: a package of the extra "onnx" is missing.
    """
    check_packages("onnx", "onnxscript", *(["onnxruntime"] if quantize else []))
    model = request.model
    encoder, decoder = (request.folder / f"{request.name}_{part}.onnx" for part in ("encoder", "decoder"))
    files = write_graph(EncoderGraph(model), encoder, encoder_inputs(), ["image_embeddings"])
    names = ["masks", "iou_predictions", "low_res_masks"]
    files += write_graph(DecoderGraph(model), decoder, decoder_inputs(model), names)
    if quantize:
        files = [quantize_file(path) for path in (encoder, decoder)]
    text = CONFIG.format(name=request.name, encoder=encoder.name, decoder=decoder.name, frame=FRAME)
    files.append(request.write_text("config.yaml", text))
    note = "".join(EXTERNAL.format(data=file.name) for file in files if file.suffix == ".data")
    usage = USAGE.format(encoder=encoder.name, decoder=decoder.name, frame=FRAME, note=note)
    return [*files, request.write_readme(files, usage)]


def check_packages(*names: str) -> None:
    """Raises: ConfigError: a package of the extra "onnx" is missing."""
    for name in names:
        if find_spec(name) is None:
            raise ConfigError(f"format=onnx needs the package {name}; pip install 'sam-ft[onnx]'")


Inputs = dict[str, tuple[torch.Tensor, dict[int, Any] | None]]  # name: an example, and its free axes


def encoder_inputs() -> Inputs:
    height, width = (torch.export.Dim(name, min=2, max=2**16) for name in ("height", "width"))
    return {"input_image": (torch.rand(600, 800, 3) * 255, {0: height, 1: width})}


def decoder_inputs(model: Sam) -> Inputs:
    points = {1: torch.export.Dim("num_points", min=1, max=2**16)}
    return {
        "image_embeddings": (torch.rand(1, *model.embedding_shape), None),
        "point_coords": (torch.rand(1, 5, 2) * FRAME, points),
        "point_labels": (torch.tensor([[1.0, 0.0, 2.0, 3.0, -1.0]]), points),
        "mask_input": (torch.rand(1, 1, MASK_SIDE, MASK_SIDE), None),
        "has_mask_input": (torch.ones(1), None),
        "orig_im_size": (torch.tensor([600.0, 800.0]), None),
    }


def write_graph(graph: nn.Module, path: Path, inputs: Inputs, outputs: list[str]) -> list[Path]:
    """Exports a module; returns its files, of which the second holds weights above `ONE_FILE`."""
    graph.eval().requires_grad_(False)
    # Gradients stay enabled: without them the CPU's forms of some operations would unroll the rows of an image.
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")  # from inside of the exporter
        program = torch.onnx.export(
            graph,
            kwargs={name: example for name, (example, _) in inputs.items()},
            dynamic_shapes={name: free for name, (_, free) in inputs.items()},
            input_names=list(inputs),
            output_names=outputs,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # None is for a caller that gives a file
    size = sum(tensor.nbytes for value in program.model.graph.initializers.values() if (tensor := value.const_value))
    # A graph names the file of its weights, so both are written under their names, elsewhere, and then moved.
    folder = temporary_beside(path)
    try:
        with writing(path, size):
            folder.mkdir(parents=True)
            with held(folder):
                program.save(folder / path.name, external_data=size >= ONE_FILE)
                written = sorted(folder.iterdir())
                for file in written:
                    os.replace(file, path.parent / file.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return [path.parent / file.name for file in written]
