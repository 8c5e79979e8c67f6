"""Predicts masks of boxes with another program; run by that program's own Python, which has no sam_ft and no pytest.

python consumers.py TOOL FOLDER IMAGE.png BOXES.json OUT.npy
FOLDER: of an export · BOXES.json: lists of x0, y0, x1, y1 · OUT.npy: (N, H, W) bool
"""

import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np

os.environ["QT_QPA_PLATFORM"] = "offscreen"


def anylabeling(folder, path, boxes):
    """AnyLabeling and X-AnyLabeling, whose packages have the same name: the polygons that they draw."""
    import yaml
    from PyQt6.QtGui import QImage
    from PyQt6.QtWidgets import QApplication

    application = QApplication([])  # has to exist as long as the model
    from anylabeling import config as settings
    from anylabeling.services.auto_labeling.segment_anything import SegmentAnything

    settings.current_config_file = "{}"  # the settings of the program, of which none are changed

    config = yaml.safe_load((folder / "config.yaml").read_text())
    # Load Custom Model adds the place of the file.
    model = SegmentAnything({**config, "config_file": str(folder / "config.yaml")}, on_message=print)
    size, masks = cv2.imread(str(path)).shape[:2], []
    for box in boxes:
        model.set_auto_labeling_marks([{"type": "rectangle", "data": box, "label": 1}])
        mask = np.zeros(size, np.uint8)
        for shape in model.predict_shapes(QImage(str(path)), str(path)).shapes:
            cv2.fillPoly(mask, [np.array([[point.x(), point.y()] for point in shape.points], np.int32)], 1)
        masks.append(mask > 0)
    del application
    return masks


def samexporter(folder, path, boxes):
    from samexporter.sam_onnx import SegmentAnythingONNX

    encoder, decoder = (str(next(folder.glob(f"*_{part}.onnx"))) for part in ("encoder", "decoder"))
    model = SegmentAnythingONNX(encoder, decoder)
    image = model.encode(cv2.imread(str(path)))
    marks = ([{"type": "rectangle", "data": box, "label": 1}] for box in boxes)
    return [model.predict_masks(image, mark)[0, 0] > 0 for mark in marks]


def ultralytics(folder, path, boxes):
    from ultralytics import SAM

    (weights,) = folder.glob("*.pt")
    model = SAM(str(weights))
    # One box at a time: Ultralytics drops masks that overlap others.
    found = (model.predict(str(path), bboxes=[box], verbose=False, save=False)[0] for box in boxes)
    return [one.masks.data[0].cpu().numpy() > 0 for one in found]


def micro_sam(folder, path, boxes):
    from micro_sam.prompt_based_segmentation import segment_from_box
    from micro_sam.util import get_sam_model, precompute_image_embeddings

    (weights,) = folder.glob("*.pt")
    model_type = next(kind for kind in ("vit_t", "vit_b", "vit_l", "vit_h") if kind in weights.name)
    predictor = get_sam_model(model_type, checkpoint_path=str(weights), device="cpu")
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    embedded = precompute_image_embeddings(predictor, image, ndim=2, verbose=False)
    flipped = (np.array([y0, x0, y1, x1]) for x0, y0, x1, y1 in boxes)
    return [segment_from_box(predictor, box, image_embeddings=embedded)[0] > 0 for box in flipped]


def isat(folder, path, boxes):
    from ISAT.segment_any.segment_any import SegAny

    (weights,) = folder.glob("*.pt")
    model = SegAny(str(weights), use_bfloat16=False)
    model.set_image(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))
    return [np.squeeze(model.predict_with_box_prompt(np.array(box))) > 0 for box in boxes]


TOOLS = {
    "anylabeling": anylabeling,
    "x_anylabeling": anylabeling,
    "samexporter": samexporter,
    "ultralytics": ultralytics,
    "micro_sam": micro_sam,
    "isat": isat,
}

if __name__ == "__main__":
    tool, folder, path, boxes, out = sys.argv[1:]
    np.save(out, np.stack(TOOLS[tool](Path(folder), Path(path).resolve(), json.loads(Path(boxes).read_text()))))
