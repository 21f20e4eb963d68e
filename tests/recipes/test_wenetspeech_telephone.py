"""The recipe's data stage on miniature corpora: the test script, then the data, then nothing to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tokenizers", reason="the library tokenizers is not installed (extra llm)")

from tests.data_room.stage0.corpora import make_calls, make_tokenizer, make_wenetspeech

RECIPE = Path(__file__).resolve().parents[2] / "egs" / "wenetspeech_telephone"


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("sources") / "a folder"
    make_calls(folder / "calls")
    tokenizer = make_tokenizer(folder / "tokenizer")
    wenetspeech = make_wenetspeech(folder / "wenet", recordings=3, segments=3)
    words = ["--wenetspeech", str(wenetspeech), "--calls", f"calls={folder / 'calls'}"]
    return [*words, "--tokenizer", str(tokenizer), "--nj", "1"]


def run(script: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NEST_")}
    environment |= {"NEST_PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["bash", str(RECIPE / script), "--data-dir", str(folder / "data"), "--exp-dir", str(folder / "exp"),
         *options],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip


def test_the_data_come_out_checked_and_are_not_made_twice(sources, tmp_path):
    done = run("local/test_data_prep.sh", tmp_path, *sources)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 problems" in done.stdout
    report = json.loads((tmp_path / "data/stage0-test/STAGE0_REPORT.json").read_text(encoding="utf-8"))
    assert {name: part["counts"]["raw"] for name, part in report["sets"].items()} == {
        "simulated": 9,
        "real": 12,
    }
    assert report["note"].startswith("A test of 50 utterances")
    again = run("local/test_data_prep.sh", tmp_path, *sources)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "already done, skipped" in again.stdout


def test_without_a_source_the_recipe_says_what_to_give(tmp_path):
    done = run("run.sh", tmp_path)
    assert done.returncode == 2
    assert "give --wenetspeech PATH/WenetSpeech.json, --calls [KIND=]PATH, or both" in done.stderr
    assert run("run.sh", tmp_path, "--status").returncode == 0
