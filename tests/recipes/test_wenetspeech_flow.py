"""The recipe from audio to RESULTS.md with a tiny model, then again with nothing to do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tokenizers", reason="the library tokenizers is not installed (extra llm)")
pytest.importorskip("transformers", reason="the library transformers is not installed (extra llm)")
pytest.importorskip("peft", reason="the library peft is not installed (extra llm)")
pytest.importorskip("jiwer", reason="jiwer is not installed")

from nest_ssl.files.manifest import read_rows
from tests.data_room.stage0.corpora import make_calls, make_wenetspeech
from tests.fun_asr_tiny import make_model_dir

RECIPE = Path(__file__).resolve().parents[2] / "egs" / "wenetspeech_telephone" / "run.sh"
SYSTEMS = ["base", "encoder", "adaptor", "lora"]
TRAIN = ("++train_conf.max_steps=2 ++train_conf.use_bf16=false ++train_conf.log_interval=1 "
         "++dataset_conf.num_workers=0")  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, list[str]]:
    """The folder of a run of all stages, and the options that made it."""
    folder = tmp_path_factory.mktemp("flow") / "a folder"
    calls = make_calls(folder / "calls", calls=4)
    wenetspeech = make_wenetspeech(folder / "wenet", recordings=3, segments=2)
    model = make_model_dir(folder / "base model")
    (folder / "keywords.txt").write_text("电话\n业务\n", encoding="utf-8")
    options = ["--wenetspeech", str(wenetspeech), "--real-data", f"calls={calls}", "--base-model", str(model)]
    options += ["--keywords", str(folder / "keywords.txt"), "--nj", "1", "--accelerator", "cpu"]
    options += ["--settings", "sets.real.split.dev=0.5", "--train-conf", TRAIN]
    options += ["--decode-conf=--beam 2 --max-length 12"]
    done = run(folder, *options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder, options


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NEST_")}
    environment |= {"NEST_PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["bash", str(RECIPE), "--data-dir", str(folder / "data"), "--exp-dir", str(folder / "exp"), *options],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_the_page_has_every_system_and_the_same_utterances(finished):
    folder, _ = finished
    exp = folder / "exp" / "nano"
    test = [row["key"] for _, row in read_rows(folder / "data" / "heldout" / "test.jsonl")]
    dev = [row["key"] for _, row in read_rows(folder / "data" / "heldout" / "dev.jsonl")]
    train = [row["key"] for _, row in read_rows(folder / "data" / "stage0" / "real" / "train.jsonl")]
    assert test and dev and not set(test) & set(dev + train)
    for name in SYSTEMS:
        assert sorted(r["key"] for _, r in read_rows(exp / "decode" / f"{name}.jsonl")) == sorted(test)
    scores = json.loads((exp / "scores.json").read_text(encoding="utf-8"))
    assert [row["system"] for row in scores["rows"] if row["field"] == "text"] == SYSTEMS
    assert scores["counted"]["utterances"] == len(test)
    assert all("kwer" in row for row in scores["rows"])
    page = (exp / "RESULTS.md").read_text(encoding="utf-8")
    for name in SYSTEMS:
        assert f"| {name} | **joint** |" in page
    assert re.search(r"^\| encoder +\| +2 \|", page, re.MULTILINE) and "--part lora" in page
    assert re.search(r"^\| real/train +\|", page, re.MULTILINE)
    assert "<html" in (exp / "report.html").read_text(encoding="utf-8")
    assert "## Test set simulated" in page
    assert (exp / "alignments.txt").stat().st_size and (exp / "utterances.jsonl").stat().st_size


@pytest.mark.slow
def test_simulated_calls_that_no_training_looked_at_are_a_further_test_set(finished):
    folder, _ = finished
    exp, heldout = folder / "exp" / "nano", folder / "data" / "heldout_simulated"
    test = [row["key"] for _, row in read_rows(heldout / "test.jsonl")]
    dev = [row["key"] for _, row in read_rows(heldout / "dev.jsonl")]
    train = [row["key"] for _, row in read_rows(folder / "data" / "stage0" / "simulated" / "train.jsonl")]
    assert test and dev and not set(test) & set(dev + train)
    scores = json.loads((exp / "scores_simulated.json").read_text(encoding="utf-8"))
    rows = [row for row in scores["rows"] if row["field"] == "text"]
    assert [row["system"] for row in rows] == ["base", "lora"]
    assert scores["counted"]["utterances"] == len(test)
    codecs = [*rows[0]["conditions"].get("codec", {}), scores["same_for_all"].get("codec", "not stated")]
    assert codecs[0] != "not stated"
    command = json.loads((exp / "encoder" / "env.json").read_text(encoding="utf-8"))["command"]
    assert command[command.index("--valid") + 1] == str(heldout / "dev.jsonl")


@pytest.mark.slow
def test_each_stage_says_which_model_it_started_from(finished):
    folder, _ = finished
    exp = folder / "exp" / "nano"
    starts = {
        "encoder": folder / "base model",
        "adaptor": exp / "encoder/model",
        "lora": exp / "adaptor/model",
    }
    for name, start in starts.items():
        command = json.loads((exp / name / "env.json").read_text(encoding="utf-8"))["command"]
        assert command[command.index("--model") + 1] == str(start)
        assert {"config.yaml", "configuration.json", "model.pt"} <= {
            p.name for p in (exp / name / "model").iterdir()
        }


@pytest.mark.slow
def test_a_second_call_has_nothing_to_do(finished):
    folder, options = finished
    done = run(folder, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("already done, skipped") == 7 and "nothing to do" in done.stdout
