"""The run ends when the monitored figure stops getting better, and a resume knows how long it has not."""

from __future__ import annotations

import pytest

from nest_ssl.training.checkpoint import Progress
from tests.training.toy import Messages, ToyData, ToyModel, make_trainer


def trainer_with(figures: list[float], tmp_path, **options):
    """A trainer whose validations give `figures`, in order."""
    options |= {"max_steps": len(figures), "val_check_interval": 1, "check_val_every_n_epoch": None}
    trainer = make_trainer(tmp_path, ToyModel(), validation=ToyData(), **options)
    trainer.validate = lambda limit=-1: {"val_loss": figures[trainer.progress.step - 1]}
    return trainer


def test_it_ends_after_as_many_validations_without_gain(tmp_path):
    trainer = trainer_with([5, 4, 4.5, 4.2, 3, 2], tmp_path, early_stop_patience=2)
    log = Messages()
    progress = trainer.fit(log)
    assert (progress.step, progress.best, progress.without_gain) == (4, 4, 2)
    assert progress.stopped_early
    again = trainer_with([5, 4, 4.5, 4.2, 3, 2], tmp_path, early_stop_patience=2)
    again.resume()
    assert again.finished
    assert again.fit(None).step == 4


def test_a_resume_counts_on_and_more_patience_goes_on(tmp_path):
    figures = [5, 4, 4.5, 4.2, 4.1, 2]
    first = trainer_with(figures, tmp_path, early_stop_patience=2)
    assert first.fit(None).step == 4
    second = trainer_with(figures, tmp_path, early_stop_patience=4)
    second.resume()
    assert (second.progress.best, second.progress.without_gain) == (4, 2)
    assert not second.finished
    assert second.fit(None).step == 6
    assert second.progress.best == 2


def test_without_patience_it_goes_on_and_nan_is_no_gain(tmp_path):
    progress = trainer_with([1, float("nan"), 2, 3], tmp_path).fit(None)
    assert (progress.step, progress.best, progress.without_gain) == (4, 1, 3)


@pytest.mark.parametrize(("mode", "best"), [("min", 1.0), ("max", 3.0)])
def test_better_is_lower_or_higher_as_the_mode_says(tmp_path, mode, best):
    checkpoints = make_trainer(tmp_path, ToyModel(), max_steps=1).checkpoints
    object.__setattr__(checkpoints.options, "mode", mode)
    progress = Progress()
    for value in (2.0, 1.0, 3.0):
        progress.metrics = {checkpoints.options.monitor: value}
        checkpoints.note_validation(progress)
    assert progress.best == best
