import pytest

from sam_ft.utils.errors import DataError
from sam_ft.utils.files import read_text
from sam_ft.utils.stand_ins import stand_in

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"


@pytest.mark.parametrize(
    ("head", "fact"),
    [
        (b"", "empty"),
        (LFS, "git lfs pull"),
        (LFS.replace(b"\n", b"\r\n"), "git lfs pull"),
        (b"/annex/objects/SHA256E-s3--00.png\n", "git annex get"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "web page"),
    ],
)
def test_what_lies_in_the_place_of_a_file_is_named(head, fact):
    found = stand_in(head)
    assert found is not None
    assert fact in found


@pytest.mark.parametrize("head", [b"\x89PNG\r\n\x1a\n", b"0 0.1 0.2", b'{"images": []}', b"version 2"])
def test_other_files_may_be_the_file_itself(head):
    assert stand_in(head) is None


def test_a_pointer_is_named_where_a_text_file_is_expected(messages, tmp_path):
    (tmp_path / "train.txt").write_bytes(LFS)
    with messages.raises(DataError, "train.txt: ", "git lfs pull"):
        read_text(tmp_path / "train.txt")
    (tmp_path / "empty.txt").write_bytes(b"")
    assert read_text(tmp_path / "empty.txt") == ""
