"""Starts the real pretrain verb on generated audio, kills it, and reads what it left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from nest_ssl.checkpoints.nemo_archive import read_nemo

CHECKOUT = Path(__file__).resolve().parents[2]
TINY = [
    "model.num_classes=32",
    "model.code_dim=4",
    "model.encoder.n_layers=1",
    "model.encoder.d_model=16",
    "model.encoder.n_heads=2",
    "model.encoder.subsampling_conv_channels=4",
    "model.masking.block_size=16",
    "model.masking.mask_prob=0.04",
    "model.optim.sched.warmup_steps=10",
    "model.train_ds.batch_size=3",
    "model.train_ds.batch_augmentor.prob=0.8",
    "model.train_ds.min_duration=0.5",
    "model.validation_ds.min_duration=0.5",
    "model.validation_ds.num_workers=0",
    "exp_manager.create_tensorboard_logger=false",
    "++exp_manager.checkpoint_callback_params.every_n_train_steps=3",
    "trainer.accelerator=cpu",
    "trainer.val_check_interval=10",
    "trainer.log_every_n_steps=1",
]


def make_corpus(folder: Path, count: int = 24) -> Path:
    """`count` noisy tones of 0.6 to 1.6 s as FLAC, with manifests train.jsonl, dev.jsonl and noise.jsonl."""
    folder.mkdir()
    generator = np.random.default_rng(1)
    rows = []
    for number in range(count):
        samples = int(16000 * generator.uniform(0.6, 1.6))
        tone = np.sin(2 * np.pi * generator.uniform(100, 3000) * np.arange(samples) / 16000)
        audio = 0.2 * tone + 0.05 * generator.normal(size=samples)
        soundfile.write(folder / f"{number}.flac", audio, 16000)
        rows.append({"id": f"utt{number}", "audio_filepath": f"{number}.flac", "duration": samples / 16000})
    for name, part in (("train", rows[:-4]), ("dev", rows[-4:]), ("noise", rows[-2:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder


def command(corpus: Path, run: Path, *overrides: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "nest_ssl.bin.pretrain",
        "--config",
        str(CHECKOUT / "conf" / "nest_fast-conformer.yaml"),
        f"model.train_ds.manifest_filepath={corpus}/train.jsonl",
        f"model.train_ds.noise_manifest={corpus}/noise.jsonl",
        f"model.validation_ds.manifest_filepath={corpus}/dev.jsonl",
        f"exp_manager.explicit_log_dir={run}",
        *TINY,
        *overrides,
    ]


def environment(hold: int | None = None) -> dict[str, str]:
    """hold: number of the step that is not begun before a signal has come, however busy the machine is."""
    given = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    return given if hold is None else given | holding(hold, CHECKOUT)


def holding(step: int, path: Path) -> dict[str, str]:
    """The variables that hold a training before `step`; path: what else Python is to find."""
    return {"NEST_TEST_HOLD": str(step), "PYTHONPATH": f"{CHECKOUT / 'tests' / 'hold'}{os.pathsep}{path}"}


def start(*arguments: str | Path, hold: int | None = None) -> subprocess.Popen:
    """Start the verb in a process group of its own, as the recipe layer does."""
    corpus, run, *overrides = arguments
    return subprocess.Popen(
        command(Path(corpus), Path(run), *map(str, overrides)),
        env=environment(hold),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(*arguments: str | Path) -> str:
    """Run the verb to its end and give what it printed."""
    process = start(*arguments)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    return output


def wait_for_step(run: Path, step: int, process: subprocess.Popen) -> None:
    """Return as soon as train.log has a line of `step` or a later one."""
    deadline = time.monotonic() + 480  # two ranks that import torch on busy cores
    while steps_done(run) < step:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the run never came that far"
        time.sleep(0.002)


def steps_done(run: Path) -> int:
    log = run / "train.log"
    found = re.findall(r"^\S+ \S+ step (\d+)/", log.read_text() if log.is_file() else "", re.M)
    return int(found[-1]) if found else 0


def kill_group(process: subprocess.Popen) -> None:
    """SIGKILL for the verb and whatever it started; nothing gets a chance to tidy up."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def final_state(run: Path) -> dict[str, torch.Tensor]:
    return read_nemo(run / "final.nemo")[1]


def assert_same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    different = [key for key in one if not torch.equal(one[key], other[key])]
    assert not different, f"{len(different)} of {len(one)} tensors differ: {different[:5]}"
