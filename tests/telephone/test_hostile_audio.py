"""Ten thousand damaged and lying audio files: samples or a refusal, no crash, no hang, no silent pass."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
BATCH_S = 600  # of wall time: a process that waits forever burns no CPU


def last_begun(folder: Path) -> dict:
    lines = (folder / "result.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads(next(line for line in reversed(lines) if line.startswith('{"begin"')))


def read_cases(count: int, folder: Path) -> list[dict]:
    """Read every case in child processes, a new one after each crash; gives what was seen."""
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    crashes, first = [], 0
    while first < count:
        command = [
            sys.executable,
            "-m",
            "tests.telephone.hostile_reader",
            str(count),
            str(first),
            str(folder),
        ]
        with open(folder / "stderr", "wb") as stderr:
            done = subprocess.run(
                command, env=environment, stderr=stderr, check=False, timeout=BATCH_S, cwd=CHECKOUT
            )
        if done.returncode == 0:
            break
        said = (folder / "stderr").read_text("utf-8", "replace")[-3000:]
        assert (folder / "result.jsonl").exists(), said
        case = last_begun(folder)
        assert case["begin"] >= first, said
        assert len(crashes) < 20, crashes
        how = "too long" if done.returncode == -signal.SIGPROF else f"ended with {done.returncode}: {said}"
        crashes.append(case | {"wrong": [how], "read": False})
        first = case["begin"] + 1
    lines = (folder / "result.jsonl").read_text(encoding="utf-8").splitlines()
    return crashes + [seen for seen in map(json.loads, lines) if "end" in seen]


@pytest.mark.skipif(sys.platform != "linux", reason="limits of CPU time and memory are those of Linux")
@pytest.mark.parametrize("count", [600, pytest.param(10000, marks=pytest.mark.slow)])
def test_every_hostile_file_gives_its_samples_or_a_refusal(count, tmp_path):
    seen = read_cases(count, tmp_path)
    assert len(seen) == count
    wrong = [f"{case['name']}: {', '.join(case['wrong'])}" for case in seen if case["wrong"]]
    assert not wrong, f"{len(wrong)} of {count}\n" + "\n".join(sorted(wrong)[:40])
    # the cases are worth something: neither are all files readable nor none
    assert count / 5 < sum(case["read"] for case in seen) < count * 4 / 5
