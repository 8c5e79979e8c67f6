"""Reads a folder with a JSON file for each image, as SA-1B has them, as one COCO file."""

import json
from pathlib import Path

from sam_ft.utils.errors import DataError
from sam_ft.utils.files import read_text

MAX_BYTES = 50_000_000  # of a file that is opened to see what it holds


def is_of_one_image(path: Path) -> bool:
    """Whether a file holds {"image": {...}, "annotations": [...]}."""
    if path.stat().st_size > MAX_BYTES:
        return False
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and isinstance(content.get("image"), dict)


def load_folder(folder: Path) -> dict[str, list]:
    """Images and annotations of all JSON files in a folder; all objects are of one class.

    Raises: DataError about a file that is damaged, or is of another format.
    """
    images, annotations = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(read_text(path))
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: cannot be read ({error}); expected JSON of one image, as in SA-1B") from error
        image = content.get("image") if isinstance(content, dict) else None
        if not isinstance(image, dict) or not isinstance(content.get("annotations"), list):
            raise DataError(f"{path}: expected {{image: {{...}}, annotations: [...]}}, as SA-1B has it for each image")
        # Ids are of one file only.
        images.append({**image, "id": path.name})
        for position, entry in enumerate(content["annotations"]):
            own = entry if isinstance(entry, dict) else {}
            name = f"{path.name}: {own.get('id', position)}"
            annotations.append({**own, "id": name, "image_id": path.name})
    if not images:
        raise DataError(f"{folder}: holds no .json files; expected one for each image, as in SA-1B")
    return {"images": images, "annotations": annotations, "categories": []}
