"""Dropout of the layers, against its definition."""

import pytest
import torch

from nest_ssl.modules.conformer_modules import Dropout


@pytest.mark.parametrize(("p", "dtype"), [(0.1, torch.float32), (0.5, torch.float64), (0.25, torch.bfloat16)])
def test_a_share_is_zero_and_the_rest_is_scaled(p, dtype):
    torch.manual_seed(0)
    x = torch.ones(333, 301, dtype=dtype, requires_grad=True)
    y = Dropout(p)(x)
    y.sum().backward()
    dropped = y == 0
    assert dropped.double().mean().item() == pytest.approx(p, abs=5 * (p * (1 - p) / x.numel()) ** 0.5)
    torch.testing.assert_close(y[~dropped], torch.full_like(y[~dropped], 1 / (1 - p)))
    assert torch.equal(x.grad, y)
    neighbours = (dropped[:, 1:] & dropped[:, :-1]).double().mean().item()  # independent of each other
    assert neighbours == pytest.approx(p * p, abs=0.005)


def test_a_seed_repeats_it():
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(Dropout(0.3)(torch.ones(7, 5)))
    assert torch.equal(*results)
    assert not torch.equal(results[0], Dropout(0.3)(torch.ones(7, 5)))


@pytest.mark.parametrize(
    ("p", "training", "expected"), [(0.0, True, 1.0), (1.0, True, 0.0), (0.5, False, 1.0)]
)
def test_nothing_all_and_evaluation(p, training, expected):
    x = torch.ones(3, 5)
    assert torch.equal(Dropout(p).train(training)(x), torch.full((3, 5), expected))
