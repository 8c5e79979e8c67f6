"""Text files in the encodings that editors and spreadsheet programs write."""

import codecs
from pathlib import Path

from sam_ft.utils.errors import DataError

# The longest first: the mark of UTF-16 begins that of UTF-32.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(path: Path) -> str:
    """The text of a file, in UTF-8, in UTF-16 or UTF-32 with a byte-order mark, or else in Windows-1252.

    Raises: OSError; DataError when it is in no such encoding.
    """
    data = path.read_bytes()
    if marked := next((encoding for mark, encoding in MARKS.items() if data.startswith(mark)), None):
        encodings = [marked]
    elif b"\0" in data[:1000]:  # Latin letters in UTF-16 have a zero in every second byte
        encodings = ["utf-16-le" if data[1:2] == b"\0" else "utf-16-be"]
    else:
        encodings = ["utf-8", "cp1252"]
    found: UnicodeDecodeError | None = None
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError as error:
            found = error
    raise DataError(f"{path}: is no text in UTF-8, UTF-16 or Windows-1252 ({found}); save it as UTF-8")
