"""The lines above the header of a table, which Excel and editors write."""

import io
import re

SEPARATOR = re.compile(r'"?sep=([;,|:\t])"?[;,\t]*', re.IGNORECASE)


def skip_preamble(text: str) -> tuple[str, int, str | None]:
    """The text from its header on, the number of lines before it, and the delimiter that Excel's line sep=; names."""
    lines, start, skipped, given = io.StringIO(text, newline=""), 0, 0, None
    while line := lines.readline():
        found = SEPARATOR.fullmatch(line.strip("\r\n"))
        if line.strip() and not found:
            break
        given = found[1] if found else given
        start, skipped = lines.tell(), skipped + 1
    return text[start:], skipped, given
