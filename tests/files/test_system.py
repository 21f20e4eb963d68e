"""Calls that only some systems have."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from nest_ssl.files.system import keep_freed_memory, usable_cpus

FREED_AND_TAKEN_AGAIN = """
import resource
from nest_ssl.files.system import keep_freed_memory, usable_cpus
if {keep}:
    assert keep_freed_memory()
bytearray(b"x") * (40 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    bytearray(b"x") * (40 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

V1_LINES = "9:name=systemd:/\n4:cpuset:/\n1:cpu,cpuacct:/docker/c0ffee\n0::/\n"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a call of glibc")
def test_freed_memory_is_handed_out_again_without_a_page_fault():
    plain, kept = (
        int(subprocess.check_output([sys.executable, "-c", FREED_AND_TAKEN_AGAIN.format(keep=keep)]))
        for keep in (False, True)
    )
    assert plain >= 5 * 20  # 40 MB anew each time, even in huge pages of 2 MB
    assert kept < plain / 4


def test_elsewhere_it_does_nothing(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False


@pytest.fixture
def of_64(monkeypatch):
    """A machine of 64 processors, all of them open to the process."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)


def written(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 64),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 3),
        # a job in a slice: the tighter of the two holds
        (
            {
                "proc/self/cgroup": "0::/batch.slice/job7\n",
                "sys/fs/cgroup/batch.slice/cpu.max": "200000 100000\n",
                "sys/fs/cgroup/batch.slice/job7/cpu.max": "800000 100000\n",
            },
            2,
        ),
        # v1: Docker shows the host's path, which is not there within the container
        (
            {
                "proc/self/cgroup": V1_LINES,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "600000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            6,
        ),
        (
            {
                "proc/self/cgroup": V1_LINES,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            64,
        ),
    ],
)
def test_processors_are_those_of_the_quota(tmp_path, of_64, files, expected):
    assert usable_cpus(written(tmp_path, files)) == expected


def test_a_quota_above_the_affinity_gives_none_of_what_others_have(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3}, raising=False)
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"}
    assert usable_cpus(written(tmp_path, files)) == 2


def test_processors_are_counted_in_one_place():
    package = Path(__file__).resolve().parents[2] / "nest_ssl"
    counting = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if any(word in path.read_text(encoding="utf-8") for word in ("cpu_count()", "sched_getaffinity"))
    ]
    assert counting == ["files/system.py"]
