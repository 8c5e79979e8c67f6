import json

import pytest

from sam_ft.data.sources.prompt_file import read_prompts

HEADER = "file,x0,y0,x1,y1,x,y,point_label,object,class\n"
COCO = {
    "images": [{"id": 7, "file_name": "sub/a.png", "width": 9, "height": 9}],
    "categories": [{"id": 3, "name": "cell"}],
    "annotations": [],
}


def write(tmp_path, text, name="prompts.csv"):
    path = tmp_path / name
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path


def of(prompts, name):
    return [(one.label, one.box, one.points) for one in prompts.objects[name]]


def test_a_row_is_an_object_and_rows_of_one_object_are_joined(tmp_path):
    text = (
        HEADER + "a.png,1,2,3,4.5,,,,,z\n\nb.png,,,,,5,6,,p,y\na.png,1,2,9,9,,,,q,y\n"
        "b.png,,,,,7,8,0,p,y\na.png,,,,,2,3,1,q,y\n"
    )
    prompts = read_prompts(write(tmp_path, text))
    assert prompts.classes == {1: "y", 2: "z"}
    assert of(prompts, "a.png") == [(2, (1, 2, 3, 4.5), []), (1, (1, 2, 9, 9), [(2, 3, 1)])]
    assert of(prompts, "b.png") == [(1, None, [(5, 6, 1), (7, 8, 0)])]


@pytest.mark.parametrize(("mark", "name"), [("\t", "p.tsv"), (";", "p.csv"), (",", "p.txt")])
def test_delimiters_a_byte_order_mark_and_other_columns(tmp_path, mark, name):
    text = "\ufeff file ,x0,y0,x1,y1,note\nsub\\a.png, 1 ,2,3,4,hello\n".replace(",", mark)
    prompts = read_prompts(write(tmp_path, text, name))
    assert prompts.classes == {1: "object"}
    assert of(prompts, "sub/a.png") == [(1, (1, 2, 3, 4), [])]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "cp1252", "utf-8-sig"])
def test_the_encoding_is_recognized(tmp_path, encoding):
    path = tmp_path / "p.csv"
    path.write_text("file,x,y\nZelle_ä.png,30,20\n", encoding=encoding)
    assert of(read_prompts(path), "Zelle_ä.png") == [(1, None, [(30, 20, 1)])]


def test_the_line_of_excel_that_names_the_delimiter_is_no_header(tmp_path, messages):
    path = write(tmp_path, "sep=;\r\nfile;x;y\r\na.png;30;20\r\n")
    assert of(read_prompts(path), "a.png") == [(1, None, [(30, 20, 1)])]
    path = write(tmp_path, "sep=;\r\nfile;x;y\r\na.png;30;z\r\n")
    messages.refusal(lambda: read_prompts(path), f"prompts={path}, line 3: ")


def test_a_file_is_found_by_its_path_or_by_its_name(tmp_path):
    prompts = read_prompts(write(tmp_path, "file,x,y\na.png,1,2\nsub/b.png,1,2\n"))
    assert prompts.find("deep/a.png") == "a.png"
    assert prompts.find("sub/b.png") == "sub/b.png"
    assert prompts.find("other/b.png") is None


def test_boxes_of_coco_and_keypoints_of_objects_without_one(tmp_path):
    own = {"image_id": 7, "category_id": 3}
    annotations = [{**own, "bbox": [1, 2, 3, 4.5]}, {**own, "keypoints": [5, 6, 2, 0, 0, 0, 7, 8, 1]}]
    prompts = read_prompts(write(tmp_path, {**COCO, "annotations": annotations}, "p.json"))
    assert prompts.classes == {3: "cell"}
    assert of(prompts, "sub/a.png") == [(3, (1, 2, 4, 6.5), []), (3, None, [(5, 6, 1), (7, 8, 1)])]


