"""What every test shares."""

import os
import signal
from pathlib import Path
from typing import Any

# Before torch is imported by any test: two test processes with a thread per core each would fight.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A test run started in the background of a script ignores Ctrl-C, one under nohup SIGHUP, and all that the
# tests start would inherit it.
for name, default in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    number = getattr(signal, name, None)  # Windows has no SIGHUP
    if number is not None and signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, default)

import pytest  # noqa: E402  (behind the lines above, which must come first)
from hypothesis import HealthCheck, settings  # noqa: E402

# The same examples in every run, and no limit of time: a run fails by what was changed, not by chance or by
# a busy machine.  pytest --hypothesis-profile=default looks for other examples.
settings.register_profile(
    "steady", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def checkout() -> Path:
    """Root of the checkout under test."""
    return CHECKOUT


@pytest.fixture(scope="session")
def goldens() -> Path:
    """Folder of the reference tensors made with NeMo and FunASR; skips where there is none."""
    folder = Path(os.environ.get("NEST_GOLDENS") or CHECKOUT.parent / "shared" / "goldens")
    if not folder.is_dir():
        pytest.skip(f"no reference tensors at {folder}; NEST_GOLDENS names their folder")
    return folder


LEFT_OUT: dict[str, int] = {}  # "workers": tests deselected in each process of pytest-xdist; all see the same


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count in a process of pytest-xdist, which keeps the number to itself."""
    output = getattr(items[0].config, "workeroutput", None) if items else None
    if output is not None:
        output["left_out"] = output.get("left_out", 0) + len(items)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the number over when such a process ends."""
    LEFT_OUT["workers"] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the slice left out, before pytest's closing line."""
    deselected = len(terminalreporter.stats.get("deselected", [])) or LEFT_OUT.get("workers", 0)
    if deselected:
        terminalreporter.write_line(f"left out: {deselected} tests; bash tests/run.sh --full runs all")
    skipped = len(terminalreporter.stats.get("skipped", []))
    if skipped:
        terminalreporter.write_line(f"skipped: {skipped} tests, for the reasons above")
