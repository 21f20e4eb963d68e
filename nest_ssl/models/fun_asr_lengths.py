"""How many frames and tokens features become, without the model: small enough to be sent to data workers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LONGEST = 400_000  # frames of features; over an hour of 10-ms frames


class LengthTable:
    """A function of lengths as a table, made from the model's own; picklable."""

    def __init__(self, function: Callable[[Tensor], Tensor], longest: int = LONGEST):
        """function: (N,) int64 to (N,) whole numbers, of lengths from 1 to `longest`."""
        counts = function(torch.arange(1, longest + 1)).to(torch.int32)
        self.table = torch.cat([torch.zeros(1, dtype=torch.int32), counts])

    def __call__(self, lengths: Tensor) -> Tensor:
        """(N,) lengths -> (N,) int64; ValueError for a length beyond the table."""
        index = torch.as_tensor(lengths).long()
        if index.numel() and int(index.max()) >= len(self.table):
            raise ValueError(
                f"an audio of {int(index.max())} frames is longer than {len(self.table) - 1}; cut it, or "
                "leave it out with dataset_conf.max_source_length"
            )
        return self.table[index].long()
