"""Runs a verb in a Python that lacks what Windows lacks and refuses what Windows refuses.

python tests/like_windows.py VERB WORDS...

What the standard library and PyTorch need to work on this machine they have taken before the names go; what
nest_ssl reaches for afterwards is not there.  Processes that it spawns run this file's first part as well.
"""

import ctypes.util
import errno
import importlib
import multiprocessing
import multiprocessing.popen_spawn_posix
import multiprocessing.resource_sharer
import multiprocessing.synchronize
import os
import platform
import select
import shutil
import signal
import sys
import tempfile
import types
from pathlib import Path

import safetensors.torch  # noqa: F401
import scipy.signal  # noqa: F401
import soundfile
import torch.multiprocessing
import torch.utils.data  # noqa: F401
import yaml  # noqa: F401
from tqdm import tqdm  # noqa: F401

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from tests.like_windows_names import MISSING_IN_OS, MISSING_MODULES, MISSING_SIGNALS  # noqa: E402


def become_windows() -> None:
    """Take the names away, and lay Windows' rules about open files over os."""
    platform.platform()  # its answer is kept
    ctypes.util.find_library = lambda name: None  # it asks os.uname here, and the search path there
    fcntl = importlib.import_module("fcntl")
    # These two ask at every call what system this is.
    before = types.SimpleNamespace(**vars(sys))
    soundfile._sys = multiprocessing.synchronize.sys = before  # type: ignore[attr-defined]
    tempfile.TemporaryFile = tempfile.NamedTemporaryFile  # that one removes its file while it is open
    sys.platform = "win32"
    for name in set(MISSING_MODULES) - {"posix"}:  # os itself is made of posix
        sys.modules[name] = None  # type: ignore[assignment]
    # shutil calls these here, and others there.
    for name in set(MISSING_IN_OS) - {"statvfs", "sendfile"}:
        if hasattr(os, name):
            delattr(os, name)
    for name in set(MISSING_SIGNALS) - {"SIGCHLD"}:  # PyTorch watches its workers by it
        delattr(signal, name)
    del select.poll
    os.O_BINARY = 0  # type: ignore[attr-defined]
    sys.modules["msvcrt"] = msvcrt(fcntl)
    shutil._use_fd_functions = False  # type: ignore[attr-defined]  # rmtree by path, so that we see it
    multiprocessing.get_all_start_methods = lambda: ["spawn"]  # type: ignore[assignment]
    multiprocessing.set_start_method("spawn", force=True)
    lay_rules(fcntl)


def msvcrt(fcntl: types.ModuleType) -> types.ModuleType:
    """The part of Windows' module that locks bytes, on top of the locks of this system."""
    module = types.ModuleType("msvcrt")

    def locking(descriptor: int, mode: int, count: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, count, os.lseek(descriptor, 0, os.SEEK_CUR))

    module.LK_NBLCK, module.locking = 2, locking  # type: ignore[attr-defined]
    return module


def lay_rules(fcntl: types.ModuleType) -> None:
    """Folders cannot be opened, files open for reading not flushed, open or mapped files not replaced."""
    opened, fsync = os.open, os.fsync

    def open_file(path, *arguments, **keywords):
        if isinstance(path, str | os.PathLike) and Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *arguments, **keywords)

    def flush(descriptor):
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        fsync(number)

    def guarded(work):
        def call(*arguments, **keywords):
            for path in arguments[:2]:
                if isinstance(path, str | os.PathLike) and keywords.get("dir_fd") is None:
                    refuse_if_open(os.fspath(path))
            return work(*arguments, **keywords)

        return call

    os.open, os.fsync = open_file, flush
    for name in ("replace", "rename", "unlink", "remove", "rmdir"):
        setattr(os, name, guarded(getattr(os, name)))


def refuse_if_open(path: str) -> None:
    """PermissionError, as Windows raises it, if this process has `path` or a file below it open or mapped."""
    path = str(Path(path).resolve())
    held = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            held.add(str(descriptor.readlink()))
        except OSError:
            continue  # closed meanwhile
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    held |= {line.split(maxsplit=5)[5] for line in maps if " /" in line}
    for name in held:
        if name == path or name.startswith(path + "/"):
            raise PermissionError(errno.EACCES, "[WinError 32] another handle has the file open", name)


become_windows()

if __name__ == "__main__":
    terminal = importlib.import_module("nest_ssl.bin.terminal")
    verb = importlib.import_module(f"nest_ssl.bin.{sys.argv[1]}")
    sys.argv = sys.argv[1:]
    terminal.run(verb.main)
