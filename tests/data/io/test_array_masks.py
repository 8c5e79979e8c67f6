"""Masks in files of NumPy, also as Cellpose pickles them."""

import os
import pickle

import numpy as np
import pytest
from PIL import Image

from sam_ft.data.io.masks import read_binary_mask, read_instance_mask
from sam_ft.utils.errors import DataError
from tests.data.io.test_binary_masks import DISC


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int64, np.float64])
def test_arrays_are_masks(tmp_path, suffix, dtype):
    path = tmp_path / f"m.{suffix}"
    values = (DISC > 0).astype(dtype)
    np.save(path, values) if suffix == "npy" else np.savez_compressed(path, img=np.zeros((3, 4, 5)), masks=values)
    assert np.array_equal(read_binary_mask(path)[0], DISC > 0)
    assert np.array_equal(read_instance_mask(path)[0], DISC > 0)


def test_an_array_may_have_further_axes_of_length_one_and_any_order(tmp_path):
    np.save(tmp_path / "m.npy", np.asfortranarray(DISC)[None])
    assert np.array_equal(read_binary_mask(tmp_path / "m.npy")[0], DISC > 0)
    np.savez(tmp_path / "m.npz", DISC[..., None])
    assert np.array_equal(read_binary_mask(tmp_path / "m.npz")[0], DISC > 0)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_pickle_is_never_loaded(messages, tmp_path, suffix):
    class Harm:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "harmed"),))

    def write(content):
        path = tmp_path / f"a_seg.{suffix}"
        array = np.array(content, dtype=object)
        np.save(path, array, allow_pickle=True) if suffix == "npy" else np.savez(path, masks=array)
        return path

    for content in ({"harm": Harm()}, Harm(), {"masks": Harm()}, {"masks": [1, 2]}, {"masks": DISC.astype(object)}):
        path = write(content)
        messages.refusal(lambda path=path: read_instance_mask(path), f"a_seg.{suffix}: ", "_cp_masks")
    assert np.array_equal(read_instance_mask(write({"harm": Harm(), "masks": DISC}))[0], DISC)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("protocol", [2, 3, 4])  # those of np.save
@pytest.mark.parametrize("dtype", ["<u2", ">i4", "u1", "bool"])
def test_the_masks_of_cellpose_are_found(tmp_path, protocol, dtype):
    ids = (np.arange(48).reshape(6, 8) % 2).astype(dtype)
    content = {
        "outlines": ids * 0,
        "colors": [(1, 2, 3), None],
        "masks": ids,
        "flows": [ids.astype(np.float32), [1, 2.5, True, 2**70, b"x"]],
        "filename": "ä.png",
        "est_diam": np.float64(30),
    }
    path = tmp_path / "a_seg.npy"
    np.save(path, np.array(0, dtype=object), allow_pickle=True)
    header = path.read_bytes()[:128]
    path.write_bytes(header + pickle.dumps(np.array(content, dtype=object), protocol=protocol))
    assert np.array_equal(read_instance_mask(path)[0], ids)


def test_a_cut_pickle_is_refused(messages, tmp_path):
    path = tmp_path / "a_seg.npy"
    np.save(path, np.array({"masks": DISC}, dtype=object), allow_pickle=True)
    for length in range(130, path.stat().st_size, 997):
        (tmp_path / "b_seg.npy").write_bytes(path.read_bytes()[:length])
        with pytest.raises(DataError, match=r"b_seg\.npy: holds Python objects"):
            read_instance_mask(tmp_path / "b_seg.npy")


def test_arrays_that_are_no_masks_are_refused(messages, tmp_path, monkeypatch):
    def refused(values, *facts):
        np.save(tmp_path / "m.npy", values)
        messages.refusal(lambda: read_instance_mask(tmp_path / "m.npy"), "m.npy: ", *facts)

    refused(np.zeros((3, 6, 8), np.uint8), "(3, 6, 8)", "(H, W)")
    refused(np.zeros(8, np.uint8), "(8,)")
    refused(np.array([["a"]]), "<U1")
    np.savez(tmp_path / "m.npz", a=DISC, b=DISC)
    messages.refusal(lambda: read_instance_mask(tmp_path / "m.npz"), "m.npz: ", "a, b", "masks")
    (tmp_path / "m.npy").write_bytes(b"no array")
    messages.refusal(lambda: read_instance_mask(tmp_path / "m.npy"), "m.npy: ")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    refused(np.zeros((6, 8), np.uint8), "too large")


def test_one_of_several_arrays_without_a_name_is_not_chosen(messages, tmp_path):
    np.savez(tmp_path / "a.npz", np.zeros((3, 4)), np.ones((3, 4)))
    messages.refusal(lambda: read_binary_mask(tmp_path / "a.npz"), "arr_0, arr_1")
    np.savez(tmp_path / "b.npz", np.ones((3, 4)), scale=np.ones(1))
    assert read_binary_mask(tmp_path / "b.npz")[0].all()


def test_a_forged_shape_allocates_nothing(messages, tmp_path):
    head = b"{'descr': '<u2', 'fortran_order': False, 'shape': (900000, 900000), }"
    head = head.ljust(117) + b"\n"
    (tmp_path / "m.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
    messages.refusal(lambda: read_instance_mask(tmp_path / "m.npy"), "m.npy: ", "too large", "900000")
