from __future__ import annotations

import copy
import os
import signal

import pytest
import torch

from nest_ssl.training.loop import NonFiniteLoss, Stopped
from tests.training.toy import Messages, ToyData, ToyModel, make_trainer


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def fit(trainer):
    log = Messages()
    trainer.fit(log)
    return log


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("stop_at", [1, 3, 5, 7])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, accumulate, stop_at):
    options = {"max_steps": 9, "accumulate_grad_batches": accumulate}
    straight = make_trainer(tmp_path / "straight", ToyModel(noise=0.3), **options)
    fit(straight)
    first = make_trainer(tmp_path / "broken", ToyModel(noise=0.3), **{**options, "max_steps": stop_at})
    fit(first)
    data = ToyData()
    second = make_trainer(tmp_path / "broken", ToyModel(noise=0.3), data, **options)
    path = second.resume()
    assert path is not None and path.name == f"step-{stop_at}-last"
    epoch, batches = second.progress.epoch, second.progress.batches
    fit(second)
    assert data.served[0] == (epoch, batches), "a resume must not read what was read"
    assert equal(weights(straight.model), weights(second.model))
    assert second.progress.hours_seen == straight.progress.hours_seen
    one, other = straight.optimizer.state_dict()["state"], second.optimizer.state_dict()["state"]
    assert one.keys() == other.keys()
    assert all(torch.equal(one[index][key], other[index][key]) for index in one for key in one[index])


def test_accumulated_micro_batches_weigh_every_frame_alike(tmp_path):
    """One step over four micro-batches equals one step over their frames in one batch (no BatchNorm)."""
    data = ToyData(count=4)
    trainer = make_trainer(tmp_path, ToyModel(norm=False), data, max_steps=1, accumulate_grad_batches=4)
    reference = copy.deepcopy(trainer.model)
    fit(trainer)
    frames = torch.cat([data.batch(0, number).x for number in range(4)])
    error = reference.out(reference.linear(frames)).squeeze(1) - frames.mean(dim=1)
    optimizer = torch.optim.AdamW(reference.parameters(), lr=0.01)
    error.square().mean().backward()
    optimizer.step()
    for got, wanted in zip(trainer.model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)


def test_nemo_weighting_averages_the_means_of_micro_batches(tmp_path):
    data = ToyData(count=3)
    trainer = make_trainer(
        tmp_path, ToyModel(norm=False), data, max_steps=1, accumulate_grad_batches=3, loss_weighting="nemo"
    )
    reference = copy.deepcopy(trainer.model)
    log = fit(trainer)
    means = []
    for number in range(3):
        x = data.batch(0, number).x
        means.append((reference.out(reference.linear(x)).squeeze(1) - x.mean(dim=1)).square().mean())
    loss = sum(means) / 3
    loss.backward()
    torch.optim.AdamW(reference.parameters(), lr=0.01).step()
    assert log.rows[0]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    for got, wanted in zip(trainer.model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)


def test_the_last_accumulation_of_an_epoch_may_be_smaller(tmp_path):
    trainer = make_trainer(
        tmp_path, data=ToyData(count=5), max_steps=-1, max_epochs=2, accumulate_grad_batches=2
    )
    fit(trainer)
    assert trainer.progress.step == 6  # 2 + 2 + 1 micro-batches, twice
    assert (trainer.progress.epoch, trainer.progress.batches) == (2, 0)


def test_gradients_are_clipped_to_the_given_norm(tmp_path):
    trainer = make_trainer(tmp_path, ToyModel(norm=False), max_steps=1, gradient_clip_val=0.01)
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=1.0)
    trainer.schedules = [lambda step: 1.0]
    before = [p.clone() for p in trainer.model.parameters()]
    log = fit(trainer)
    moved = torch.cat([(a - b).flatten() for a, b in zip(before, trainer.model.parameters(), strict=True)])
    assert log.rows[0]["grad_norm"] > 0.01
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-4)


