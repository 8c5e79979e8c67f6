from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from sam_ft.data.sources import synthetic
from sam_ft.types import dense


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Six pictures of the demo set stand for all of it."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "NUM_TRAIN", 4)
        patch.setattr(synthetic, "NUM_VAL", 2)
        synthetic.make_demo(home / "demo")
    return home / "demo"


@pytest.fixture
def drawn(root, tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_FT_HOME", str(tmp_path))
    (tmp_path / f"demo-{synthetic.VERSION}").symlink_to(root)


def test_the_demo_set_is_a_folder_with_lists(drawn):
    demo = synthetic.demo()
    assert demo.split("train").names == ["cells_00", "cells_01", "cells_02", "cells_03"]
    assert demo.split("val").names == ["cells_04", "cells_05"]
    for sample in demo.split("train"):
        assert sample.size == (256, 256)
        assert 8 <= len(sample.masks) <= 25
        assert dense(sample.masks).sum((1, 2)).min() > 300


def test_all_three_kinds_of_objects_are_the_same_cells(drawn):
    cells, parts, whole = (
        dense(synthetic.demo(kind).split("val")[0].masks) for kind in ("instances", "components", "whole")
    )
    assert len(cells) > len(parts) > len(whole) == 1  # touching cells are one component
    assert torch.equal(cells.any(0), whole[0])
    assert torch.equal(parts.any(0), whole[0])
    assert (cells.sum(0) <= 1).all()


def test_a_picture_is_drawn_the_same_again(root):
    image, ids = synthetic.draw_cells(np.random.default_rng([synthetic.VERSION, 5]))
    assert np.array_equal(np.array(Image.open(root / "images" / "cells_05.png")), image)
    assert np.array_equal(np.array(Image.open(root / "instances" / "cells_05.png")), ids)


def test_cells_are_about_as_bright_as_what_is_round_them(root):
    image = np.array(Image.open(root / "images" / "cells_05.png")).astype(float)
    inside = np.array(Image.open(root / "masks" / "cells_05.png")) > 0
    assert abs(image[inside].mean() - image[~inside].mean()) < image.std()
    assert image.std() > 10


def test_what_is_there_is_not_drawn_again(root, monkeypatch):
    monkeypatch.setattr(synthetic, "draw_cells", None)
    synthetic.make_demo(root)


def test_a_drawing_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "draw_cells", None)
    with pytest.raises(TypeError):
        synthetic.make_demo(tmp_path / "demo")
    assert [path.name for path in tmp_path.iterdir() if path.name != "demo.lock"] == []


def test_several_at_once_draw_it_once(tmp_path, monkeypatch):
    draw_cells, drawn = synthetic.draw_cells, []

    def counted(rng):
        drawn.append(1)
        return draw_cells(rng)

    monkeypatch.setattr(synthetic, "draw_cells", counted)
    monkeypatch.setattr(synthetic, "NUM_TRAIN", 1)
    monkeypatch.setattr(synthetic, "NUM_VAL", 1)
    with ThreadPoolExecutor(3) as pool:  # threads hold the lock file against each other just as processes do
        list(pool.map(synthetic.make_demo, [tmp_path / "demo"] * 3))
    assert len(drawn) == 2
