"""Files of weights: valid, damaged, hostile or missing."""

import os
import pickle
import types
import warnings

import pytest
import safetensors.torch
import torch

from sam_ft.models.weights import find_checkpoint, read_state_dict
from sam_ft.utils.errors import CheckpointError


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# What is read


@pytest.mark.parametrize("wrap", [dict, lambda state: {"model": state}, lambda state: {"state_dict": state}])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_is_read_alone_or_under_its_usual_names(wrap, zipped, state, path):
    torch.save(wrap(state), path, _use_new_zipfile_serialization=zipped)
    assert same(read_state_dict(path), state)


def test_other_entries_of_a_training_checkpoint_are_ignored(state, path):
    torch.save({"model": state, "optimizer": {"lr": 0.1}, "epoch": 3}, path)
    assert same(read_state_dict(path), state)


def test_safetensors_are_read(state, tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(state, path)
    assert same(read_state_dict(path), state)


# What is refused


def refused(messages, path, *facts):
    with messages.raises(CheckpointError, *facts) as caught:
        read_state_dict(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_torchs_advice_to_run_the_code_is_not_shown(messages, tmp_path):
    path = tmp_path / "README.md"
    path.write_text("# no weights")
    refused(messages, path, "12 bytes", "PyTorch")


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "0 bytes"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "git lfs pull"),
        (b"hello, these are no weights", "27 bytes"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_another_kind_is_named(messages, content, fact, suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    refused(messages, path, fact)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("keep", [10, 0.5, -1])
def test_a_truncated_file_is_refused_with_its_size(messages, zipped, keep, path):
    torch.save({"a": torch.ones(1000)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    content = content[: int(len(content) * keep)] if keep == 0.5 else content[:keep]
    path.write_bytes(content)
    refused(messages, path, f"{len(content)} bytes")


@pytest.mark.parametrize("keep", [10, 100, -1])
def test_truncated_safetensors_are_refused(messages, keep, state, tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(state, path)
    path.write_bytes(path.read_bytes()[:keep])
    refused(messages, path, f"{path.stat().st_size} bytes")


def test_a_truncated_official_file_is_refused_with_both_sizes(messages, tmp_path):
    path = tmp_path / "sam_vit_b_01ec64.pth"
    path.write_bytes(b"PK\x03\x04 and no more")
    refused(messages, path, "16 bytes", "375042383")


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_code_in_a_file_is_refused_and_not_run(messages, path, tmp_path):
    marker = tmp_path / "marker"
    torch.save({"model": {"a": torch.ones(1)}, "x": Hostile(marker)}, path)
    refused(messages, path, "posix.mkdir")
    path.write_bytes(pickle.dumps(Hostile(marker)))
    refused(messages, path, "Python objects")
    torch.save({"model": {"a": torch.ones(1)}, "x": Hostile(marker)}, path, _use_new_zipfile_serialization=False)
    refused(messages, path, "posix.mkdir")
    assert not marker.exists()


def test_objects_beside_the_tensors_are_named(messages, path):
    torch.save({"model": {"a": torch.ones(1)}, "args": types.SimpleNamespace(lr=0.1)}, path)
    refused(messages, path, "types.SimpleNamespace")


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        ({"epoch": 3, "net": {}}, "'epoch': int, 'net': dict"),
        ([torch.ones(1)], "a list"),
        ({}, "an empty dict"),
        ({3: torch.ones(1)}, "the name 3"),
        ({"model": "vit_b"}, "'model': str"),
    ],
)
def test_a_file_without_a_state_dict_is_refused_with_its_contents(messages, content, fact, path):
    torch.save(content, path)
    refused(messages, path, fact)


def test_a_torchscript_archive_is_named(messages, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    refused(messages, path, "TorchScript")


# Where it is


def test_a_home_folder_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "weights.pth").write_bytes(b"x")
    assert find_checkpoint("vit_b", "~/weights.pth") == tmp_path / "weights.pth"


def test_a_missing_file_is_refused_with_its_absolute_path_and_the_alternatives(messages, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with messages.raises(CheckpointError, tmp_path / "none.pth", "official", "null"):
        find_checkpoint("vit_b", "none.pth")
    with messages.raises(CheckpointError, tmp_path):
        find_checkpoint("vit_b", tmp_path)
