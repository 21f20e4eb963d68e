"""Shards and training on a real Slurm of two nodes: what fails or is preempted goes on and ends the same."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.resume import runs
from tests.shell.conftest import Stub
from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slow

PATIENCE_S = 240
CMD = """
on_cpu() { python3 "$_utils/submit.py" --backend slurm --poll 1 --flags="--cpus-per-task=1 --mem=0" "$@"; }
on_gpu() {
  python3 "$_utils/submit.py" --backend slurm --poll 1 --srun --flags="--nodes=2 --ntasks-per-node=1" "$@"
}
"""
SIMULATION = """
shard='[ ! -e "$0.$1" ] || { echo "disk of shard $1 is full"; exit 9; }; shift; exec "$@"'
simulate() {
  local verb=(python3 -m nest_ssl.bin.simulate --manifest "$data/speech.jsonl" --out "$data/telephone")
  verb+=(--seed 3)
  on_cpu JOB=1:4 "$data/log/simulate.JOB.log" bash -c "$shard" "$data/full" JOB "${verb[@]}" --shard JOB/4
  "${verb[@]}" --merge
}
stage 1 simulate at:"$data" in:"$data/speech.jsonl" out:"$data/telephone.jsonl" -- simulate
"""


@pytest.fixture
def recipe(cluster: Cluster, checkout: Path, tmp_path: Path) -> Stub:
    """A recipe in a checkout of its own whose on_cpu and on_gpu go to the cluster."""
    stub = Stub(checkout, tmp_path)
    for name in ("submit_slurm.py", "slurm_task.py"):
        shutil.copy(checkout / "utils" / name, stub.root / "utils" / name)
    (stub.root / "nest_ssl").symlink_to(checkout / "nest_ssl")
    (stub.root / "conf").symlink_to(checkout / "conf")
    (stub.root / "cluster.sh").write_text(CMD)
    return stub


def run(stub: Stub, cluster: Cluster, *options: str) -> tuple[int, str]:
    process = start(stub, cluster, *options)
    output, _ = process.communicate(timeout=PATIENCE_S)
    return process.returncode, output


def start(stub: Stub, cluster: Cluster, *options: str) -> subprocess.Popen[str]:
    environment = {
        **cluster.environment,
        "PATH": f"{Path(sys.executable).parent}:{cluster.environment['PATH']}",
        "PYTHONPATH": str(stub.root),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    return stub.start("--cmd", "cluster.sh", *options, **environment)


def write_speech(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(5)
    rows = []
    for number in range(count):
        soundfile.write(folder / f"{number}.wav", 0.1 * generator.normal(size=12000), 16000)
        rows.append(
            {"id": f"u{number}", "key": f"k{number}", "audio_filepath": f"{number}.wav", "duration": 0.75}
        )
    (folder / "speech.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_failing_shard_is_named_and_resume_runs_only_that(recipe: Stub, cluster: Cluster) -> None:
    write_speech(recipe.data, 8)
    (recipe.data / "full.3").touch()
    recipe.write(SIMULATION)
    status, output = run(recipe, cluster)
    assert status == 1
    assert "stage 1 (simulate) failed: 1 of 4 shards failed: 3 (status 9)" in output
    assert "simulate.3.log:\n" in output and "    | disk of shard 3 is full" in output
    before = {n: (recipe.data / f"log/simulate.{n}.log").read_text() for n in (1, 2, 4)}
    assert all("written 2 " in text for text in before.values())

    (recipe.data / "full.3").unlink()
    assert "to resume: bash egs/stub/run.sh --cmd cluster.sh --stage 1" in output
    status, output = run(recipe, cluster, "--stage", "1")
    assert status == 0, output
    assert "3 of 4 shards were done before" in output
    assert {n: (recipe.data / f"log/simulate.{n}.log").read_text() for n in (1, 2, 4)} == before
    assert len((recipe.data / "telephone.jsonl").read_text().splitlines()) == 8
    assert "nothing to do" in run(recipe, cluster)[1]


def pretrain(corpus: Path, steps: int) -> str:
    words = runs.command(corpus, Path("RUN"), f"trainer.max_steps={steps}", "model.train_ds.num_workers=1")
    words = [word.replace("=RUN", "=$exp/pretrain") for word in words[1:]]
    command = " ".join(f'"{word}"' for word in words)
    return (
        f'pretrain() {{ on_gpu "$exp/log/pretrain.log" python3 {command}; }}\n'
        'stage 3 pretrain out:"$exp/pretrain/final.nemo" -- pretrain\n'
    )


def wait_for_step(log: Path, step: int, total: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not (log.is_file() and f" step {step}/{total} " in log.read_text()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"step {step} never came"
        time.sleep(0.01)


def running_job(cluster: Cluster) -> str:
    [line] = [line for line in cluster.queue() if line.endswith(" RUNNING")]
    return line.split()[0]


def test_a_training_that_is_preempted_on_two_nodes_ends_with_the_same_weights(
    recipe: Stub, cluster: Cluster, tmp_path: Path
) -> None:
    """Once by the signal that comes before a time limit, once by Slurm itself taking the nodes away."""
    steps = 48
    recipe.write(pretrain(runs.make_corpus(tmp_path / "corpus"), steps))
    exp = recipe.recipe / "exp"
    status, output = run(recipe, cluster, "--tag", "whole")
    assert status == 0, output

    process = start(recipe, cluster, "--tag", "preempted")
    log = exp / "preempted" / "pretrain" / "train.log"
    wait_for_step(log, 4, steps, process)
    job = running_job(cluster)
    cluster.call("scancel", "--signal=USR1", job)  # what --signal=USR1@180 sends
    wait_for_step(log, 14, steps, process)
    cluster.call("scontrol", "requeue", job)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output

    text = log.read_text()
    assert "stopped by SIGUSR1 after step" in text and "stopped by SIGTERM after step" in text
    assert text.count("resumed from ") == 2
    assert text.count(f" step {steps}/{steps} ") == 2  # training and validation
    job_log = (exp / "preempted" / "log" / "pretrain.log").read_text()
    assert f"put back into the queue as job {job}" in job_log
    assert job_log.count("# Started again, requeued") == 2
    assert "ranks 2" in text
    whole, preempted = (runs.final_state(exp / tag / "pretrain") for tag in ("whole", "preempted"))
    runs.assert_same_bits(whole, preempted)


def test_ctrl_c_cancels_the_jobs(recipe: Stub, cluster: Cluster) -> None:
    recipe.write(
        'wait_long() { on_cpu JOB=1:3 "$data/log/wait.JOB.log" sleep 1000; }\n'
        'stage 1 wait at:"$data" -- wait_long\n'
    )
    process = start(recipe, cluster)
    deadline = time.monotonic() + PATIENCE_S
    while len([line for line in cluster.queue() if line.endswith("RUNNING")]) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, output
    assert cluster.queue() == []
    assert "stopped by SIGINT" in output
