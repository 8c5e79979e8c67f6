import json
import threading

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sam_ft.training import tensor_file
from sam_ft.training.tensor_file import digest_of, read_tensors, write_tensors
from sam_ft.utils.errors import CheckpointError, DamagedFileError

TENSORS = {"a": torch.tensor([[1.0, -2.0], [0.5, 3.0]]), "b": torch.tensor([7, 8]), "half": torch.ones(1).bfloat16()}
NOTES = {"epoch": 3, "best": {"iou": 0.75}, "mix": None, "name": "Zelle ü"}


@pytest.fixture
def path(tmp_path):
    write_tensors(tmp_path / "best.safetensors", TENSORS, NOTES)
    return tmp_path / "best.safetensors"


def test_tensors_and_metadata_come_back(path):
    tensors, metadata = read_tensors(path)
    assert metadata == {"format_version": 2, **NOTES}
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensor, TENSORS[name]) for name, tensor in tensors.items())


def test_any_flipped_bit_is_refused(path):
    content = path.read_bytes()
    accepted = []
    for place in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            path.unlink()  # not in place: the tensors that were read may be a map of the file
            path.write_bytes(flipped)
            try:
                read_tensors(path)
                accepted.append((place, bit))
            except CheckpointError:
                pass
    assert accepted == []


def edited(path, **changes):
    """The file with other metadata, as a person would write it with the library of the format."""
    with safe_open(path, framework="pt") as file:
        notes = file.metadata()
    path.unlink()
    save_file(TENSORS, path, {**notes, **changes})


def test_a_hand_set_epoch_is_refused(messages, path):
    edited(path)
    assert read_tensors(path)[1]["epoch"] == 3
    edited(path, epoch="-5")
    with messages.raises(DamagedFileError, path):
        read_tensors(path)


def test_a_tensor_of_another_shape_or_format_is_refused(path):
    with safe_open(path, framework="pt") as file:
        notes = file.metadata()
    for one in (TENSORS["a"].reshape(4), TENSORS["a"].view(torch.int32), TENSORS["a"].reshape(1, 4)):
        save_file({**TENSORS, "a": one}, path, notes)
        with pytest.raises(DamagedFileError):
            read_tensors(path)


def test_a_file_of_an_older_version_is_read_as_it_was(path):
    notes = {key: json.dumps(value) for key, value in {"format_version": 2, **NOTES}.items()}
    save_file(TENSORS, path, {**notes, "tensors_sha256": json.dumps(digest_of(TENSORS))})
    tensors, metadata = read_tensors(path)
    assert metadata == {"format_version": 2, **NOTES}
    assert all(torch.equal(tensor, TENSORS[name]) for name, tensor in tensors.items())
    save_file({**TENSORS, "b": TENSORS["b"] + 1}, path, {**notes, "tensors_sha256": json.dumps(digest_of(TENSORS))})
    with pytest.raises(DamagedFileError):
        read_tensors(path)


@pytest.mark.parametrize("notes", [{}, {"format_version": "2"}, {"format_version": "2", "sha256": ""}])
def test_a_file_without_a_checksum_is_refused(path, notes):
    save_file(TENSORS, path, notes)
    with pytest.raises(DamagedFileError):
        read_tensors(path)


@pytest.mark.parametrize("value", ["[" * 100_000, "{", "[1]", '"2"', "true", "2.0", "null", "1", "3", "1e999"])
def test_a_strange_version_is_one_line(messages, path, value):
    edited(path, format_version=value)
    with messages.raises(CheckpointError, path):
        read_tensors(path)


def test_the_file_before_stays_under_another_name(path):
    older = path.with_name("older")
    write_tensors(path, TENSORS, {"epoch": 4}, keep=older)
    assert (read_tensors(path)[1]["epoch"], read_tensors(older)[1]["epoch"]) == (4, 3)
    write_tensors(path, TENSORS, {"epoch": 5}, keep=older)
    assert (read_tensors(path)[1]["epoch"], read_tensors(older)[1]["epoch"]) == (5, 4)
    assert len(list(path.parent.iterdir())) == 2


def test_signs_of_life_go_on_while_a_large_file_is_written(tmp_path, monkeypatch):
    """The other ranks would end a rank whose threads stand still: see `utils.heartbeat`."""
    beats, written, save = 0, [], tensor_file.save_file
    stop = threading.Event()

    def beat():
        nonlocal beats
        while not stop.wait(0.001):
            beats += 1

    def counted(*arguments):
        before = beats
        save(*arguments)
        written.append(beats - before)

    monkeypatch.setattr(tensor_file, "save_file", counted)
    thread = threading.Thread(target=beat)
    thread.start()
    try:
        write_tensors(tmp_path / "last.safetensors", {"a": torch.zeros(64, 1024, 1024)}, NOTES)
    finally:
        stop.set()
        thread.join()
    assert written[0] > 5
