"""run_ctc.sh, with real verbs, on a few seconds of noise and with a tiny model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nest_ssl.files.audio import write_audio
from nest_ssl.files.rows import split_of
from tests.recipes.asterisk_archives import ROOT

RATES = {"prompts.jsonl": 16000, "prompts_gsm.jsonl": 8000}
SPLIT = {"dev": 0.2, "test": 0.2, "seed": 17}
TINY = (
    "model.encoder.d_model=16 model.encoder.n_heads=2 model.encoder.n_layers=1 "
    "model.encoder.subsampling_conv_channels=4 model.num_classes=16 "
    "exp_manager.create_tensorboard_logger=false"
)
FEW = "trainer.val_check_interval=1 trainer.log_every_n_steps=1 exp_manager.create_tensorboard_logger=false"


def write_rows(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A data folder as run.sh leaves it: 16 prompts in English, wideband and GSM, and the manifests."""
    folder = tmp_path_factory.mktemp("the data")
    generator = np.random.default_rng(3)
    splits: dict[str, list[dict]] = {"train": [], "dev": [], "test": []}
    for manifest, rate in RATES.items():
        rows = []
        for i in range(16):
            audio = (0.05 * generator.normal(size=rate + 100 * i)).astype(np.float32)
            name = f"audio/{rate}/{i}.wav"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_audio(folder / name, audio, rate)
            row = {
                "audio_filepath": name,
                "duration": len(audio) / rate,
                "text": f"Press {'one two'[i % 3 :]}.",
            }
            rows.append({**row, "lang": "en", "key": f"k{i}", "id": f"{rate}/k{i}"})
        write_rows(folder / manifest, rows)
        for row in rows if rate == 16000 else []:
            split = split_of(row["key"], SPLIT["dev"], SPLIT["test"], SPLIT["seed"])
            splits[split].append({**row, "audio_filepath": f"../{row['audio_filepath']}"})
    assert all(splits.values()), "each split must have prompts"
    for split, rows in splits.items():
        write_rows(folder / "manifests" / f"{split}.jsonl", rows)
    return folder


def run(data: Path, exp: Path, *options: str) -> tuple[int, str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NEST_")}
    environment |= {"NEST_PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    words = ["bash", str(ROOT / "egs" / "asterisk" / "run_ctc.sh"), "--data-dir", str(data)]
    words += ["--exp-dir", str(exp), "--data-is-ready", "true", "--dev", "0.2", "--test", "0.2", *options]
    done = subprocess.run(
        words,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1500,
        check=False,
    )
    return done.returncode, done.stdout


def test_help_fits_a_screen_and_says_what_the_recipe_is_for(tmp_path):
    status, output = run(tmp_path / "data", tmp_path / "exp", "--help")
    assert status == 0
    assert "Is NEST a better start for CTC than random weights?" in output
    assert "Stages: 0 data, 1 pretrain, 2 labels, 3 tokenizer, 4 finetune, 5 table" in output
    assert len(output.splitlines()) <= 40
    assert not (tmp_path / "data").exists() and not (tmp_path / "exp").exists()


def test_dry_run_and_status_touch_nothing(data, tmp_path):
    status, output = run(data, tmp_path / "exp", "--dry-run")
    assert status == 0, output
    for stage in ("pretrain", "labels", "tokenizer", "finetune", "table"):
        assert f"({stage}) would run" in output
    status, output = run(data, tmp_path / "exp", "--status")
    assert status == 0, output
    assert output.count(" missing") >= 5
    assert not (tmp_path / "exp").exists()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--train-audio", "wideband gms", "'wideband gms': wideband, gsm, telephone, or several of them"),
        ("--seeds", "0,1", "'0,1': numbers in one word, as in '0 1 2'"),
        ("--tokenizer", "word", "word: char, bpe or unigram"),
    ],
)
def test_a_value_that_cannot_be_is_refused_before_any_training(option, value, message, tmp_path):
    status, output = run(tmp_path / "data", tmp_path / "exp", option, value)
    assert status == 2
    assert f"run_ctc.sh: {option} {message}" in output and len(output.splitlines()) == 1


def test_a_model_that_is_not_there_is_named_before_any_training(data, tmp_path):
    status, output = run(data, tmp_path / "exp", "--nest-model", str(tmp_path / "no.nemo"))
    assert status == 1
    assert f"{tmp_path / 'no.nemo'} does not exist" in output
    assert "Traceback" not in output
    assert not list((tmp_path / "exp").rglob("train.log"))


@pytest.mark.slow
def test_both_starts_are_trained_scored_and_tabled_and_a_second_call_does_nothing(data, tmp_path):
    exp = tmp_path / "the exp"
    options = [
        *("--seeds", "0 1", "--updates", "2", "--finetune-conf", FEW),
        *("--pretrain-steps", "2", "--pretrain-conf", TINY),
    ]
    status, output = run(data, exp, *options)
    assert status == 0, output
    table = (exp / "ctc" / "CTC.md").read_text(encoding="utf-8")
    assert "2 seeds (0, 1), 2 updates each" in table
    assert table.count("| random weights | ") == table.count("| NEST | ") == 2
    assert "WARNING" in table  # two steps are no pre-training

    labels = json.loads((exp / "ctc" / "labels" / "labels.json").read_text())
    trials = exp / "ctc" / "trials"
    assert sorted(folder.name for folder in trials.iterdir()) == ["nest-0", "nest-1", "random-0", "random-1"]
    for trial in trials.iterdir():
        for kind in ("wideband", "gsm"):
            scores = json.loads((trial / f"{kind}.json").read_text())
            assert scores["scored"] == labels[f"heldout_{kind}"]["prompts"]
            assert scores["cer"] > 0
        log = (trial / "train.log").read_text()
        assert "finished at step 2" in log
        assert ("initial weights: init_from_nemo_model " in log) == trial.name.startswith("nest")
        assert ("initial weights: random, seed" in log) == trial.name.startswith("random")

    status, output = run(data, exp, *options)
    assert status == 0 and "nothing to do" in output, output
    status, output = run(data, exp, *options, "--updates", "3", "--stage", "finetune")
    assert status == 1
    assert "was begun with other settings: add --fresh finetune, or take another --tag" in output
