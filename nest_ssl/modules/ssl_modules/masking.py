"""Which frames the encoder has to guess: random blocks replaced by one embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SHORT_ITEM_BLOCK = 8  # frames masked, from the first on, of an item that is too short for one block


class RandomBlockMasking(nn.Module):
    """Replace random blocks of frames by a fixed embedding, in NeMo 2.x's order of random draws.

    `allow_overlap` true: every frame starts a block with probability `mask_prob`; false: about `mask_prob`
    of an item is masked by blocks side by side.  `block_size` is in frames; an item whose block would reach
    `max_mask_ratio` of it gets its first 8 frames masked.  The embedding (`mask_value` None: normal noise
    of deviation 0.1, else that constant) is trained only if `freeze` is false and `mask_value` is None.

    The draws come from torch's global CPU generator whatever the device, one item after the other, so that
    torch.manual_seed gives NeMo's masks; the lengths are copied to the host once per batch.
    Source: BEST-RQ (arXiv 2202.01855), section 3.1; NEST (arXiv 2408.13106).
    """

    def __init__(
        self,
        feat_in: int,
        mask_prob: float = 0.5,
        block_size: int = 48,
        mask_value: float | None = None,
        freeze: bool = True,
        allow_overlap: bool = False,
        max_mask_ratio: float = 0.8,
    ) -> None:
        super().__init__()
        if not 0.0 <= mask_prob <= 1.0:
            raise ValueError(f"mask_prob: {mask_prob} is not a probability")
        if block_size < 1:
            raise ValueError(f"block_size: {block_size} frames; at least 1 is needed")
        self.mask_prob = mask_prob
        self.block_size = block_size
        self.allow_overlap = allow_overlap
        self.max_mask_ratio = max_mask_ratio
        embedding = torch.empty(feat_in)
        if mask_value is None:
            nn.init.normal_(embedding, mean=0.0, std=0.1)
        else:
            nn.init.constant_(embedding, mask_value)
        self.mask_embedding = nn.Parameter(embedding, requires_grad=not freeze and mask_value is None)

    def forward(self, input_feats: Tensor, input_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """input_feats (B, D, T), input_lengths (B,) -> masked features and mask, both as input_feats.

        The mask is 1 at masked frames and the same for all features (one row, expanded: clone it before
        writing).
        """
        mask = self.sample_mask(input_lengths.tolist(), input_feats.shape[-1])
        mask = mask.to(input_feats.device, non_blocking=True)[:, None, :]
        embedding = self.mask_embedding.to(input_feats.dtype)[None, :, None]
        masked = torch.where(mask, embedding, input_feats)
        return masked, mask.to(input_feats.dtype).expand_as(input_feats)

    def sample_mask(self, lengths: list[int], num_frames: int) -> Tensor:
        """Draw the masked frames of a batch: (B, num_frames) bool on the CPU, True at masked frames."""
        edges = torch.zeros(len(lengths), num_frames + 1, dtype=torch.int32)
        for row, length in zip(edges, lengths, strict=True):
            starts, ends = self._sample_blocks(length)
            ones = torch.ones(len(starts), dtype=torch.int32)
            # Where blocks are drawn side by side, the last may lie beyond the batch: it is cut there.
            row.index_add_(0, starts.clamp(max=num_frames), ones)
            row.index_add_(0, ends.clamp(max=num_frames), -ones)
        return edges.cumsum(dim=1)[:, :num_frames] > 0

    def _sample_blocks(self, length: int) -> tuple[Tensor, Tensor]:
        """First frame, and frame after the last, of every block in an item; the order of draws is NeMo's."""
        frames = torch.tensor(float(length))  # shares of it are float32: NeMo's rounding decides ceil()
        if self.block_size >= frames * self.max_mask_ratio:
            # Side by side, NeMo masks the whole block even where the item is shorter still.
            end = min(SHORT_ITEM_BLOCK, length) if self.allow_overlap else SHORT_ITEM_BLOCK
            return torch.tensor([0]), torch.tensor([end])
        if self.allow_overlap:
            num_positions = length - self.block_size
            num_blocks = int(torch.binomial(frames - self.block_size, torch.tensor(self.mask_prob)))
            starts = torch.randperm(num_positions)[:num_blocks]
            return starts, starts + self.block_size
        num_blocks = int(torch.ceil(frames * self.mask_prob / self.block_size))
        offset = int(torch.randint(0, self.block_size, (1,)))
        block_size = self.block_size
        if (num_blocks + 1) * block_size > length:
            block_size = length // (num_blocks + 1)
        num_slots = max(length // block_size, 1)
        starts = torch.randperm(num_slots - 1)[:num_blocks] * block_size + offset
        return starts, starts + block_size
