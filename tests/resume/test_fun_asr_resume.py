"""A fine-tuning that is killed with SIGKILL and started again ends with the bits of one that was not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nest_ssl.bin import finetune
from tests.fun_asr_tiny import make_corpus, make_model_dir
from tests.resume.runs import assert_same_bits, environment, kill_group, steps_done, wait_for_step

STEPS = 12
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finetune")
    for encoder in ("conformer", "sanm"):
        make_model_dir(folder / encoder, encoder=encoder)
    make_corpus(folder / "audio", 9, prefix="train")
    make_corpus(folder / "audio", 3, seed=1, prefix="dev")
    return folder


def arguments(given: Path, run: Path, encoder: str, *words: str) -> list[str]:
    audio = given / "audio"
    return [
        *("--model", str(given / encoder)),
        *("--train", str(audio / "train.messages.jsonl")),
        *("--valid", str(audio / "dev.manifest.jsonl")),
        *("--out", str(run)),
        f"++train_conf.max_steps={STEPS}",
        "++train_conf.max_epoch=-1",
        "++scheduler_conf.warmup_steps=2",
        "++train_conf.log_interval=1",
        "++train_conf.save_checkpoint_interval=3",
        "++train_conf.validate_interval=4",
        "++train_conf.accum_grad=2",
        "++train_conf.tensorboard=false",
        "++train_conf.accelerator=cpu",
        "++train_conf.use_bf16=false",
        "++dataset_conf.batch_size=300",
        *words,
    ]


def kill_at(step: int, command: list[str], run: Path) -> None:
    """Start the verb and kill it once it has logged `step`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nest_ssl.bin.finetune", *command],
        env=environment(hold=STEPS),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    wait_for_step(run, step, process)
    kill_group(process)
    assert step <= steps_done(run) < STEPS


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "model" / "model.pt", weights_only=True)["state_dict"]


@pytest.mark.parametrize(
    ("encoder", "words", "kills"),
    [
        # batch norms and dropout in the encoder, CTC through the frozen branch, workers, augmentation
        ("conformer", ["--part", "encoder", "++dataset_conf.num_workers=1"], (7,)),
        pytest.param("sanm", ["--part", "all", "++dataset_conf.num_workers=0"], (2, 8), marks=slow),
        pytest.param("sanm", ["--part", "lora", "++train_conf.devices=2"], (5,), marks=slow),
    ],
)
def test_a_killed_fine_tuning_ends_with_the_same_bits(given, tmp_path, encoder, words, kills):
    assert finetune.main(arguments(given, tmp_path / "straight", encoder, *words)) == 0
    command = arguments(given, tmp_path / "killed", encoder, *words)
    for step in kills:
        kill_at(step, command, tmp_path / "killed")
    assert finetune.main(command) == 0
    assert "resumed from" in (tmp_path / "killed" / "train.log").read_text()
    assert_same_bits(weights(tmp_path / "straight"), weights(tmp_path / "killed"))
    text = (tmp_path / "killed" / "metrics.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "train"] == list(range(1, STEPS + 1))
    straight = json.loads((tmp_path / "straight" / "metrics.jsonl").read_text().splitlines()[-1])
    validations = [row for row in rows if row["kind"] == "validation"]
    assert validations[-1]["val_loss"] == straight["val_loss"]


def test_a_run_is_not_resumed_over_another_base(given, tmp_path):
    words = ["--part", "adaptor", "++dataset_conf.num_workers=0"]
    finetune.main(arguments(given, tmp_path / "run", "sanm", *words, "++train_conf.max_steps=2"))
    make_model_dir(tmp_path / "other", seed=5)
    command = arguments(given, tmp_path / "run", "sanm", *words)
    command[command.index("--model") + 1] = str(tmp_path / "other")
    with pytest.raises(ValueError, match="over other frozen weights"):
        finetune.main(command)


@slow
def test_two_ranks_train_beside_ctc_weights_that_no_loss_uses(given, tmp_path):
    words = ["--part", "adaptor", "++ctc_weight=0", "++train_conf.devices=2", "++dataset_conf.num_workers=0"]
    assert finetune.main(arguments(given, tmp_path / "run", "sanm", *words)) == 0
    before = torch.load(given / "sanm" / "model.pt", weights_only=True)["state_dict"]
    after = weights(tmp_path / "run")
    assert torch.equal(before["ctc.ctc_lo.weight"], after["ctc.ctc_lo.weight"])
    assert not torch.equal(before["audio_adaptor.linear1.weight"], after["audio_adaptor.linear1.weight"])
