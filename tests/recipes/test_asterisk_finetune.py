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
    for steps in ("10 20", "10 20 many"):
        assert "three numbers" in run(checkout, "--dry-run", "--adapt-steps", steps, status=2)


def test_a_value_that_cannot_be_is_refused_before_any_stage(checkout):
    assert run(checkout, "--encoder", "sann", status=2) == "run.sh: --encoder sann: conformer or sanm\n"
    assert run(checkout, "--nj", "x", status=2) == "run.sh: --nj is a number, not 'x'\n"
    assert "give one" in run(checkout, "--deb-dir", "a", "--tarball-dir", "b", status=2)
    assert run(checkout, "--accelerator", "tpu", status=2) == "run.sh: --accelerator tpu: auto, gpu or cpu\n"
    assert run(checkout, "--start", "net", status=2) == "run.sh: --start net: nest or random\n"


def prompt(key: str, folder: str, channel: dict | None = None) -> dict:
    row = {"audio_filepath": f"{folder}/{key}.flac", "duration": 1.0, "text": f"Say {key}.", "lang": "en"}
    return row | {"key": key, "id": f"{folder}/{key}"} | ({"channel": channel} if channel else {})


def test_each_held_out_prompt_is_one_simulated_call_with_the_record_of_its_channel(tmp_path):
    keys = [f"word{i}" for i in range(40)]
    calls = {"legs": [{"codec": "g729"}]}
    manifests = {
        "wideband": [prompt(key, "wide") for key in keys],
        "telephone": [prompt(key, "tel", calls) for key in keys],
        "telephone_gsm": [prompt(key, "mobile", {"legs": [{"codec": "gsm_fr"}]}) for key in keys],
        "gsm": [prompt(key, "gsm") for key in keys],
    }
    paths = {name: tmp_path / f"{name}.jsonl" for name in manifests}
    for name, found in manifests.items():
        paths[name].write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    words = ["--wideband", paths["wideband"], "--simulated", paths["telephone"], paths["telephone_gsm"]]
    words += ["--gsm", paths["gsm"], "--out", tmp_path / "out"]
    words += ["--dev", "0.2", "--test", "0.3", "--split-seed", "1"]
    subprocess.run(
        [sys.executable, ROOT / "egs/asterisk/local/make_finetune_data.py", *map(str, words)],
        check=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    found = {path.stem: rows(path) for path in (tmp_path / "out").glob("*.jsonl")}
    held_out = {row["key"] for row in found["test_gsm"]}
    assert 5 < len(held_out) < 20
    assert sorted(row["key"] for row in found["test_simulated"]) == sorted(held_out)
    assert all(row["channel"] == calls for row in found["test_simulated"])
    assert len(found["train_simulated"]) == 2 * len(found["train_gsm"]), "training hears both calls"
    assert {row["channel"] for row in found["adapt"]} == {"wideband", "simulated"}
    assert {row["channel"] for row in found["test_gsm"]} == {"gsm"}


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
    simulated = rows(data / "finetune" / "test_simulated.jsonl")
    assert {row["key"] for row in simulated} <= held_out, "a prompt whose call is too short is left out"
    assert len({row["key"] for row in simulated}) == len(simulated)
    assert all("legs" in row["channel"] for row in simulated)
    for name in ("base", "lora"):
        decoded = rows(exp / "decode" / f"{name}_simulated.jsonl")
        assert {row["key"] for row in decoded} == {row["id"] for row in simulated}
    for run_name in ("pretrain", "ctc", "heads"):
        logged = rows(exp / run_name / "metrics.jsonl")
        assert next(row["step"] for row in logged if row["kind"] == "validation") == 0, run_name
    page = (exp / "RESULTS.md").read_text(encoding="utf-8")
    for name in SYSTEMS:
        assert f"| {name} |" in page
    assert "Did the character error rate fall by 25 % or more?" in page
    assert "## Test set simulated" in page and "| lora |" in page[page.index("## Test set simulated") :]
    assert "<html" in (exp / "report.html").read_text(encoding="utf-8")
    assert "nothing to do" in run(checkout, *options)
