"""The requests of the page: each reads JSON or a query, and gives JSON or a picture."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sam_ft.app.objects import prompts_from_json
from sam_ft.app.saving import save_results, save_training_data, training_command
from sam_ft.app.server import Route, json_content
from sam_ft.app.workspace import Workspace
from sam_ft.utils.errors import DataError

MAX_UPLOAD = 2**29  # bytes; larger files are read where they lie, by images=
MAX_JSON = 2**22
NOTHING_FOUND = {
    True: "the head found no object",
    False: "SAM's grid of points found no object; a model tuned with boxes rarely does. Train with head=instances",
}


class PageRoutes:
    """Serves a workspace.

    output: where results and training data go · formats: of results, see `writers.formats`
    points_per_side: of the grid that finds all objects where the model has no head
    """

    def __init__(self, workspace: Workspace, output: Path, formats: Sequence[str], points_per_side: int) -> None:
        self._workspace, self._output, self._formats = workspace, output, list(formats)
        self._points_per_side = points_per_side
        self._tuned = workspace.segmenters["tuned"]

    def routes(self) -> dict[tuple[str, str], Route]:
        """By method and name, for `PageServer`."""
        posts = {"predict": self._predict, "all": self._find_all, "save": self._save}
        return {
            ("GET", "settings"): Route(self._settings),
            ("GET", "size"): Route(self._size),
            ("GET", "picture"): Route(self._picture),
            ("POST", "upload"): Route(self._upload, MAX_UPLOAD),
            **{("POST", name): Route(partial(_with_json, respond), MAX_JSON) for name, respond in posts.items()},
        }

    def _settings(self, query: dict[str, str], body: bytes) -> tuple[str, bytes]:
        workspace = self._workspace
        known = {"images": list(workspace.images), "models": list(workspace.segmenters), "classes": workspace.classes}
        nothing = NOTHING_FOUND[self._tuned.task.model.head is not None]
        return json_content({**known, "nothing_found": nothing, "max_upload": MAX_UPLOAD})

    def _size(self, query: dict[str, str], body: bytes) -> tuple[str, bytes]:
        _, windows, preview = self._workspace.open(query.get("image", ""))
        height, width = windows.size
        return json_content({"height": height, "width": width, "step": preview.step(preview.whole)})

    def _picture(self, query: dict[str, str], body: bytes) -> tuple[str, bytes]:
        """Of the whole image, or of a window given by left, top, right, bottom."""
        preview = self._workspace.open(query.get("image", "")).preview
        window = preview.whole
        if "left" in query:
            try:
                left, top, right, bottom = (int(query[name]) for name in ("left", "top", "right", "bottom"))
            except (KeyError, ValueError):
                raise DataError("left, top, right, bottom of a picture; expected whole numbers") from None
            window = slice(top, bottom), slice(left, right)
        return "image/png", preview.png(window)

    def _predict(self, given: dict[str, Any]) -> dict[str, Any]:
        file = _text(given, "image")
        size = self._workspace.open(file).windows.size
        prompts = prompts_from_json(given.get("box"), given.get("points"), given.get("labels"), size)
        label = given.get("label")
        if type(label) is not int:
            raise DataError(f"label={label}; expected the whole number of a class")
        found = self._workspace.predict(file, _text(given, "model"), prompts, label)
        return {"object": None if found is None else found.as_json()}

    def _find_all(self, given: dict[str, Any]) -> dict[str, Any]:
        found = self._workspace.find_all(_text(given, "image"), self._points_per_side)
        return {"objects": [one.as_json() for one in found]}

    def _upload(self, query: dict[str, str], body: bytes) -> tuple[str, bytes]:
        return json_content({"image": self._workspace.upload(query.get("name", ""), body)})

    def _save(self, given: dict[str, Any]) -> dict[str, Any]:
        """Writes masks as results, or with training: true as training data."""
        numbers = given.get("numbers")
        if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
            raise DataError(f"numbers={numbers}; expected a list of whole numbers")
        instances = self._workspace.instances(_text(given, "image"), numbers)
        training = given.get("training") is True
        folder = self._output / ("training" if training else "results")
        if not training:
            save_results(folder, self._formats, instances)
            return {"written": str(folder)}
        by_class = self._tuned.has_classes
        save_training_data(folder, instances, by_class)
        classes = self._workspace.classes if by_class else None
        return {"written": str(folder), "command": training_command(folder, self._workspace.reading, classes)}


def _with_json(
    respond: Callable[[dict[str, Any]], dict[str, Any]], query: dict[str, str], body: bytes
) -> tuple[str, bytes]:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise DataError("the request is not JSON") from None
    if not isinstance(given, dict):
        raise DataError("the request is not a JSON object")
    return json_content(respond(given))


def _text(given: dict[str, Any], name: str) -> str:
    if not isinstance(given.get(name), str):
        raise DataError(f"{name}={given.get(name)}; expected text")
    return given[name]
