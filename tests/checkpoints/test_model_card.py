"""Model cards: what a run directory tells, and what is not recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from nest_ssl.checkpoints.model_card import model_card, run_facts, write_card
from nest_ssl.checkpoints.source import Source

SECTION = {
    "sample_rate": 16000,
    "encoder": {"n_layers": 2, "d_model": 24},
    "preprocessor": {"features": 80},
}
SOURCE = Source(Path("a.nemo"), "NeMo archive", SECTION, {"w": torch.zeros(3, 4), "b": torch.zeros(5)})


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    (folder / "checkpoints" / "step-4").mkdir(parents=True)
    facts = {
        "git_commit": "abc123",
        "git_changes": True,
        "command": ["python", "-m", "nest_ssl.bin.pretrain", "model.name=a b"],
        "nest_ssl": "0.2",
        "python": "3.12",
        "packages": {"torch": "2.13"},
        "device": "cpu",
        "started": "2026-11-21",
    }
    (folder / "env.json").write_text(json.dumps(facts))
    rows = [
        {"kind": "train", "step": 4, "hours_seen": 1.25, "epoch": 0, "loss": 5.0},
        {"kind": "validation", "step": 4, "val_loss": 4.75, "epoch": 0, "time": "x"},
        {"kind": "train", "step": 8, "hours_seen": 2.5, "epoch": 1, "loss": 4.0},
        {"kind": "validation", "step": 8, "val_loss": 4.5, "epoch": 1, "time": "x"},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"torn')
    (folder / "config.yaml").write_text("trainer: {max_steps: 8, precision: 32, seed: 3}\nmodel: {}\n")
    line = "2026 training data manifest a b.jsonl rows 40 dropped 2 utterances 40 hours 12.500 batches 3\n"
    (folder / "train.log").write_text(
        line.replace("12.5", "11.5") + line + "validation data rows 1 hours 1\n"
    )
    return folder


def card(run, /, **source):
    given = Source(**{**vars(SOURCE), **source})
    return model_card(given, SECTION, "out.nemo", "nemo", "apache-2.0", run)


def test_a_run_directory_fills_the_card(run):
    text = card(run_facts(run / "final.nemo"))
    for expected in (
        'license: "apache-2.0"',
        "| training data | 12.5 hours in 40 rows |",
        "| audio seen in training | 2.50 hours |",
        "| steps | 8 of 8 |",
        "| precision, seed | 32, 3 |",
        "| commit | `abc123 (with uncommitted changes)` |",
        "| command | `python -m nest_ssl.bin.pretrain 'model.name=a b'` |",
        "| software | nest_ssl 0.2, python 3.12, torch 2.13 |",
        "| weights | 17 values in 2 tensors |",
        "| val_loss | 4.5000 |",
        "n_layers: 2",
    ):
        assert expected in text


def test_the_figures_are_those_of_the_checkpoints_step(run):
    text = card(run_facts(run / "checkpoints" / "step-4", 4))
    assert "| steps | 4 of 8 |" in text
    assert "| audio seen in training | 1.25 hours |" in text
    assert "| val_loss | 4.7500 |" in text


def test_what_a_checkpoint_says_itself_comes_first(run):
    facts = {"step": 6, "hours_seen": 2.0, "metrics": {"val_loss": 4.6}}
    text = card(run_facts(run / "checkpoints" / "step-4", 6), facts=facts)
    assert "| steps | 6 of 8 |" in text
    assert "| audio seen in training | 2.00 hours |" in text
    assert "| val_loss | 4.6000 |" in text


def test_what_is_not_known_is_said_to_be(tmp_path):
    facts = run_facts(tmp_path / "final.nemo")
    text = model_card(SOURCE, SECTION, "out.nemo", "nemo", None, facts)
    for field in ("training data", "steps", "commit", "command", "licence", "software"):
        assert f"| {field} | not recorded |" in text
    assert "Not recorded." in text
    assert "license:" not in text


def test_a_readme_of_others_is_left_alone(tmp_path):
    file = tmp_path / "a.nemo"
    first = write_card(file, '---\nexport: "a.nemo"\n---\nold\n')
    assert first == tmp_path / "README.md"
    assert write_card(file, '---\nexport: "a.nemo"\n---\nnew\n') == first
    assert "new" in first.read_text()
    assert write_card(tmp_path / "b.nemo", '---\nexport: "b.nemo"\n---\n').name == "b.nemo.README.md"
    assert "new" in first.read_text()
