"""Calls that Linux, macOS and Windows have under other names, or not at all: each is here once."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import math
import os
import platform
import sys
from pathlib import Path
from typing import IO, Any

FAR_BEYOND_THE_TEXT = 1 << 30  # Windows locks bytes and then lets nobody read them: one that is not there


def open_for_reading(path: str | os.PathLike) -> int:
    """A descriptor of a file's bytes, which processes started later do not inherit."""
    return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Read up to `size` bytes from `offset` on.

    By position where the system can, so that threads and forked processes may share the descriptor.
    """
    pread = getattr(os, "pread", None)
    if pread is not None:
        return pread(descriptor, size, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)  # Windows: nothing forks there, and readers are single threads
    return os.read(descriptor, size)


def wait_for_lock(descriptor: int) -> bool:
    """Lock an open file against other processes that ask, once it is free; False where that is not to be had.

    `unlock`, or the end of the process, releases it.
    """
    fcntl = _module("fcntl")
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:  # some network file systems lock no read-only file
        return False
    return True


def unlock(descriptor: int) -> None:
    """Undo `wait_for_lock`."""
    fcntl = _module("fcntl")
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def lock_or_fail(file: IO[Any]) -> None:
    """Lock an open file until it is closed, however that comes; OSError if another process has it."""
    fcntl = _module("fcntl")
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    msvcrt: Any = importlib.import_module("msvcrt")
    position = os.lseek(file.fileno(), 0, os.SEEK_CUR)
    os.lseek(file.fileno(), FAR_BEYOND_THE_TEXT, os.SEEK_SET)
    try:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    finally:
        os.lseek(file.fileno(), position, os.SEEK_SET)


def flush_to_disk(path: str | os.PathLike) -> None:
    """Flush a closed file's content, or a folder's entries (a rename), so that it survives a power cut.

    Windows flushes only what is open for writing, and no folders: it writes renames through by itself.
    """
    if sys.platform == "win32":
        if os.path.isdir(path):  # noqa: PTH112  one call, also for paths that are strings
            return
        flags = os.O_RDWR | getattr(os, "O_BINARY", 0)
    else:
        flags = os.O_RDONLY
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_all_to_disk() -> None:
    """Have the system write everything that it holds back; nothing where it has no such call (Windows)."""
    sync = getattr(os, "sync", None)
    if sync is not None:
        sync()


def resident_bytes(peak: bool = False) -> float:
    """Memory that this process holds, or has held at most; NaN where the system does not say (Windows).

    On macOS the peak stands for both.
    """
    if not peak:
        try:
            with open("/proc/self/statm", encoding="ascii") as file:
                return float(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, AttributeError):
            pass
    resource = _module("resource")
    if resource is None:
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit


def keep_freed_memory() -> bool:
    """Have the C library hand freed memory out again instead of returning it; False where it is not glibc.

    It would map every block from 32 MB on afresh and give back what is free at the heap's end, so that the
    system zeroes and maps pages anew: 5 to 20 % of a training step on the CPU.  The peak stays what it is.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    map_max, trim_threshold = -4, -1  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
    return bool(library.mallopt(map_max, 0) and library.mallopt(trim_threshold, 2**31 - 1))


def process_is_alive(pid: int, start: str = "") -> bool:
    """True if that process of this machine is there; `start`, where known, is its birth in clock ticks.

    A number may be given to another process later, but not with the same time of birth.  Where the system
    does not say, the process counts as alive.
    """
    if not Path("/proc/self/stat").exists():
        if os.name == "nt":
            return True
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            return True  # somebody else's
        return True
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return False
    return fields[0] not in "ZX" and (not start or fields[19] == start)


def usable_cpus(root: str | os.PathLike = "/") -> int:
    """Give how many processors this process may use: its affinity, and the CPU quota of its control group.

    The quota is the smallest on the way up from the process's own group, as a container, a service or a job
    of a scheduler sets it (cgroup v2 cpu.max, v1 cpu.cfs_quota_us); a part of a processor counts as one.
    `root`: where proc and sys are.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    quotas = [quota for folder in _cpu_groups(Path(root)) if (quota := _cpu_quota(folder)) is not None]
    return max(1, min([count, *map(math.ceil, quotas)]))


def _cpu_groups(root: Path) -> list[Path]:
    """The folders of the control groups that hold this process and may limit its processors, if any."""
    mounted, groups = root / "sys/fs/cgroup", []
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            top = mounted / ("cpu" if controllers else "")  # v2 names none
            own = top / group.lstrip("/")  # seen from within a container it may not be there, but `top` is
            groups += [own, *(folder for folder in own.parents if folder.is_relative_to(top))]
    return groups


def _cpu_quota(group: Path) -> float | None:
    """Processors that a control group gives its processes; None without a limit."""
    with contextlib.suppress(OSError, ValueError):  # "max" where there is none
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None  # -1 where there is none
    return None


def available_memory() -> int | None:
    """Give the bytes that processes may still take, of the machine and of its container; None if unknown."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    with contextlib.suppress(OSError, ValueError):  # "max" where the container has no limit
        folder = Path("/sys/fs/cgroup")
        limit, used = (int((folder / f"memory.{name}").read_text()) for name in ("max", "current"))
        found.append(max(0, limit - used))
    return min(found) if found else None


def processor_name() -> str:
    """Give the name of the processor as the system states it; where it states none its kind, as x86_64."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            named = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        named = []
    return named[0] if named else platform.processor() or platform.machine()


def loaded_libraries(word: str) -> set[str]:
    """Give the files of this process's shared libraries with `word` in their path; none but on Linux."""
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    return {line.split(None, 5)[-1] for line in maps.splitlines() if word in line}


def starts_processes_by_fork() -> bool:
    """True on Linux: a child shares what its parent has loaded.  Elsewhere each starts anew (spawn)."""
    return sys.platform.startswith("linux")


def _module(name: str) -> Any:
    """A module that only some systems have, or None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
