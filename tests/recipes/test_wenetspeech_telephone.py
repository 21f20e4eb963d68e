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
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False,
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
    assert "give --wenetspeech PATH/WenetSpeech.json, --real-data [KIND=]PATH, or both" in done.stderr
    assert run("run.sh", tmp_path, "--status").returncode == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--calls", "a", "--real-data", "b"], "--calls a and --real-data b are the same option"),
        (["--real-data", "a", "--start-from", "encoder"], "--start-from encoder: previous or base"),
        (["--real-data", "a", "--accelerator", "tpu"], "--accelerator tpu: auto, gpu or cpu"),
        (["--real-data", "a", "--mode", "beam"], "--mode beam: joint, llm or ctc"),
        (["--real-data", "a", "--num-nodes", "2"], "--num-nodes 2 needs a --cmd"),
        (["--real-data", "a", "--keywords", "w.txt"], "w.txt, which a later stage reads, is missing"),
        (["--real-data", "a", "--test-set", "t.jsonl"], "t.jsonl, which a later stage reads, is missing"),
        (["--real-data", "a", "--base-model", "/no"], "/no/model.pt, which a later stage reads, is missing"),
    ],
)
def test_mistakes_in_the_call_are_named(options, message, tmp_path):
    done = run("run.sh", tmp_path, *options)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


@pytest.fixture
def placed(tmp_path) -> dict[str, str]:
    """Files that a dry run finds where the options name them."""
    for name in ("base/config.yaml", "base/model.pt", "w.jsonl", "calls.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("here\n")
    names = {"--base-model": "base", "--wenetspeech": "w.jsonl", "--real-data": "calls.jsonl"}
    return {option: str(tmp_path / name) for option, name in names.items()}


def plan(folder: Path, *options: str) -> dict[str, str]:
    """The command of each stage of a dry run, by the stage's name."""
    done = run("run.sh", folder, "--dry-run", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    return {
        line.split("(")[1].split(")")[0]: lines[i + 1].strip()
        for i, line in enumerate(lines)
        if line.startswith("run.sh: stage ")
    }


def test_each_stage_starts_from_the_one_before_or_from_the_base(placed, tmp_path):
    model = placed["--base-model"]
    given = [word for pair in placed.items() for word in pair]
    stages = plan(tmp_path, *given)
    assert list(stages) == ["data", "encoder", "adaptor", "lora", "decode", "score", "report"]
    exp, data = tmp_path / "exp" / "nano", tmp_path / "data"
    assert (
        f"stage1_encoder_adapt.yaml {model} --train {data}/stage0/simulated/train.jsonl" in stages["encoder"]
    )
    assert f"stage2_adaptor_align.yaml {exp}/encoder/model --train" in stages["adaptor"]
    assert f"stage3_lora_domain.yaml {exp}/adaptor/model --train {data}/stage0/real" in stages["lora"]
    assert f"--valid {data}/heldout/dev.jsonl" in stages["lora"]
    assert f"decode base={model} encoder={exp}/encoder/model" in stages["decode"]
    stages = plan(tmp_path, *given, "--start-from", "base")
    assert all(f".yaml {model} --train" in stages[name] for name in ("encoder", "adaptor", "lora"))
    assert list(plan(tmp_path, *given[2:])) == ["data"]


def test_one_source_is_never_trained_or_validated_on_the_test_half(placed, tmp_path):
    for option, name in (("--wenetspeech", "simulated"), ("--real-data", "real")):
        stages = plan(tmp_path, option, placed[option], "--base-model", placed["--base-model"])
        for stage in ("encoder", "adaptor", "lora"):
            assert f"--train {tmp_path}/data/stage0/{name}/train.jsonl" in stages[stage]
            assert f"--valid {tmp_path}/data/heldout/dev.jsonl" in stages[stage]
