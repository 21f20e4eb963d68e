"""The verbs away from Linux: processes by spawn, no POSIX call, no warning taken lightly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nest_ssl.data.from_config import ssl_data_from_config
from nest_ssl.files import system
from tests.data_room.corpora import make_corpus as make_tones
from tests.resume.runs import CHECKOUT, TINY, make_corpus

CONFIG = CHECKOUT / "conf" / "nest_fast-conformer.yaml"
LIKE_WINDOWS = [sys.executable, str(CHECKOUT / "tests" / "like_windows.py")]
WARNINGS_ARE_ERRORS = [sys.executable, "-W", "error", "-m"]
SPAWNED_WORKERS = ["model.train_ds.num_workers=1", "+model.train_ds.multiprocessing_context=spawn"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("platform") / "corpus", count=12)


def succeed(command: list[str]) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONWARNINGS", None)
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, f"{' '.join(command[:4])}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
    return done


def verb_words(verb: str, corpus: Path, out: Path) -> list[str]:
    if verb == "manifest":
        return [
            *("--in", str(corpus / "train.jsonl"), "--out-dir", str(out)),
            *("--split-by", "id", "--dev", "0.2", "--test", "0.2"),
        ]
    if verb == "simulate":
        return ["--manifest", str(corpus / "train.jsonl"), "--out", str(out / "telephone"), "--seed", "1"]
    return [
        *("--config", str(CONFIG)),
        f"model.train_ds.manifest_filepath={corpus}/train.jsonl",
        f"model.train_ds.noise_manifest={corpus}/noise.jsonl",
        f"model.validation_ds.manifest_filepath={corpus}/dev.jsonl",
        f"exp_manager.explicit_log_dir={out / 'run'}",
        *TINY,
    ]


def weights(run: Path) -> dict[str, torch.Tensor]:
    (last,) = (run / "checkpoints").glob("*-last")
    return load_file(last / "model.safetensors")


@pytest.mark.parametrize("verb", ["manifest", "simulate"])
@pytest.mark.parametrize("start", [[*LIKE_WINDOWS], WARNINGS_ARE_ERRORS], ids=["windows", "warnings"])
def test_data_verbs_make_their_manifest(verb, start, corpus, tmp_path):
    name = verb if start == LIKE_WINDOWS else f"nest_ssl.bin.{verb}"
    succeed([*start, name, *verb_words(verb, corpus, tmp_path)])
    made = tmp_path / ("train.jsonl" if verb == "manifest" else "telephone.jsonl")
    assert made.read_text(encoding="utf-8").count("\n") >= 1
    assert b"\r" not in made.read_bytes()


def test_training_without_posix_gives_the_weights_of_this_system(corpus, tmp_path):
    """Two steps, then two more from the checkpoint, with a spawned worker: as one run of four gives here."""
    for steps in (2, 4):
        words = verb_words("pretrain", corpus, tmp_path / "windows")
        succeed([*LIKE_WINDOWS, "pretrain", *words, *SPAWNED_WORKERS, f"trainer.max_steps={steps}"])
    words = verb_words("pretrain", corpus, tmp_path / "here")
    command = [*WARNINGS_ARE_ERRORS, "nest_ssl.bin.pretrain", *words]
    succeed([*command, "model.train_ds.num_workers=0", "trainer.max_steps=4"])
    found, expected = (weights(tmp_path / name / "run") for name in ("windows", "here"))
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


def test_workers_and_devices_need_not_be_named_elsewhere(corpus, tmp_path):
    """The YAML's eight workers and all devices are no workers and one process there, and the log says so."""
    words = [word for word in verb_words("pretrain", corpus, tmp_path) if "num_workers" not in word]
    done = succeed([*LIKE_WINDOWS, "pretrain", *words, "trainer.max_steps=1"])
    assert "model.train_ds.num_workers: 0 in place of 8" in done.stderr
    environment = json.loads((tmp_path / "run" / "env.json").read_text(encoding="utf-8"))
    assert environment["world_size"] == 1


def test_a_fault_ends_the_verb_although_workers_wait(corpus, tmp_path):
    """They ignore SIGTERM, so Python's own end of them would never come."""
    program = (
        "import sys\nfrom nest_ssl.bin import pretrain, pretrain_run, terminal\n"
        "def fault(*arguments): raise RuntimeError('a fault of ours')\n"
        "pretrain_run.write_final = fault\nterminal.run(pretrain.main)"
    )
    words = [*verb_words("pretrain", corpus, tmp_path), "model.train_ds.num_workers=1", "trainer.max_steps=1"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        **{"cwd": CHECKOUT, "capture_output": True, "text": True, "encoding": "utf-8", "timeout": 200},
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("RuntimeError: a fault of ours")


@pytest.mark.parametrize(("platform", "workers"), [("linux", 2), ("darwin", 0), ("win32", 0)])
def test_workers_without_a_start_method_are_for_linux(monkeypatch, tmp_path, platform, workers):
    monkeypatch.setattr(system, "sys", SimpleNamespace(platform=platform))
    section = {
        "manifest_filepath": str(make_tones(tmp_path, [1.0, 1.2])),
        **{"sample_rate": 16000, "batch_size": 1, "num_workers": 2},
    }
    assert ssl_data_from_config(section, seed=0).num_workers == workers
    section["multiprocessing_context"] = "spawn"
    assert ssl_data_from_config(section, seed=0).num_workers == 2


def test_spawned_workers_give_the_batches_of_none(tmp_path):
    section = {
        "manifest_filepath": str(make_tones(tmp_path, [1.0, 1.3, 1.1, 1.2])),
        **{"sample_rate": 16000, "batch_size": 2, "shuffle": True},
    }
    alone = ssl_data_from_config(section, seed=3)
    spawned = ssl_data_from_config({**section, "num_workers": 1, "multiprocessing_context": "spawn"}, seed=3)
    try:
        pairs = list(zip(alone.batches(0), spawned.batches(0), strict=True))
    finally:
        spawned.close()
    assert len(pairs) == 2
    for expected, found in pairs:
        assert found.utterance_ids == expected.utterance_ids
        np.testing.assert_array_equal(found.audio.numpy(), expected.audio.numpy())


def test_an_unknown_start_method_is_refused_by_name(tmp_path):
    manifest = str(make_tones(tmp_path, [1.0]))
    section = {"manifest_filepath": manifest, "sample_rate": 16000, "batch_size": 1}
    with pytest.raises(ValueError, match=r"train_ds.multiprocessing_context must be null or one of .*spawn"):
        ssl_data_from_config({**section, "multiprocessing_context": "thread"}, seed=0)
