"""The recogniser's stages of egs/asterisk/run.sh: real verbs, the prompts of tests/data, a few steps."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recipes.asterisk_archives import ROOT

TINY = (
    "model.encoder.d_model=16 model.encoder.n_heads=2 model.encoder.n_layers=1 "
    "model.encoder.subsampling_conv_channels=4 model.num_classes=16 trainer.val_check_interval=10 "
    "exp_manager.create_tensorboard_logger=false"
)
OPTIONS = ["--dev", "0.2", "--test", "0.2", "--seed", "6", "--devices", "1", "--batch-duration", "6"]
FEW = [
    "--max-steps",
    "2",
    "--pretrain-conf",
    TINY,
    "--base-steps",
    "3 2 2",
    "--adapt-steps",
    "2 2 2",
    "--beam",
    "2",
]
LIGHT = "++train_conf.tensorboard=false ++train_conf.log_interval=1"
SYSTEMS = ("base", "control", "encoder", "adaptor", "lora")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, table) -> Path:
    """A checkout in a folder with spaces whose table of checksums is that of the test's packages."""
    root = tmp_path_factory.mktemp("a check out")
    for name in ("nest_ssl", "utils", "conf"):
        (root / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "egs", root / "egs", ignore=shutil.ignore_patterns("data", "exp"))
    shutil.copyfile(table, root / "egs" / "asterisk" / "local" / "checksums.tsv")
    return root


def run(checkout: Path, *options: str, status: int = 0) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NEST_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment |= {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", str(checkout / "egs" / "asterisk" / "run.sh"), *options],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1500,
    )  # fmt: skip
    assert done.returncode == status, done.stdout
    return done.stdout


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_dry_run_names_every_stage_with_the_preset_s_steps(checkout):
    plan = run(checkout, "--dry-run", "--preset", "quick")
    for name in ("base", "encoder", "adaptor", "lora", "decode", "score", "report"):
        assert f"({name})" in plan
    assert " 60 adapt.jsonl" in plan and "trainer.max_steps=20" in plan


def test_an_unknown_preset_and_a_short_list_of_steps_are_refused(checkout):
    assert "neither default nor quick" in run(checkout, "--dry-run", "--preset", "fast", status=2)
    assert "three numbers" in run(checkout, "--dry-run", "--adapt-steps", "10 20", status=2)


@pytest.mark.slow
def test_the_recipe_goes_from_packages_to_the_table(checkout, packages):
    data, exp = (checkout / "egs" / "asterisk" / name for name in ("data", "exp/small"))
    options = ["--deb-dir", str(packages), *OPTIONS, *FEW, "--base-conf", LIGHT, "--adapt-conf", LIGHT]
    run(checkout, *options)

    test = rows(data / "finetune" / "test_gsm.jsonl")
    held_out = {row["key"] for row in test}
    assert held_out
    for trained in (
        "manifests/train",
        "manifests/dev",
        "finetune/adapt",
        "finetune/train_gsm",
        "finetune/dev_gsm",
    ):
        assert not held_out & {row["key"] for row in rows(data / f"{trained}.jsonl")}, trained
    for name in SYSTEMS:
        decoded = rows(exp / "decode" / f"{name}.jsonl")
        assert {row["key"] for row in decoded} == {row["id"] for row in test}
        assert all({"text", "text_llm", "text_ctc"} <= row.keys() for row in decoded)
    page = (exp / "RESULTS.md").read_text(encoding="utf-8")
    for name in SYSTEMS:
        assert f"| {name} |" in page
    assert "Did the character error rate fall by 25 % or more?" in page
    assert "<html" in (exp / "report.html").read_text(encoding="utf-8")
    assert "nothing to do" in run(checkout, *options)