def test_coco_without_categories_has_one_class(tmp_path):
    content = {"images": COCO["images"], "annotations": [{"image_id": 7, "bbox": [1, 2, 3, 4]}]}
    prompts = read_prompts(write(tmp_path, content, "p.json"))
    assert prompts.classes == {1: "object"}
    assert of(prompts, "sub/a.png") == [(1, (1, 2, 4, 6), [])]


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("file,x0,y0,x1\na.png,1,2,3\n", ["file, x0, y0, x1", "x0,y0,x1,y1"]),
        (HEADER, ["no rows"]),
        (HEADER + ",1,2,3,4,,,,,\n", ["line 2", "file"]),
        (HEADER + "a.png,1,2,3,4,,,,,\na.png,1,2,1,4,,,,,\n", ["line 3", "1, 2, 1, 4"]),
        (HEADER + "a.png,1,2,,4,,,,,\n", ["line 2", "empty cell"]),
        (HEADER + "a.png,1,2,wide,4,,,,,\n", ["line 2", "wide"]),
        (HEADER + "a.png,,,,,,,,,\n", ["line 2", "neither"]),
        (HEADER + "a.png,,,,,1,2,5,,\n", ["point_label is 5"]),
        (HEADER + "a.png,1,2,3,4,,,,1,\na.png,1,2,3,4,,,,1,\n", ["line 3", "second box"]),
        (HEADER + "a.png,1,2,3,4,,,,1,x\na.png,,,,,1,2,,1,y\n", ["line 3", "class y"]),
        (HEADER + "a.png,1,2,3,4,,,,1,x\na.png,,,,,1,2,,2,\n", ["line 3", "class"]),
    ],
)
def test_a_table_that_cannot_be_used_names_its_line(tmp_path, messages, text, facts):
    messages.refusal(lambda: read_prompts(write(tmp_path, text)), "prompts.csv", *facts)


@pytest.mark.parametrize(
    ("annotation", "fact"),
    [
        ({"image_id": 8, "category_id": 3, "bbox": [1, 2, 3, 4]}, "image_id"),
        ({"image_id": 7, "category_id": 4, "bbox": [1, 2, 3, 4]}, "category_id 4"),
        ({"image_id": 7, "category_id": 3, "bbox": [1, 2, 3]}, "[1, 2, 3]"),
        ({"image_id": 7, "category_id": 3, "bbox": [1, 2, 0, 4]}, "1, 2, 1, 6"),
        ({"image_id": 7, "category_id": 3, "keypoints": [1, 2, 0]}, "neither"),
        (None, "no annotations"),
    ],
)
def test_coco_that_cannot_be_used_names_its_annotation(tmp_path, messages, annotation, fact):
    content = {**COCO, "annotations": [] if annotation is None else [annotation]}
    messages.refusal(lambda: read_prompts(write(tmp_path, content, "p.json")), "p.json", fact)


def test_a_file_that_is_missing_or_of_another_kind(tmp_path, messages):
    for name in ("nothing.csv", "nothing.json", "boxes.xml"):
        messages.refusal(lambda name=name: read_prompts(tmp_path / name), name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", "file,x0,y0,x1,y1\na.png,0.1,0.2,0.5,0.75\nb.png,0,0,1,1\n"),
        ("p.csv", "file,x,y\na.png,0.5,0.25\n"),
        ("p.json", None),
    ],
)
def test_normalized_coordinates_are_refused(tmp_path, messages, name, text):
    annotation = {"image_id": 1, "bbox": [0.25, 0.25, 0.5, 0.5]}
    content = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [annotation], "categories": []}
    (tmp_path / name).write_text(json.dumps(content) if text is None else text)
    messages.refusal(lambda: read_prompts(tmp_path / name), f"prompts={tmp_path / name}", "pixels")


def test_one_object_in_the_first_pixel_is_no_sign_of_normalized_coordinates(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("file,x,y\na.png,0,1\na.png,30,20\n")
    assert len(read_prompts(path).objects["a.png"]) == 2
