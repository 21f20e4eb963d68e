"""Loading weights with an account of every key."""

import pytest
import torch
from torch import nn

from nest_ssl.checkpoints.state import load_state, portable_state


def model():
    return nn.ModuleDict({"encoder": nn.Linear(3, 2), "ctc": nn.Linear(2, 4)})


def test_everything_is_loaded_and_counted():
    source, target = model(), model()
    account = load_state(target, source.state_dict(), "here")
    assert (len(account.loaded), account.missing, account.unexpected) == (4, (), ())
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))


def test_a_named_set_may_be_missing():
    state = {key: value for key, value in model().state_dict().items() if not key.startswith("ctc")}
    account = load_state(model(), state, "here", allowed_missing=("ctc",))
    assert account.missing == ("ctc.weight", "ctc.bias")
    with pytest.raises(ValueError, match=r"here does not fit .*loaded 2 missing 2 unexpected 0.*ctc\.weight"):
        load_state(model(), state, "here", allowed_missing=("decoder",))


def test_a_named_set_may_be_left_over():
    state = {**model().state_dict(), "adaptor.bias": torch.zeros(1)}
    assert load_state(model(), state, "here", allowed_unexpected=("adaptor",)).unexpected == ("adaptor.bias",)
    with pytest.raises(ValueError, match=r"1 unexpected: adaptor\.bias"):
        load_state(model(), state, "here")


def test_nothing_is_copied_when_something_does_not_fit():
    target = model()
    before = {key: value.clone() for key, value in target.state_dict().items()}
    state = {**model().state_dict(), "ctc.bias": torch.zeros(5)}
    with pytest.raises(ValueError, match=r"ctc\.bias \(5,\) instead of \(4,\)"):
        load_state(target, state, "here")
    assert all(torch.equal(before[key], value) for key, value in target.state_dict().items())


def test_long_lists_are_cut_and_counted():
    with pytest.raises(ValueError, match="7 unexpected: a0, a1, a2, a3, a4 and 2 more"):
        load_state(nn.Identity(), {f"a{i}": torch.zeros(1) for i in range(7)}, "here")


def test_portable_state_holds_no_more_than_its_tensors():
    module = nn.Linear(4, 4)
    module.weight = nn.Parameter(torch.zeros(100, 4)[:4])
    state = portable_state(module)
    assert state["weight"].untyped_storage().nbytes() == 4 * 4 * 4