def test_a_non_finite_step_is_skipped_and_leaves_no_trace(tmp_path):
    trainer = make_trainer(tmp_path, data=ToyData(poison=(2,)), max_steps=2)
    fit(trainer)
    before, moments = weights(trainer.model), copy.deepcopy(trainer.optimizer.state_dict()["state"])
    trainer = make_trainer(tmp_path, data=ToyData(poison=(2,)), max_steps=3)
    trainer.resume()
    log = fit(trainer)
    assert equal(weights(trainer.model), before), "neither weights nor BatchNorm statistics may change"
    for index, state in trainer.optimizer.state_dict()["state"].items():
        assert all(torch.equal(state[key], moments[index][key]) for key in state)
    assert trainer.progress.skipped_steps == 1
    assert any("step 3 skipped" in text and "utt-0-2-0" in text for text in log.messages)


def test_too_many_non_finite_steps_in_a_row_end_the_run(tmp_path):
    trainer = make_trainer(tmp_path, data=ToyData(poison=(1, 3, 4, 5)), max_nonfinite_steps=3)
    with pytest.raises(NonFiniteLoss, match="3 steps in a row"):
        trainer.fit(Messages())
    assert trainer.progress.skipped_steps == 4  # the first one was followed by a good step


def test_a_batch_without_counted_frames_teaches_nothing(tmp_path):
    class NothingMasked(ToyModel):
        def training_loss(self, batch):
            loss, weight, stats = super().training_loss(batch)
            return loss * 0, weight * 0, stats

    trainer = make_trainer(tmp_path, NothingMasked(norm=False), max_steps=2)
    before = weights(trainer.model)
    log = fit(trainer)
    assert equal(weights(trainer.model), before)
    assert any("nothing was masked" in text for text in log.messages)


def test_a_signal_saves_and_stops_and_the_rest_is_exact(tmp_path):
    straight = make_trainer(tmp_path / "straight", ToyModel(noise=0.3))
    fit(straight)

    class Signalled(ToyData):
        def batch(self, epoch, number):
            if (epoch, number) == (0, 3):
                os.kill(os.getpid(), signal.SIGTERM)
            return super().batch(epoch, number)

    stopped = make_trainer(tmp_path / "stopped", ToyModel(noise=0.3), Signalled())
    with pytest.raises(Stopped) as caught:
        stopped.fit(Messages())
    assert caught.value.status == 128 + signal.SIGTERM
    assert stopped.progress.step == 4
    rest = make_trainer(tmp_path / "stopped", ToyModel(noise=0.3))
    assert rest.resume() is not None
    fit(rest)
    assert equal(weights(straight.model), weights(rest.model))


def test_a_finished_run_does_nothing(tmp_path):
    fit(make_trainer(tmp_path, max_steps=3))
    data = ToyData()
    again = make_trainer(tmp_path, data=data, max_steps=3)
    again.resume()
    log = fit(again)
    assert not data.served
    assert "nothing to do" in log.messages[0]


def test_a_run_that_died_before_its_last_validation_makes_up_for_it(tmp_path):
    options = {"max_steps": 4, "checkpoint": {"every_n_train_steps": 2}}
    dying = make_trainer(tmp_path, validation=ToyData(2), **options)
    dying.validate = lambda: (_ for _ in ()).throw(RuntimeError("killed"))
    with pytest.raises(RuntimeError, match="killed"):
        dying.fit(Messages())
    again = make_trainer(tmp_path, validation=ToyData(2), **options)
    again.resume()
    assert again.progress.step == 4
    log = fit(again)
    assert [row["step"] for row in log.validations] == [4]
    assert "val_loss" in again.progress.metrics
    assert again.checkpoints.best()


def test_another_seed_or_world_size_starts_the_epoch_over_and_says_so(tmp_path):
    fit(make_trainer(tmp_path, max_steps=4))
    data = ToyData()
    other = make_trainer(tmp_path, data=data, max_steps=6, seed=1)
    other.resume()
    assert "seed changed" in other.resume_note
    fit(other)
    assert data.served[0] == (0, 0)


