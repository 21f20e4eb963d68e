"""Weights that are too large to be copied for a check are looked at where they lie."""

import pytest

from nest_ssl.bin.preflight import parse
from nest_ssl.bin.preflight_run import context_of
from nest_ssl.preflight.run import run_checks
from tests.preflight.planted import World


@pytest.fixture
def large_world(world, monkeypatch) -> World:
    monkeypatch.setattr("nest_ssl.bin.preflight_run.REAL_BYTES", 0)
    return world


def test_a_large_model_is_checked_without_memory_for_it(large_world):
    argv = [word for word in large_world.argv("++ctc_weight=0.3") if word != "--no-probe"]
    context = context_of(parse(argv))
    assert all(parameter.is_meta for parameter in context.model.parameters())
    report = run_checks(context)
    assert not report.errors, report.text()
    assert {"CTC.feasible", "P3.table", "RES.memory"} <= {finding.code for finding in report.findings}
    assert "--probe" in report.skipped["probe"]


def test_a_large_file_that_lacks_tensors_is_found(large_world):
    large_world.weights(lambda state: state.pop("audio_encoder.after_norm.bias"))
    (finding,) = [finding for finding in large_world.report().errors if finding.code == "P2.load"]
    assert "audio_encoder.after_norm.bias" in finding.what


def test_a_large_file_with_nan_is_found(large_world):
    large_world.weights(lambda state: state["audio_encoder.after_norm.bias"].fill_(float("nan")))
    (finding,) = [finding for finding in large_world.report().errors if finding.code == "P2.load"]
    assert "audio_encoder.after_norm.bias" in finding.what
