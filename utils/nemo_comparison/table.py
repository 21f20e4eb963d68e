"""The printed table, and the differences that it is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, where

# Tolerances: of activations; of losses (relative); of gradients, as a share of the largest one.
ACTIVATIONS, LOSS, GRADIENTS = 1e-5, 2e-6, 5e-5


class Table:
    """The printed rows; `differing` names those out of tolerance."""

    def __init__(self) -> None:
        self.differing: list[str] = []
        print(f"{'what':<66}{'difference':>12}{'tolerance':>11}")

    def row(self, what: str, difference: float, tolerance: float = 0.0, note: str = "") -> None:
        """One comparison; a difference that is not a number is out of any tolerance."""
        good = difference <= tolerance
        if not good:
            self.differing.append(what)
        verdict = "ok" if good else "DIFFERS"
        print(f"{what:<66}{difference:>12.2e}{tolerance:>11.0e}  {verdict} {note}".rstrip(), flush=True)


def difference_of(ours: Tensor, nemo: Tensor) -> float:
    """The largest absolute difference; NaN equals NaN; infinite for another shape or type."""
    if ours.shape != nemo.shape or ours.dtype != nemo.dtype:
        return math.inf
    if ours.numel() == 0:
        return 0.0
    ours, nemo = ours.detach().double(), nemo.detach().double()
    equal = (ours == nemo) | (ours.isnan() & nemo.isnan())
    return where(equal, 0.0, (ours - nemo).abs()).nan_to_num(nan=math.inf).max().item()


def state_difference(ours: dict[str, Tensor], nemo: dict[str, Tensor]) -> float:
    if ours.keys() != nemo.keys():
        return math.inf
    return max(difference_of(ours[name], value) for name, value in nemo.items())


def relative(ours: Sequence[float | None], nemo: Sequence[float]) -> float:
    """The largest relative difference of two series; infinite for other lengths, or where one has no number.

    A value that is not finite is None in our log.
    """
    if len(ours) != len(nemo) or not all(
        value is not None and math.isfinite(value) for value in (*ours, *nemo)
    ):
        return math.inf
    return max(abs(a / b - 1) for a, b in zip(ours, nemo, strict=True))  # type: ignore[operator]
