"""Official checkpoints by URL: downloaded once, verified by sha256, kept in a cache."""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO

from exporter.build.registry import model_info
from exporter.errors import DataError, UsageError, nearest

# Called with the bytes so far and the total, or None where the server does not tell it.
Progress = Callable[[int, int | None], None]

CHUNK = 1 << 18
TIMEOUT_S = 30.0
OFFLINE = "without a network: --weights FILE with a copy of the file, or --weights random"


def cache_folder() -> Path:
    """$EDGE_EXPORT_CACHE, else the platform's cache folder for this program."""
    if own := os.environ.get("EDGE_EXPORT_CACHE"):
        return Path(own).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "edge-export"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "edge-export" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-export"


def resolve(model_name: str, weights: str, progress: Progress | None = None) -> Path:
    """`--weights` other than "random" -> a file on disk: a published name such as "coco" is fetched, a path is kept.

    Raises UsageError for a name the model has no weights under, DataError for a missing file or a failed download.
    """
    checkpoints = model_info(model_name).checkpoints
    if weights in checkpoints:
        return fetch(checkpoints[weights].url, checkpoints[weights].sha256, progress=progress)
    path = Path(weights).expanduser()
    if path.is_file():
        return path
    if path.suffix or path.name != weights:
        raise DataError(f"there is no weights file {weights}")
    published = ", ".join(checkpoints) or f"none; {model_info(model_name).source}"
    raise UsageError(
        f"{model_name} has no weights named {weights!r}",
        why=f"published for it: {published}",
        try_=[step for step in (nearest(weights, checkpoints), "--weights FILE, or --weights random") if step],
    )


def fetch(url: str, sha256: str | None, cache_dir: str | Path | None = None, progress: Progress | None = None) -> Path:
    """The file behind `url`, from the cache or downloaded into it.

    sha256 is the whole digest in hexadecimal or its first 8 digits or more: PyTorch release files carry just these in
    their names, which guards against damage and mix-ups but not against forgery. With None, for a file whose publisher
    gives no digest, nothing but its length is checked: the caller has to say so. A file appears in the cache only once
    complete and verified; a mismatching one is deleted. Raises DataError for every failure.
    """
    if sha256 is not None and len(sha256) < 8:
        raise ValueError(f"sha256 {sha256!r} is shorter than 8 digits")
    folder = Path(cache_dir) if cache_dir is not None else cache_folder()
    target = folder / Path(urllib.parse.urlparse(url).path).name
    part: Path | None = None
    try:
        if target.is_file() and (sha256 is None or digest_of(target).startswith(sha256.lower())):
            return target
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=target.name, suffix=".part", delete=False) as file:
            part = Path(file.name)
            digest = _download(url, file, progress)
        if sha256 is not None and not digest.startswith(sha256.lower()):
            raise DataError(
                f"{url} is not the published file",
                why=f"its sha256 starts with {digest[: len(sha256)]}, not {sha256}; it was deleted",
                try_=["again: a proxy may have answered in its place", OFFLINE],
            )
        part.replace(target)
    except OSError as error:
        raise DataError(
            f"cannot keep {target.name} in {folder}",
            why=error.strerror or str(error),
            try_="EDGE_EXPORT_CACHE=FOLDER with a writable folder on a disk with room",
        ) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    return target


def _download(url: str, file: IO[bytes], progress: Progress | None) -> str:
    """Copy `url` into `file` -> sha256 in hexadecimal. Network failures are DataErrors, disk failures OSErrors."""
    digest = hashlib.sha256()
    done = 0
    with _open(url) as response:
        length = response.headers.get("Content-Length")
        total = int(length) if length and length.isdigit() else None
        while chunk := _read(response, url):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, total)
    if total is not None and done < total:
        raise _network_error(url, f"the connection closed after {done} of {total} bytes")
    return digest.hexdigest()


def _open(url: str) -> http.client.HTTPResponse:
    try:
        return urllib.request.urlopen(url, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        raise _network_error(url, f"the server answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        reason = error.reason
        why = f"no answer in {TIMEOUT_S:.0f} s" if isinstance(reason, TimeoutError) else str(reason)
        raise _network_error(url, why) from error
    except (OSError, http.client.HTTPException) as error:
        raise _network_error(url, str(error) or type(error).__name__) from error


def _read(response: http.client.HTTPResponse, url: str) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _network_error(url, str(error) or type(error).__name__) from error


def _network_error(url: str, why: str) -> DataError:
    return DataError(
        f"cannot download {url}", why=why, try_=["again later, or behind a proxy: https_proxy=URL", OFFLINE]
    )


def digest_of(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
