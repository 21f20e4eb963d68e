"""utils/compare_with_funasr.py without FunASR: what it says about arguments, and that FunASR is missing."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from tests.fun_asr_tiny import make_corpus, make_model_dir

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "utils" / "compare_with_funasr.py"


@pytest.fixture
def script(monkeypatch):
    """The script as a module, in a Python that cannot import FunASR."""
    monkeypatch.setitem(sys.modules, "funasr", None)
    spec = importlib.util.spec_from_file_location("compare_with_funasr", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_funasr_it_says_how_to_get_it(script, tmp_path, capsys):
    model, corpus = make_model_dir(tmp_path / "model"), make_corpus(tmp_path / "data", 1)
    assert script.main([str(model), str(corpus.jsonl)]) == 2
    error = capsys.readouterr().err
    assert "FunASR cannot be imported" in error
    assert "pip install funasr" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([".", ".", "--parts", "weights,colour"], "'colour' is not one of weights, batch"),
        ([".", ".", "--rows", "0"], "--rows: at least 1"),
        (["nowhere", "."], "nowhere does not exist"),
    ],
)
def test_mistakes_are_named_before_funasr_is_loaded(script, arguments, message):
    with pytest.raises((ValueError, OSError), match=message):
        script.main(arguments)


def test_padding_is_not_compared_and_other_shapes_are_infinitely_far(script):
    from funasr_comparison.comparisons import valid_difference

    ours, theirs = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)
    ours[1, 2] = 1.0
    assert valid_difference(ours, theirs, torch.tensor([3, 2])) == 0.0
    assert valid_difference(ours, theirs, torch.tensor([3, 3])) == 1.0
    assert valid_difference(ours[:, :2], theirs, torch.tensor([2, 2])) == float("inf")
