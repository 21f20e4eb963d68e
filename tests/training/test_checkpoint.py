from __future__ import annotations

import contextlib
import json
import resource
import signal

import pytest
import torch
from safetensors.torch import load_file

from nest_ssl.training.checkpoint import Checkpoints, Progress
from nest_ssl.training.options import CheckpointOptions
from tests.training.toy import ToyData, make_trainer


def save(trainer, step, loss=None):
    trainer.progress.step = step
    trainer.progress.metrics = {} if loss is None else {"val_loss": loss}
    return trainer.checkpoints.save(
        trainer.model, trainer.optimizer, trainer.progress, "", trainer.identity, loss is not None
    )


def names(trainer):
    return sorted(path.name for path in trainer.checkpoints.folder.iterdir())


def test_the_best_and_the_last_are_kept_under_nemos_names(tmp_path):
    options = {"filename": "NEST--{val_loss:.3f}-{step}", "auto_insert_metric_name": True, "save_top_k": 2}
    trainer = make_trainer(tmp_path, checkpoint=options)
    for step, loss in [(2, 4.9), (4, 4.7), (6, 4.8), (8, 5.5)]:
        save(trainer, step, loss)
    assert names(trainer) == [
        "NEST--val_loss=4.700-step=4",
        "NEST--val_loss=4.800-step=6",
        "NEST--val_loss=5.500-step=8-last",
    ]
    assert trainer.checkpoints.last().name == "NEST--val_loss=5.500-step=8-last"
    assert [value for value, _ in trainer.checkpoints.best()] == [4.7, 4.8]


def test_a_recipe_names_them_by_step(tmp_path):
    trainer = make_trainer(tmp_path)
    assert save(trainer, 25).name == "step-25-last"


def test_save_top_k_0_keeps_the_last_only_and_minus_1_keeps_all(tmp_path):
    for keep, count in ((0, 1), (-1, 4)):
        trainer = make_trainer(tmp_path / str(keep), checkpoint={"save_top_k": keep})
        for step in (1, 2, 3):
            save(trainer, step, 1.0 / step)
        assert len(names(trainer)) == count


def test_nothing_is_pickled_and_frozen_parameters_have_no_state(tmp_path):
    trainer = make_trainer(tmp_path, max_steps=2)
    trainer.fit(None)
    last = trainer.checkpoints.last()
    assert sorted(file.name for file in last.iterdir()) == [
        "config.yaml",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]
    moments = load_file(last / "optimizer.safetensors")
    assert "linear.weight/exp_avg" in moments
    assert not any(key.startswith("frozen") for key in moments)
    assert load_file(last / "model.safetensors")["frozen"].dtype == torch.float64


def test_what_a_killed_writer_left_is_removed_and_never_resumed_from(tmp_path):
    trainer = make_trainer(tmp_path)
    save(trainer, 1)
    for left in (".step-2-last.ab12cd34.tmp", ".step-1-last.ab12cd34.old"):
        folder = trainer.checkpoints.folder / left
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
    (trainer.checkpoints.folder / "a folder of somebody").mkdir()
    assert trainer.checkpoints.last().name == "step-1-last"
    trainer.checkpoints.prepare()
    assert names(trainer) == ["a folder of somebody", "step-1-last"]
    assert trainer.checkpoints.best() == []


def test_a_checkpoint_that_was_moved_aside_when_the_writer_died_comes_back(tmp_path):
    trainer = make_trainer(tmp_path)
    last = save(trainer, 1)
    content = (last / "state.json").read_text()
    last.rename(last.with_name(".step-1-last.ab12cd34.old"))  # the instant between the two renames
    assert trainer.checkpoints.last() is None
    trainer.checkpoints.prepare()
    assert (trainer.checkpoints.last() / "state.json").read_text() == content


def test_a_validation_that_gave_nan_is_never_the_best(tmp_path):
    trainer = make_trainer(tmp_path, checkpoint={"save_top_k": 1})
    for step, loss in [(1, 4.0), (2, float("nan")), (3, 5.0)]:
        save(trainer, step, loss)
    assert [path.name for _, path in trainer.checkpoints.best()] == ["step-1"]


def test_the_newest_of_two_last_ones_counts(tmp_path):
    """A run killed between writing the new one and removing the old one leaves both."""
    trainer = make_trainer(tmp_path)
    old = save(trainer, 9)
    moved = old.rename(tmp_path / "kept")
    save(trainer, 10)
    moved.rename(old)
    assert trainer.checkpoints.last().name == "step-10-last"


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_named(tmp_path, file):
    trainer = make_trainer(tmp_path, max_steps=2)
    trainer.fit(None)
    path = trainer.checkpoints.last() / file
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match=file.replace(".", r"\.")):
        make_trainer(tmp_path, max_steps=4).resume()


def test_another_architecture_is_refused_by_key(tmp_path):
    make_trainer(tmp_path, max_steps=1).fit(None)
    other = make_trainer(tmp_path, max_steps=2)
    other.model.linear = torch.nn.Linear(3, 5)
    with pytest.raises(ValueError, match=r"(?s)does not fit the configured model.*linear"):
        other.resume()


@contextlib.contextmanager
def file_size_limit(limit: int):
    """Writing beyond `limit` bytes fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, previous)


def test_a_full_disk_leaves_the_older_checkpoint_and_says_what_to_do(tmp_path):
    make_trainer(tmp_path, max_steps=1).fit(None)
    trainer = make_trainer(tmp_path, max_steps=2)
    trainer.resume()

    message = r"step 2 could not be written.*older checkpoints there are whole.*start the same command"
    with file_size_limit(1000), pytest.raises(OSError, match=message):
        trainer.fit(None)
    assert names(trainer) == ["step-1-last"]


def test_a_monitor_that_is_no_figure_is_refused(tmp_path):
    trainer = make_trainer(tmp_path, checkpoint={"monitor": "val_wer"}, validation=ToyData(1), max_steps=1)
    with pytest.raises(ValueError, match=r"monitor: 'val_wer' is not a figure of the validation \(val_loss"):
        trainer.fit(None)


def test_state_json_can_be_read_by_a_person(tmp_path):
    trainer = make_trainer(tmp_path, max_steps=3)
    trainer.fit(None)
    state = json.loads((trainer.checkpoints.last() / "state.json").read_text())
    assert Progress(**state["progress"]) == trainer.progress
    assert state["identity"] == {"seed": 0, "world_size": 1, "data": "toy 6"}


def test_an_empty_folder_has_no_last(tmp_path):
    assert Checkpoints(tmp_path / "none", "x", CheckpointOptions()).last() is None