@pytest.mark.parametrize(
    ("interval", "accumulate", "expected"),
    [(1.0, 1, [6, 8]), (0.5, 1, [3, 6, 8]), (4, 1, [4, 8]), (4, 3, [2, 3]), (7, 1, [7, 8])],
)
def test_validation_comes_at_the_interval_and_at_the_end(tmp_path, interval, accumulate, expected):
    """Intervals count micro-batches; a validation waits for the step to be complete; 6 batches are an
    epoch."""
    steps = 8 if accumulate == 1 else 3
    trainer = make_trainer(
        tmp_path,
        validation=ToyData(2),
        val_check_interval=interval,
        accumulate_grad_batches=accumulate,
        max_steps=steps,
    )
    log = fit(trainer)
    assert [row["step"] for row in log.validations] == expected


def test_a_whole_sanity_validation_is_logged_at_step_0_and_not_repeated_on_resume(tmp_path):
    options = {"num_sanity_val_steps": -1, "val_check_interval": 2}
    first = make_trainer(tmp_path, ToyModel(noise=0.3), validation=ToyData(3), max_steps=3, **options)
    expected = first.validate()
    log = fit(first)
    assert [row["step"] for row in log.validations] == [0, 2, 3]
    assert {key: log.validations[0][key] for key in expected} == expected
    second = make_trainer(tmp_path, ToyModel(noise=0.3), validation=ToyData(3), max_steps=5, **options)
    assert second.resume() is not None
    assert [row["step"] for row in fit(second).validations] == [5]
    plain = make_trainer(
        tmp_path / "plain", ToyModel(noise=0.3), validation=ToyData(3), max_steps=5, val_check_interval=2
    )
    fit(plain)
    assert equal(weights(plain.model), weights(second.model)), "looking on must not change the training"
    assert plain.progress.without_gain == second.progress.without_gain


def test_a_few_sanity_batches_are_read_and_not_logged(tmp_path):
    validation = ToyData(3)
    trainer = make_trainer(tmp_path, validation=validation, max_steps=1, num_sanity_val_steps=2)
    log = fit(trainer)
    assert [row["step"] for row in log.validations] == [1]
    assert validation.served == [(0, 0), (0, 1), (0, 2), (0, 0), (0, 1), (0, 2)]


def test_a_monitored_figure_that_is_none_is_said_before_the_first_step(tmp_path):
    trainer = make_trainer(
        tmp_path, validation=ToyData(2), num_sanity_val_steps=1, checkpoint={"monitor": "val_wer"}
    )
    with pytest.raises(ValueError, match=r"monitor: 'val_wer' is not a figure of the validation \(val_loss"):
        fit(trainer)
    assert trainer.progress.step == 0


def test_validation_is_the_same_whatever_was_trained_before(tmp_path):
    model = ToyModel(noise=0.5)
    trainer = make_trainer(tmp_path, model, validation=ToyData(2), max_steps=1)
    first = trainer.validate()
    torch.manual_seed(99)
    assert trainer.validate() == first
    assert not model.training


def test_the_loss_in_the_log_is_the_mean_over_frames_since_the_last_line(tmp_path):
    model, data = ToyModel(norm=False), ToyData(count=4)
    trainer = make_trainer(tmp_path, model, data, max_steps=4, log_every_n_steps=4, lr=0.0)
    total, frames = 0.0, 0
    for number in range(4):
        loss, weight, _ = model.training_loss(data.batch(0, number))
        total, frames = total + loss.item(), frames + int(weight)
    log = fit(trainer)
    assert len(log.rows) == 1
    assert log.rows[0]["loss"] == pytest.approx(total / frames, rel=1e-5)
    assert log.rows[0]["hours_seen"] == pytest.approx(4 * 1.5 / 3600)
    assert list(log.rows[0]) == [
        "step",
        "max_steps",
        "epoch",
        "batch",
        "epoch_batches",
        "loss",
        "lr",
        "grad_norm",
        "hours_seen",
        "audio_s/s",
        "mem_gb",
        "eta",
        "frames",
    ]
