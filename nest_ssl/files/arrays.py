"""Caches of numpy arrays: one file that is mapped from disk, whole and of the right state, or not used.

A file holds one line of JSON padded to 4096 bytes, then the arrays in the machine's byte order.  It lies
beside what it was made from, or in the cache folder where that cannot be written.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nest_ssl.files.atomic import replaced

HEADER_BYTES = 4096

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Folder for caches of read-only data: $NEST_CACHE, or nest_ssl in the user's cache folder."""
    named = os.environ.get("NEST_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nest_ssl"


def places(path: Path) -> tuple[Path, Path]:
    """Where the cache file `path` may be: there, or in the cache folder under a name made from the path."""
    whole = os.path.abspath(path)  # noqa: PTH100  resolve() would ask the disk for every part of the path
    digest = hashlib.blake2b(os.fsencode(whole), digest_size=8).hexdigest()
    return path, cache_folder() / f"{digest}-{path.name}"


def save_arrays(path: Path, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bool:
    """Write arrays (N,) of one dtype each, for load_arrays with the same facts; False where neither place
    can be written."""
    checksum = 0
    for values in arrays.values():
        checksum = zlib.crc32(np.ascontiguousarray(values).data, checksum)
    header = {
        "what": "nest_ssl arrays",
        "facts": _digest(facts),
        "byteorder": sys.byteorder,
        "arrays": [[name, values.dtype.str, len(values)] for name, values in arrays.items()],
        "crc32": checksum,
    }
    reason = ""
    for place in places(path):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with replaced(place) as temporary, open(temporary, "wb") as file:
                file.write(json.dumps(header).encode().ljust(HEADER_BYTES - 1) + b"\n")
                for values in arrays.values():
                    file.write(np.ascontiguousarray(values).data)
        except OSError as error:
            reason = error.strerror or str(error)
            continue
        return True
    log.warning(
        "%s cannot be written (%s), nor anything in %s: built again by each process; NEST_CACHE names "
        "another folder",
        path,
        reason,
        cache_folder(),
    )
    return False


def load_arrays(path: Path, facts: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    """Map the arrays that save_arrays wrote with these facts; None if none are there, or they are damaged."""
    for place in places(path):
        try:
            found = _map(place, _digest(facts))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s is not usable (%s): built again", place, error)
            continue
        if found is not None:
            return found
    return None


def _map(place: Path, facts: str) -> dict[str, np.ndarray] | None:
    with open(place, "rb") as file:
        header = json.loads(file.read(HEADER_BYTES))
        if header["facts"] != facts or header["byteorder"] != sys.byteorder:
            return None
        checksum = 0
        while chunk := file.read(1 << 20):
            checksum = zlib.crc32(chunk, checksum)
        if checksum != header["crc32"]:
            raise ValueError("its checksum differs")
    arrays, position = {}, HEADER_BYTES
    for name, kind, length in header["arrays"]:
        dtype = np.dtype(kind)
        arrays[name] = (
            np.memmap(place, dtype, mode="r", offset=position, shape=(length,))
            if length
            else np.zeros(0, dtype)
        )
        position += dtype.itemsize * length
    return arrays


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()
