"""A run that is killed with SIGKILL, wherever, and started again ends with the bits of one that was not."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.resume.runs import (
    assert_same_bits,
    final_state,
    finish,
    kill_group,
    make_corpus,
    start,
    steps_done,
    wait_for_step,
)

STEPS = 14
TELEPHONE = ["++model.train_ds.telephone.mix=china", "++model.train_ds.telephone.prob=0.7"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("kill") / "corpus")


def setting(workers: int, ranks: int, accumulate: int) -> list[str]:
    return [
        f"trainer.max_steps={STEPS}",
        f"model.train_ds.num_workers={workers}",
        f"trainer.devices={ranks}",
        f"trainer.accumulate_grad_batches={accumulate}",
    ]


slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("workers", "ranks", "accumulate", "kills"),
    [
        (0, 1, 1, (8,)),
        (2, 1, 3, (5,)),
        (1, 2, 2, (7,)),
        pytest.param(1, 1, 1, (1, 4, 12), marks=slow),
        pytest.param(2, 1, 1, (3, 9, 13), marks=slow),
        pytest.param(0, 2, 1, (4, 10), marks=slow),
        pytest.param(0, 2, 3, (6,), marks=slow),
        pytest.param(2, 2, 1, (2, 11), marks=slow),
        pytest.param(0, 3, 1, (7,), marks=slow),
    ],
)
def test_a_killed_run_ends_with_the_same_bits(corpus, tmp_path, workers, ranks, accumulate, kills):
    options = setting(workers, ranks, accumulate)
    if workers == 1:  # telephone channels drawn on the fly must be the same, too
        options += TELEPHONE
    finish(corpus, tmp_path / "straight", *options)
    for step in kills:
        process = start(corpus, tmp_path / "killed", *options, hold=STEPS)
        wait_for_step(tmp_path / "killed", step, process)
        kill_group(process)
        assert step <= steps_done(tmp_path / "killed") < STEPS
    printed = finish(corpus, tmp_path / "killed", *options)
    if kills[-1] > 4:
        assert "resumed from" in printed
    assert_same_bits(final_state(tmp_path / "straight"), final_state(tmp_path / "killed"))
    rows = [json.loads(line) for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "train"] == list(range(1, STEPS + 1))


@slow
def test_the_number_of_workers_changes_no_bit(corpus, tmp_path):
    for workers in (0, 2):
        finish(corpus, tmp_path / str(workers), *setting(workers, 1, 1), "trainer.max_steps=6")
    assert_same_bits(final_state(tmp_path / "0"), final_state(tmp_path / "2"))


@pytest.mark.parametrize(
    ("ranks", "number"),
    [
        (1, signal.SIGTERM),
        pytest.param(2, signal.SIGTERM, marks=slow),
        (2, signal.SIGINT),
        pytest.param(1, signal.SIGINT, marks=slow),
    ],
)
def test_a_signal_saves_exits_with_its_status_and_the_rest_is_exact(corpus, tmp_path, ranks, number):
    options = [*setting(1, ranks, 1), "exp_manager.checkpoint_callback_params.every_n_train_steps=1000"]
    finish(corpus, tmp_path / "straight", *options)
    process = start(corpus, tmp_path / "stopped", *options, hold=10)
    wait_for_step(tmp_path / "stopped", 4, process)
    os.killpg(process.pid, number)  # the whole group, as a terminal and the recipe layer do
    output, _ = process.communicate(timeout=480)
    assert process.returncode == 128 + number, output
    assert "stopped by SIG" in output
    assert "Traceback" not in output
    finish(corpus, tmp_path / "stopped", *options)
    assert_same_bits(final_state(tmp_path / "straight"), final_state(tmp_path / "stopped"))


def test_a_run_killed_while_it_saves_goes_on_from_the_checkpoint_before(corpus, tmp_path):
    """What a writer killed half-way leaves behind is neither resumed from nor kept."""
    options = setting(0, 1, 1)
    finish(corpus, tmp_path / "straight", *options)
    finish(corpus, tmp_path / "broken", *options, "trainer.max_steps=9")
    folder = tmp_path / "broken" / "checkpoints"
    last = next(folder.glob("*-last"))
    half = folder / f".{last.name}.0123abcd.tmp"
    half.mkdir()
    (half / "model.safetensors").write_bytes((last / "model.safetensors").read_bytes()[:100])
    finish(corpus, tmp_path / "broken", *options)
    assert not list(folder.glob(".*"))
    assert_same_bits(final_state(tmp_path / "straight"), final_state(tmp_path / "broken"))


def test_a_run_whose_main_process_alone_was_killed_can_go_on_at_once(corpus, tmp_path):
    """The out-of-memory killer takes one process; its workers must not keep the directory locked."""
    options = setting(2, 1, 1)
    process = start(corpus, tmp_path / "run", *options, hold=10)
    wait_for_step(tmp_path / "run", 4, process)
    process.kill()
    process.wait()
    finish(corpus, tmp_path / "run", *options)


def test_the_same_command_again_does_nothing(corpus, tmp_path):
    options = [*setting(0, 1, 1), "trainer.max_steps=3"]
    finish(corpus, tmp_path / "run", *options)
    state = final_state(tmp_path / "run")
    assert "nothing to do" in finish(corpus, tmp_path / "run", *options)
    assert_same_bits(state, final_state(tmp_path / "run"))
