"""A second sub-sampling, within the stack of layers or behind it."""

from __future__ import annotations

from torch import Tensor, nn

from nest_ssl.modules.subsampling import ConvSubsampling


class SubsamplingReductionModule(nn.Module):
    """Keep one of `reduction_factor` frames: "pooling", their maximum, or "striding", convolutions."""

    def __init__(self, reduction: str, d_model: int, reduction_factor: int = 2) -> None:
        super().__init__()
        if reduction not in ("pooling", "striding"):
            raise ValueError(f"reduction: {reduction!r}; use pooling, striding or null")
        self.reduction, self.reduction_factor = reduction, reduction_factor
        self.reduction_enc: nn.Module
        if reduction == "pooling":
            self.reduction_enc = nn.MaxPool1d(reduction_factor)
        else:
            if reduction_factor & (reduction_factor - 1):
                raise ValueError(f"reduction_factor: {reduction_factor}; striding needs 2, 4, 8, ...")
            self.reduction_enc = ConvSubsampling("striding", reduction_factor, d_model, d_model, d_model)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, d_model), lengths (B,) int64 -> (B, T', d_model), lengths' (B,) int64.

        As in NeMo, pooling divides the lengths log2(factor) times by the factor, which is once for 2 and
        3: with larger factors some valid frames then count as padding.
        """
        if self.reduction == "striding":
            return self.reduction_enc(x, lengths)
        for _ in range(self.reduction_factor.bit_length() - 1):
            lengths = lengths // self.reduction_factor
        return self.reduction_enc(x.transpose(1, 2)).transpose(1, 2), lengths
