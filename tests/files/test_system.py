"""Calls that only some systems have."""

import platform
import subprocess
import sys

import pytest

from nest_ssl.files.system import keep_freed_memory

FREED_AND_TAKEN_AGAIN = """
import resource
from nest_ssl.files.system import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
bytearray(b"x") * (40 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    bytearray(b"x") * (40 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


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
