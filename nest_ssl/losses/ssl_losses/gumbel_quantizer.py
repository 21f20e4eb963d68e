"""Learnt codebooks for contrastive targets: the Gumbel-softmax quantiser of wav2vec."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOG_GUARD = 1e-7  # keeps the logarithm of an unused code finite


class Quantized(NamedTuple):
    """vectors (B, T, vq_dim); diversity_loss, a scalar from 0 (all codes used alike) towards 1; ids (B, T)
    int64, the codes of all groups as one number, that of the first group counting most."""

    vectors: Tensor
    diversity_loss: Tensor
    ids: Tensor


class GumbelVectorQuantizer(nn.Module):
    """Choose one of `num_vars` learnt vectors in each of `groups` groups and lay them end to end.

    In training mode by Gumbel softmax with a straight-through gradient, whose temperature falls from
    temp[0] by a factor of temp[2] per update to temp[1]; otherwise the likeliest.  `combine_groups` lets all
    groups choose from the same vectors.
    Source: vq-wav2vec (arXiv 1910.05453), wav2vec 2.0 (arXiv 2006.11477), section 3.2.
    """

    def __init__(
        self,
        dim: int,
        num_vars: int,
        temp: tuple[float, float, float],
        groups: int,
        combine_groups: bool,
        vq_dim: int,
    ) -> None:
        super().__init__()
        if vq_dim % groups:
            raise ValueError(f"proj_dim: {vq_dim} does not divide into num_groups {groups}")
        self.groups, self.num_vars, self.combine_groups = groups, num_vars, combine_groups
        self.max_temp, self.min_temp, self.temp_decay = temp
        self.curr_temp = self.max_temp
        codes = num_vars if combine_groups else groups * num_vars
        self.vars = nn.Parameter(torch.empty(1, codes, vq_dim // groups))
        nn.init.uniform_(self.vars)
        self.weight_proj = nn.Linear(dim, groups * num_vars)
        nn.init.normal_(self.weight_proj.weight, mean=0.0, std=1.0)
        nn.init.zeros_(self.weight_proj.bias)

    def set_num_updates(self, num_updates: int) -> None:
        """Set the temperature for optimiser step `num_updates`, counted from 0."""
        self.curr_temp = max(self.max_temp * self.temp_decay**num_updates, self.min_temp)

    def forward(self, x: Tensor) -> Quantized:
        """x (B, T, dim) -> the chosen vectors, the loss for using few codes, and the codes' numbers."""
        batch, frames = x.shape[:2]
        logits = self.weight_proj(x.reshape(batch * frames, -1)).view(batch * frames * self.groups, -1)
        likeliest = logits.argmax(dim=-1)
        if self.training:
            choice = F.gumbel_softmax(logits.float(), tau=self.curr_temp, hard=True).type_as(logits)
        else:
            choice = F.one_hot(likeliest, self.num_vars).type_as(logits)
        codes = self.vars.expand(self.groups, -1, -1) if self.combine_groups else self.grouped_codes()
        chosen = torch.einsum("ngv,gvd->ngd", choice.view(-1, self.groups, self.num_vars), codes)
        ids = torch.zeros(batch, frames, dtype=torch.int64, device=x.device)
        for group in range(self.groups):
            ids = ids * self.num_vars + likeliest.view(batch, frames, self.groups)[..., group]
        return Quantized(chosen.reshape(batch, frames, -1), self._diversity_loss(logits), ids)

    def grouped_codes(self) -> Tensor:
        """Codes as (groups, num_vars, width); (1, num_vars, width) where the groups have them in common."""
        return self.vars.view(-1, self.num_vars, self.vars.shape[-1])

    def sample_from_codebook(self, count: int, frames: int) -> Tensor:
        """Random combinations of the groups' codes: (count, frames, vq_dim).

        Raises ValueError unless there are more combinations than `frames`, as NeMo does.
        """
        combinations = self.num_vars**self.groups
        if frames >= combinations:
            raise ValueError(
                f"sample_from_codebook: {frames} frames, but only {combinations} combinations of codes; "
                "a larger codebook_size is needed"
            )
        drawn = torch.randint(low=0, high=combinations, size=(count * frames,))
        codes = []
        for group in range(self.groups):
            number = drawn // self.num_vars ** (self.groups - 1 - group) % self.num_vars
            offset = 0 if self.combine_groups else group * self.num_vars
            codes.append((number + offset).to(self.vars.device))
        indices = torch.stack(codes, dim=-1).flatten()
        return self.vars.squeeze(0).index_select(0, indices).view(count, frames, -1)

    def _diversity_loss(self, logits: Tensor) -> Tensor:
        """1 - (perplexity of the average choice, summed over groups) / (codes of all groups)."""
        shares = logits.view(-1, self.groups, self.num_vars).float().softmax(dim=-1).mean(dim=0)
        perplexity = torch.exp(-(shares * (shares + LOG_GUARD).log()).sum(dim=-1)).sum()
        codes = self.num_vars * self.groups
        return (codes - perplexity) / codes
