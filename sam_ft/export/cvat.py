"""CVAT: a file with which an agent predicts masks from the clicks and boxes of CVAT's page."""

from pathlib import Path

from sam_ft.export.request import ExportRequest

FUNCTION = '''\
"""Predicts masks from the clicks and boxes of CVAT with a model tuned by sam-ft. Needs cvat-cli and sam-ft."""

import cvat_sdk.auto_annotation as cvataa
import numpy as np
from cvat_sdk.masks import encode_mask

from sam_ft import Predictor


class Function:
    # Object points, background points and a box are all optional.
    spec = cvataa.InteractionFunctionSpec(min_pos_points=0, min_neg_points=0, min_bounding_boxes=0)

    def __init__(self, run: str) -> None:
        self.predictor = Predictor.from_run(run)

    def preprocess_image(self, context, image):
        return np.array(image.convert("RGB"))

    def detect(self, context, image, prompts):
        points = [*prompts.pos_points, *prompts.neg_points]
        labels = [1] * len(prompts.pos_points) + [0] * len(prompts.neg_points)
        box = prompts.bounding_box
        if box is None and not points:
            return []
        given = {"boxes": [[*box[0], *box[1]]]} if box else {}
        given |= {"points": [points], "point_labels": [labels]} if points else {}
        # A single click is ambiguous: take the best of three masks.
        masks, scores, _ = self.predictor.predict(image, **given, multimask_output=box is None and len(points) == 1)
        mask = masks[0, scores[0].argmax()]
        return [cvataa.InteractionResultShape(type="mask", points=encode_mask(mask))] if mask.any() else []


def create(run: str) -> Function:
    return Function(run)
'''
USAGE = """
CVAT Enterprise and Cloud take functions of agents; the free Community server does not.

```bash
pip install cvat-cli
cvat-cli function create-native "{name}" --function-file {file} -p run=str:{run}
cvat-cli function run-agent ID --function-file {file} -p run=str:{run}
```

The second line prints ID. The agent sees images as CVAT sends them: 8 bits, without `data.intensity`.
"""


def export_cvat(request: ExportRequest) -> list[Path]:
    """Writes the function file, which loads the run from its directory."""
    path = request.write_text(f"{request.name}_cvat.py", FUNCTION)
    usage = USAGE.format(name=request.name, file=path.name, run=request.run.resolve())
    return [path, request.write_readme([path], usage, with_head=True)]
