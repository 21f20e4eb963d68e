"""utils/compare_with_nemo.py without NeMo: what it says about arguments, and that NeMo is missing."""

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "utils" / "compare_with_nemo.py"


@pytest.fixture
def script(monkeypatch):
    """The script as a module, in a Python that cannot import NeMo."""
    monkeypatch.setitem(sys.modules, "nemo", None)
    spec = importlib.util.spec_from_file_location("compare_with_nemo", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_nemo_it_says_how_to_get_it(script, capsys):
    assert script.main([]) == 2
    error = capsys.readouterr().err
    assert "NeMo cannot be imported by" in error
    assert "pip install 'nemo_toolkit[asr]'" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parts", "weights,lengths"], "'lengths' is not one of weights, archives"),
        (["--steps", "0"], "--steps: at least 1"),
        (["--pairs", "-3"], "--pairs: at least 1"),
        (["--frames", "0"], "--frames: at least 1"),
        (["model.encoder.n_layer=2"], "n_layer"),
        (["--config", "missing.yaml"], "missing.yaml"),
    ],
)
def test_mistakes_are_named_before_nemo_is_loaded(script, arguments, message):
    with pytest.raises((ValueError, OSError), match=message):
        script.main(arguments)


def test_a_refusal_ends_in_one_line():
    result = subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT), "--parts", "nothing"], capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "'nothing' is not one of" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_names_the_parts(script, capsys):
    with pytest.raises(SystemExit) as stopped:
        script.main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert [part for part in script.PARTS if part not in text] == []


def test_a_table_counts_what_is_out_of_tolerance(script):
    table = script.Table()
    table.row("equal", 0.0)
    table.row("close", 1e-6, 1e-5)
    table.row("far", 2e-5, 1e-5)
    table.row("no number", float("nan"), 1.0)
    assert table.differing == ["far", "no number"]


def test_modules_are_compared_at_valid_frames_only(script):
    layers = importlib.import_module("nemo_comparison.layers")
    expected = torch.randn(2, 3, 8)
    found = expected.clone()
    found[0, :, 5:] += 1.0
    assert layers.worst_of([found], [expected], {8: torch.tensor([5, 8])}) == 0.0
    assert layers.worst_of([found.transpose(1, 2)], [expected], {8: torch.tensor([5, 8])}) == 0.0
    assert layers.worst_of([found], [expected], {8: torch.tensor([6, 8])}) == pytest.approx(1.0, rel=0.8)
    assert layers.worst_of([found], [expected], {}) > 0.1


def test_outputs_of_modules_are_recorded_by_name(script):
    layers = importlib.import_module("nemo_comparison.layers")
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
    with layers.recorded(model) as outputs:
        model(torch.ones(1, 2))
    assert {name: [tuple(t.shape) for t in found] for name, found in outputs.items()} == {
        "0": [(1, 3)],
        "1": [(1, 3)],
    }
    assert not model[0]._forward_hooks


def test_difference_of_tensors(script):
    table = importlib.import_module("nemo_comparison.table")
    nan, inf = float("nan"), float("inf")
    one = torch.tensor([1.0, nan, inf])
    assert table.difference_of(one, one.clone()) == 0.0
    assert table.difference_of(one, torch.tensor([1.5, nan, inf])) == 0.5
    assert table.difference_of(one, torch.tensor([1.0, 0.0, inf])) == inf
    assert table.difference_of(one, one.double()) == inf
    assert table.difference_of(one, one[:2]) == inf
