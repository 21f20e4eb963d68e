"""The recipe up to the pre-trained model: run.sh with real verbs, the prompts of tests/data, a tiny model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nest_ssl.models.ssl_models import EncDecDenoiseMaskedTokenPredModel
from tests.recipes.asterisk_archives import ROOT
from tests.resume.runs import holding

TINY = (
    "model.encoder.d_model=16 model.encoder.n_heads=2 model.encoder.n_layers=1 "
    "model.encoder.subsampling_conv_channels=4 model.num_classes=16 trainer.val_check_interval=10 "
    "trainer.log_every_n_steps=1 exp_manager.create_tensorboard_logger=false"
)
SPLITS = ["--dev", "0.2", "--test", "0.2", "--seed", "6"]  # gives each split some of the few prompts
SIZES = ["--devices", "1", "--max-steps", "12", "--batch-duration", "6", "--pretrain-conf", TINY]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, table) -> Path:
    """A checkout in a folder with spaces whose table of checksums is that of the test's packages."""
    root = tmp_path_factory.mktemp("a check out")
    for name in ("nest_ssl", "utils", "conf"):
        (root / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "egs", root / "egs", ignore=shutil.ignore_patterns("data", "exp"))
    shutil.copyfile(table, root / "egs" / "asterisk" / "local" / "checksums.tsv")
    return root


def start(checkout: Path, *options: str, hold: int | None = None) -> subprocess.Popen:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NEST_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment |= {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    environment |= {} if hold is None else holding(hold, checkout)
    return subprocess.Popen(
        ["bash", str(checkout / "egs" / "asterisk" / "run.sh"), *options],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def run(checkout: Path, *options: str) -> str:
    process = start(checkout, *options)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    return output


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_recipe_goes_from_packages_to_a_model_and_goes_on_after_kills(checkout, packages):
    data = checkout / "egs" / "asterisk" / "data"
    pretrain = checkout / "egs" / "asterisk" / "exp" / "small" / "pretrain"
    options = ["--deb-dir", str(packages), *SPLITS, *SIZES]
    up_to_pretrain = [*options, "--stop-stage", "pretrain"]

    output = run(checkout, *options, "--stop-stage", "manifests")
    assert "stage 2 (manifests)" in output
    splits = {name: rows(data / "manifests" / f"{name}.jsonl") for name in ("train", "dev", "test")}
    assert all(splits.values()), "each split must have prompts"
    keys = [{row["key"] for row in split} for split in splits.values()]
    assert not (keys[0] & keys[1] or keys[0] & keys[2] or keys[1] & keys[2])
    assert {"channel" in row for row in splits["train"]} == {True, False}

    process = start(checkout, *up_to_pretrain, hold=8)
    wait_for(pretrain / "train.log", " step 3/12", process)
    os.killpg(process.pid, signal.SIGKILL)  # run.sh itself; its guard stops the stage
    process.communicate()
    output = run(checkout, *up_to_pretrain)
    assert "stage 0 (data) already done, skipped" in output
    assert "was killed" in output
    log = (pretrain / "train.log").read_text()
    assert "step 12/12" in log and "finished at step 12" in log
    model = EncDecDenoiseMaskedTokenPredModel.restore_from(pretrain / "final.nemo")
    assert model.cfg.encoder.d_model == 16

    assert "nothing to do" in run(checkout, *up_to_pretrain)
    status = run(checkout, *options, "--status")
    assert "4 of 11 stages done" in status


def wait_for(path: Path, text: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 480
    while not (path.is_file() and text in path.read_text()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"{text!r} never came"
        time.sleep(0.005)
