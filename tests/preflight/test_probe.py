"""The probe: it runs the model forward and backward, and leaves no trace."""

import torch

from nest_ssl.bin.preflight import parse
from nest_ssl.bin.preflight_run import context_of
from nest_ssl.preflight.run import run_checks


def test_the_probe_leaves_weights_gradients_mode_and_random_state_alone(conformer_world):
    argv = [word for word in conformer_world.argv("++ctc_weight=0.3") if word != "--no-probe"]
    context = context_of(parse(argv))
    model = context.model
    assert any("running_mean" in name for name, _ in model.named_buffers())  # which training mode would move
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    random_state = torch.get_rng_state()
    report = run_checks(context)
    probed = [finding for finding in report.findings if finding.code == "P1.probe"]
    assert [finding.level for finding in probed] == ["note", "note"], report.text()
    after = model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random_state)


def test_the_probe_takes_the_longest_and_an_odd_row(world):
    argv = [word for word in world.argv() if word != "--no-probe"]
    context = context_of(parse(argv))
    seen = []
    context.probe = lambda rows: seen.extend(rows) or 1.0
    run_checks(context)
    longest, odd = seen
    assert context.frames(longest) == max(row["speech_length"] for row in world.rows())
    assert context.encoder_frames(context.frames(odd)) % 2 == 1


def test_swapped_axes_end_in_their_own_message(world):
    argv = [word for word in world.argv() if word != "--no-probe"]
    context = context_of(parse(argv))
    encode = context.model.encode
    context.model.encode = lambda speech, lengths: encode(speech.transpose(1, 2), lengths)
    said = [finding for finding in run_checks(context).errors if finding.code == "P1.probe"]
    assert said and "(B, 560, T) in place of (B, T, 560)" in said[0].cause


def test_a_loss_that_is_no_number_stops(world):
    context = context_of(parse([word for word in world.argv() if word != "--no-probe"]))
    context.probe = lambda rows: float("nan")
    assert [finding.code for finding in run_checks(context).errors] == ["P1.probe", "P1.probe"]


def test_a_large_model_on_a_cpu_is_not_probed(world, monkeypatch):
    monkeypatch.setattr("nest_ssl.preflight.probe.SMALL", 10)
    context = context_of(parse([word for word in world.argv() if word != "--no-probe"]))
    assert "--probe" in run_checks(context).skipped["probe"]
