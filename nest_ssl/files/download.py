"""Loading a large file over HTTP: whole or not at all, going on where an earlier try broke off."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

TIMEOUT_S = 30
TRIES = 5
CHUNK_BYTES = 1 << 18
FINAL_ANSWERS = (401, 403, 404, 410)

# (total bytes or None, unit, name, bytes there already) -> a bar with update(count), as tqdm's
Bar = Callable[[float | None, str, str, float], AbstractContextManager[Any]]

log = logging.getLogger(__name__)


def download(url: str, path: Path, progress_bar: Bar, way_out: str) -> None:
    """Load `url` to `path`, which appears only when whole; tried 5 times, each from where it broke off.

    The part is kept as NAME.partial, for the next call too.  Raises OSError naming the URL and what the
    server said; `way_out` is what else the caller could do without a network.
    """
    partial = path.with_name(path.name + ".partial")
    for attempt in range(1, TRIES + 1):
        try:
            load_rest(url, partial, progress_bar)
            break
        except urllib.error.HTTPError as error:
            if error.code == 416:  # nothing comes after what is there
                if _size_on_server(error) == partial.stat().st_size:
                    break
                partial.unlink(missing_ok=True)  # not a part of what the server has now
            if attempt == TRIES or error.code in FINAL_ANSWERS:
                raise OSError(f"{url}: the server answered {error.code} {error.reason}") from error
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            if attempt == TRIES:
                raise OSError(f"{url}: {error}; {way_out}") from error
        log.warning("%s broke off, try %d of %d", url, attempt + 1, TRIES)
        time.sleep(min(2.0**attempt, 20.0))
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def load_rest(url: str, partial: Path, progress_bar: Bar) -> None:
    """Append to `partial` what it lacks of `url`; ValueError if the connection ended early.

    OSError with ENOSPC, before anything is loaded, if the disk has no room for it.
    """
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        if have and response.status != 206:  # the server sends the whole file again
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        free = shutil.disk_usage(partial.parent).free
        if length and int(length) > free:
            raise OSError(
                errno.ENOSPC, f"{int(length) >> 20} MB are to come and {free >> 20} MB free", str(partial)
            )
        with (
            open(partial, "ab" if have else "wb") as file,
            progress_bar(total, "B", partial.stem, have) as bar,
        ):
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and partial.stat().st_size != total:
        raise ValueError(f"{partial.stat().st_size} of {total} bytes came")


def _size_on_server(error: urllib.error.HTTPError) -> int | None:
    """The file's size from the Content-Range of a 416 answer, "bytes */12345"."""
    size = (error.headers.get("Content-Range") or "").rpartition("/")[2]
    return int(size) if size.isdigit() else None
