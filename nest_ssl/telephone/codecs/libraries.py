"""Shared libraries behind codecs: found by name, loaded once per process, named with a digest of their bytes.

The PyAV wheel brings some of them beside itself under names with a hash; the system may have them too, in
another version and so with other output.  The wheel's comes first, because it is pinned with the package; the
environment variable NEST_CODEC_LIBRARIES=system puts the system's first.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import hashlib
import importlib.util
import os
import sys
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from nest_ssl.telephone.codecs.base import CodecMissing

ORDER_VARIABLE = "NEST_CODEC_LIBRARIES"
ORDERS = {"wheel": ("wheel", "system"), "system": ("system", "wheel")}  # the default first


class Origin(NamedTuple):
    """Where a library comes from."""

    interface: int  # the number in the shared object's name: another one is another binary interface
    install: str  # what to do when it is missing


LIBRARIES = {
    "opencore-amrnb": Origin(0, "pip install av, or apt-get install libopencore-amrnb0"),
    "opencore-amrwb": Origin(0, "pip install av, or apt-get install libopencore-amrwb0"),
    "opus": Origin(0, "pip install av, or apt-get install libopus0"),
    "gsm": Origin(1, "apt-get install libgsm1"),
    "vo-amrwbenc": Origin(0, "apt-get install libvo-amrwbenc0"),
    "bcg729": Origin(0, "apt-get install libbcg729-0"),
    "speex": Origin(1, "apt-get install libspeex1"),
    "spandsp": Origin(2, "apt-get install libspandsp2"),
}


class Library:
    """One loaded library. Its handle may cross a fork; the states it makes belong to one thread each."""

    def __init__(self, name: str, file: Path, source: str, handle: ctypes.CDLL) -> None:
        self.name, self.file, self.source = name, file, source
        self._handle = handle

    def function(self, name: str, result: Any, *arguments: Any) -> Any:
        """Give the C function of that name with its types; CodecMissing if this build lacks it.

        A variadic function takes the types of its fixed arguments only: ctypes then passes the others, which
        the caller wraps in C types, as the platform passes variadic ones (differently on Apple's arm64).
        """
        try:
            function = self._handle[name]  # unlike an attribute, a function of its own for every caller
        except AttributeError:
            raise CodecMissing(
                f"{self.file} has no function {name}; install another build: {LIBRARIES[self.name].install}"
            ) from None
        function.restype, function.argtypes = result, arguments
        return function

    @cached_property
    def version(self) -> str:
        """File name and the first eight hex digits of its SHA-256: builds differ, and with them the bits."""
        if not self.file.is_file():  # macOS keeps the system's own libraries in one cache, not as files
            return self.file.name
        return f"{self.file.name} {hashlib.sha256(self.file.read_bytes()).hexdigest()[:8]}"

    def route(self) -> str:
        """Say for people where the library is."""
        return f"{self.file} ({self.source})"


def load_library(name: str) -> Library:
    """Give a library of LIBRARIES; CodecMissing with the way to install it where there is none.

    Raises ValueError for a value of NEST_CODEC_LIBRARIES other than "wheel" and "system".
    """
    order = os.environ.get(ORDER_VARIABLE) or next(iter(ORDERS))
    if order not in ORDERS:
        raise ValueError(f"{ORDER_VARIABLE} must be one of {', '.join(ORDERS)}, not {order!r}")
    found = _load(name, order)
    if isinstance(found, Library):
        return found
    failures = "".join(f"; {failure}" for failure in found)
    raise CodecMissing(f"library {name} is not here: {LIBRARIES[name].install}{failures}")


@lru_cache
def _load(name: str, order: str) -> Library | tuple[str, ...]:
    """Give the first candidate that loads, or what was wrong with those that are there but do not load."""
    failures = []
    for source in ORDERS[order]:
        for candidate in _in_wheel(name) if source == "wheel" else _in_system(name):
            try:
                handle = ctypes.CDLL(candidate)
            except OSError as error:
                if Path(candidate).is_file():
                    failures.append(str(error))
                continue
            where = "PyAV wheel" if source == "wheel" else "system"
            return Library(name, _file(candidate, handle), where, handle)
    return tuple(failures)


def _in_wheel(name: str) -> list[str]:
    """Give the files in PyAV's wheel: of av.libs beside the package, or of .dylibs in it on macOS."""
    package = importlib.util.find_spec("av")
    if package is None or not package.submodule_search_locations:
        return []
    home = Path(next(iter(package.submodule_search_locations)))
    folders = (home.parent / "av.libs", home / ".dylibs")
    shared = [f"lib{name}[-.]*{suffix}*" for suffix in (".so", ".dylib", ".dll")] + [f"{name}[-.]*.dll"]
    return sorted(str(file) for folder in folders for pattern in shared for file in folder.glob(pattern))


def _in_system(name: str) -> list[str]:
    """Give names or paths to try; on Linux one for the dynamic linker, whose number tells the interface."""
    interface = LIBRARIES[name].interface
    if sys.platform == "win32":
        names = (ctypes.util.find_library(stem) for stem in (f"lib{name}-{interface}", f"lib{name}", name))
        return [found for found in names if found]
    if sys.platform == "darwin":
        folders = ("/opt/homebrew/lib", "/usr/local/lib", "/opt/local/lib")
        return [f"{folder}/lib{name}.{interface}.dylib" for folder in folders]
    return [f"lib{name}.so.{interface}"]


def _file(candidate: str, handle: ctypes.CDLL) -> Path:
    """Give the file behind a loaded library; for a bare name, the one the dynamic linker chose."""
    dlinfo = getattr(ctypes.CDLL(None), "dlinfo", None) if sys.platform.startswith("linux") else None
    if dlinfo is not None and not Path(candidate).is_absolute():
        entry = ctypes.c_void_p()
        request = 2  # RTLD_DI_LINKMAP, of dlfcn.h: gives a struct link_map, whose second field is the path
        dlinfo.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
        if dlinfo(handle._handle, request, ctypes.byref(entry)) == 0 and entry.value:
            path = ctypes.cast(entry, ctypes.POINTER(ctypes.c_char_p))[1]
            if path:
                return Path(os.fsdecode(path)).resolve()
    return Path(candidate)
