import base64
import io
import json
import os

import numpy as np
from PIL import Image

from sam_ft.writers.labelme import write_labelme
from tests.support.instances import CLASSES, SIZE, hard_masks, make_instances, mask_ious, no_masks


def test_masks_lie_between_their_first_and_their_last_pixel(tmp_path):
    instances = make_instances(tmp_path)
    write_labelme(tmp_path / "a.json", instances)
    content = json.loads((tmp_path / "a.json").read_text())
    read = []
    for shape in content["shapes"]:
        (x0, y0), (x1, y1) = shape["points"]
        read.append(np.zeros(SIZE, bool))
        # as labelme's shape_to_mask does: the last pixel is included
        read[-1][y0 : y1 + 1, x0 : x1 + 1] = np.array(Image.open(io.BytesIO(base64.b64decode(shape["mask"])))) > 0
        assert (shape["shape_type"], shape["flags"], shape["group_id"]) == ("mask", {}, None)
    assert (mask_ious(read, hard_masks()) == 1).all()
    assert [shape["label"] for shape in content["shapes"][:2]] == list(CLASSES.values())
    assert [shape["score"] for shape in content["shapes"]] == instances.short_scores()
    assert (content["imageHeight"], content["imageWidth"], content["imageData"]) == (*SIZE, None)


def test_the_image_is_found_from_the_folder_of_the_file(tmp_path):
    (tmp_path / "disk/deep").mkdir(parents=True)
    os.symlink(tmp_path / "disk/deep", tmp_path / "output")
    path = tmp_path / "output/labelme/sub/a.json"
    instances = make_instances(tmp_path / "images", name="sub/a")
    write_labelme(path, instances)
    named = json.loads(path.read_text())["imagePath"]
    assert not os.path.isabs(named)
    with Image.open(path.parent / named) as image:  # ".." of a link is beside its target
        assert image.size == (60, 40)


def test_an_image_without_objects_has_no_shapes(tmp_path):
    write_labelme(tmp_path / "a.json", make_instances(tmp_path, masks=no_masks()))
    assert json.loads((tmp_path / "a.json").read_text())["shapes"] == []
