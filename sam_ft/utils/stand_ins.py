"""Names what lies in the place of a file that was not fetched."""

POINTERS = {b"version https://git-lfs": ("git-LFS", "git lfs pull"), b"/annex/objects/": ("git-annex", "git annex get")}
WEB_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml")


def stand_in(head: bytes) -> str | None:
    """Problem and remedy of a file with this beginning, or None where it may be the file itself."""
    if not head:
        return "is empty; fetch it again"
    for start, (tool, command) in POINTERS.items():
        if head.startswith(start):
            return f"is a {tool} pointer and not the file itself; run: {command}"
    if head.lstrip().lower().startswith(WEB_PAGE):
        return "is a web page, perhaps of a proxy or a login; fetch the file itself"
    return None
