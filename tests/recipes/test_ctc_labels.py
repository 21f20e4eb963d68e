"""The labelled manifests of run_ctc.sh: nothing is held out that the pre-training has heard."""

import json
import subprocess
import sys

import pytest

SCRIPT = "egs/asterisk/local/make_ctc_data.py"


@pytest.fixture
def make_labels(checkout, tmp_path):
    """Run the script on twenty prompts; `heard` are the keys of the manifest of the pre-training."""
    data = tmp_path / "data"
    data.mkdir()
    rows = [
        {
            "audio_filepath": f"{key}.flac",
            "duration": 1.0,
            "text": "one two",
            "lang": "en",
            "key": key,
            "id": key,
        }
        for key in map(str, range(20))
    ]
    for name in ("prompts", "prompts_gsm"):
        (data / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(heard):
        trained_on = tmp_path / "train.jsonl"
        trained_on.write_text("".join(json.dumps(row) + "\n" for row in rows if row["key"] in heard))
        facts = {"model": "final.nemo", "train_manifests": [str(trained_on)]}
        (tmp_path / "nest.json").write_text(json.dumps(facts))
        words = ["--data", data, "--out", tmp_path / "labels", "--pretrain", tmp_path / "nest.json"]
        words += ["--dev", "0.3", "--test", "0.2", "--split-seed", "3"]
        done = subprocess.run(
            [sys.executable, checkout / SCRIPT, *map(str, words)],
            capture_output=True,
            text=True,
            env={"PYTHONPATH": str(checkout), "PATH": "/usr/bin:/bin"},
        )
        return done, tmp_path / "labels"

    return run


def keys(manifest):
    return {json.loads(line)["key"] for line in manifest.read_text().splitlines()}


def test_held_out_prompts_are_in_no_training_set(make_labels):
    done, labels = make_labels(heard=set())
    assert done.returncode == 0, done.stderr
    held, train = keys(labels / "heldout_wideband.jsonl"), keys(labels / "train.jsonl")
    assert held and train and not held & train
    assert held == keys(labels / "heldout_gsm.jsonl") >= keys(labels / "dev.jsonl")


def test_a_pretraining_that_heard_a_held_out_prompt_is_refused(make_labels):
    _, labels = make_labels(heard=set())
    held = min(keys(labels / "heldout_wideband.jsonl"))
    assert make_labels(heard=keys(labels / "train.jsonl"))[0].returncode == 0
    done, _ = make_labels(heard=keys(labels / "train.jsonl") | {held})
    assert done.returncode == 1
    assert f"has 1 of the {len(keys(labels / 'heldout_wideband.jsonl'))} held-out prompts" in done.stderr
    assert "--split-seed" in done.stderr
