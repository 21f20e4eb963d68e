"""Sinusoids of positions, and the scaling and dropout of the encoder's input."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class PositionalEncoding(nn.Module):
    """Adds the sinusoids of the positions 0, 1, ... to the scaled input, then drops out.

    The table is computed when first needed, for at least `max_len` frames, and grows for longer inputs; it
    is neither a parameter nor a buffer, so it is not saved and not sent between ranks. Source: Attention Is
    All You Need (arXiv 1706.03762), section 3.5.
    """

    def __init__(
        self,
        d_model: int,
        dropout_rate: float,
        max_len: int,
        xscale: float | None,
        dropout_rate_emb: float = 0.0,
    ) -> None:
        super().__init__()
        self.d_model, self.max_len, self.xscale = d_model, max_len, xscale
        self.dropout = nn.Dropout(dropout_rate)
        self.dropout_emb = nn.Dropout(dropout_rate_emb)
        self._table: Tensor | None = None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, d_model) -> x scaled, positions added, dropped out; positions (1, T, d_model)."""
        positions = self.positions(x.shape[1], x.device)
        if not torch.is_autocast_enabled(x.device.type):
            positions = positions.to(x.dtype)
        return self.dropout(self._scaled(x) + positions), positions

    def positions(self, frames: int, device: torch.device) -> Tensor:
        """The sinusoids that inputs of `frames` frames need, after dropout; float32, first axis 1."""
        table = self._table
        if table is None or table.shape[1] < self._rows(frames) or table.device != device:
            table = self._table = self._make_table(frames, device)
        return self.dropout_emb(self._slice(table, frames))

    def _rows(self, frames: int) -> int:
        return frames

    def _make_table(self, frames: int, device: torch.device) -> Tensor:
        return sinusoids(0, max(frames, self.max_len), 1, self.d_model, device)

    def _slice(self, table: Tensor, frames: int) -> Tensor:
        return table[:, :frames]

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self.xscale is None else x * self.xscale


class RelPositionalEncoding(PositionalEncoding):
    """Scales and drops out the input; gives the sinusoids of the relative positions T-1 ... -(T-1).

    Source: Transformer-XL (arXiv 1901.02860), section 3.3.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, d_model) -> x scaled and dropped out, positions (1, 2 T - 1, d_model), T - 1 first."""
        positions = self.positions(x.shape[1], x.device)  # first, as in NeMo, for the draws of dropout
        return self.dropout(self._scaled(x)), positions

    def _rows(self, frames: int) -> int:
        return 2 * frames - 1

    def _make_table(self, frames: int, device: torch.device) -> Tensor:
        frames = max(frames, self.max_len)
        return sinusoids(frames - 1, -frames, -1, self.d_model, device)

    def _slice(self, table: Tensor, frames: int) -> Tensor:
        centre = table.shape[1] // 2
        return table[:, centre - frames + 1 : centre + frames]


class LocalAttRelPositionalEncoding(RelPositionalEncoding):
    """As RelPositionalEncoding, for the relative positions left ... -right of a window, whatever T is."""

    def __init__(
        self,
        att_context_size: Sequence[int],
        d_model: int,
        dropout_rate: float,
        xscale: float | None,
        dropout_rate_emb: float = 0.0,
    ) -> None:
        super().__init__(d_model, dropout_rate, 0, xscale, dropout_rate_emb)
        self.left_context, self.right_context = att_context_size

    def _rows(self, frames: int) -> int:
        return 0

    def _make_table(self, frames: int, device: torch.device) -> Tensor:
        return sinusoids(self.left_context, -self.right_context - 1, -1, self.d_model, device)

    def _slice(self, table: Tensor, frames: int) -> Tensor:
        return table


def sinusoids(start: int, stop: int, step: int, d_model: int, device: torch.device) -> Tensor:
    """(1, positions, d_model) float32: sin and cos in turn of the positions range(start, stop, step)."""
    with torch.inference_mode(False):  # a table made during inference serves training too
        positions = torch.arange(start, stop, step, dtype=torch.float32, device=device)[:, None]
        frequencies = torch.exp(
            torch.arange(0, d_model, 2, dtype=torch.float32, device=device) * -(math.log(10000.0) / d_model)
        )
        angles = positions * frequencies
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[None]
