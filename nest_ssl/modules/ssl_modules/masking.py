"""Which frames the encoder has to guess: random blocks replaced by one embedding."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SHORT_ITEM_BLOCK = 8  # frames masked, from the first on, of an item that is too short for one block
SAMPLERS = ("nemo2", "nemo3")


class RandomBlockMasking(nn.Module):
    """Replace random blocks of frames by a fixed embedding, in NeMo's order of random draws.

    `allow_overlap` true: every frame starts a block with probability `mask_prob`; false: about `mask_prob`
    of an item is masked by blocks side by side.  `block_size` is in frames; an item whose block would reach
    `max_mask_ratio` of it gets its first 8 frames masked.  The embedding (`mask_value` None: normal noise
    of deviation 0.1, else that constant) is trained only if `freeze` is false and `mask_value` is None.

    `sampler` "nemo2": the draws of NeMo 1.x and 2.x, from torch's global CPU generator whatever the device,
    one item after the other; the lengths are copied to the host once per batch.  "nemo3": those of NeMo 3,
    for all items at once on their device.  It has no rule for short items (one that no block fits into
    stays whole), `max_mask_ratio` is not used, a block never reaches beyond its item, and the shares of
    frames differ a little.  Either way torch.manual_seed gives the masks that it gives there.
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
        sampler: str = "nemo2",
    ) -> None:
        super().__init__()
        if sampler not in SAMPLERS:
            raise ValueError(f"sampler: {sampler!r} is not {' or '.join(SAMPLERS)}")
        if not 0.0 <= mask_prob <= 1.0:
            raise ValueError(f"mask_prob: {mask_prob} is not a probability")
        if block_size < 1:
            raise ValueError(f"block_size: {block_size} frames; at least 1 is needed")
        self.mask_prob = mask_prob
        self.block_size = block_size
        self.allow_overlap = allow_overlap
        self.max_mask_ratio = max_mask_ratio
        self.sampler = sampler
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
        if self.sampler == "nemo3":
            mask = self.sample_mask_at_once(input_lengths, input_feats.shape[-1])[:, None, :]
        else:
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

    def sample_mask_at_once(self, lengths: Tensor, num_frames: int) -> Tensor:
        """Draw as NeMo 3 does: lengths (B,) -> (B, num_frames) bool on their device, True where masked."""
        starts, sizes = self._starts_at_once(lengths, num_frames)
        edges = torch.zeros(len(lengths), num_frames + 1, dtype=torch.int32, device=lengths.device)
        blocks = (sizes > 0).int()
        edges.scatter_add_(1, starts, blocks).scatter_add_(1, starts + sizes, -blocks)
        return edges.cumsum(dim=1)[:, :num_frames] > 0

    def _starts_at_once(self, lengths: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
        """First frame and size (0: no block) of up to N blocks per item, (B, N) int64 each."""
        device, batch = lengths.device, len(lengths)
        if self.allow_overlap:
            frames = torch.arange(num_frames, device=device).expand(batch, -1)
            drawn = torch.rand(batch, num_frames, device=device) < self.mask_prob
            fits = frames + self.block_size <= lengths[:, None]
            sizes = torch.where(drawn & fits, self.block_size, 0)
            return torch.where(sizes > 0, frames, 0), sizes
        # Slots of one block each, one less than there is room for: all blocks move by one common offset.
        wanted = torch.ceil(lengths * self.mask_prob / self.block_size).long()
        shrunk = (lengths // (wanted + 1)).clamp(min=1)
        block_sizes = torch.where((wanted + 1) * self.block_size > lengths, shrunk, self.block_size)
        num_slots = (lengths // block_sizes - 1).clamp(min=0)
        scores = torch.rand(batch, num_frames, device=device)
        outside = torch.arange(num_frames, device=device)[None] >= num_slots[:, None]
        most = math.ceil(num_frames * self.mask_prob / self.block_size)
        slots = scores.masked_fill_(outside, -math.inf).topk(most, dim=1).indices
        offsets = (torch.rand(batch, device=device) * block_sizes).long()
        taken = torch.arange(most, device=device)[None] < torch.minimum(wanted, num_slots)[:, None]
        starts = slots * block_sizes[:, None] + offsets[:, None]
        return torch.where(taken, starts, 0), torch.where(taken, block_sizes[:, None], 0)

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


class ConvFeatureMaskingWrapper(nn.Module):
    """Sub-sampling with masking behind it, in the place of the encoder's `pre_encode`.

    Both are shared with the model, so their tensors have several names in a state dict.  While masking is
    on, what is given on is cut off the graph, as in NeMo: sub-sampling is then not trained.

    `current_features` (B, T', D), detached and not masked, and `current_mask` (B, D, T') of 0 and 1 are
    those of the last call.
    """

    def __init__(self, pre_encode: nn.Module, masking: nn.Module) -> None:
        super().__init__()
        self.pre_encode = pre_encode
        self.masking = masking
        self.apply_mask = False
        self.current_features: Tensor | None = None
        self.current_mask: Tensor | None = None

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, feat_in), lengths (B,) -> sub-sampled, masked frames (B, T', D), lengths' (B,)."""
        features, lengths = self.unmasked(x, lengths)
        self.current_features = features.detach()
        if not self.apply_mask:
            self.current_mask = torch.zeros_like(self.current_features).transpose(1, 2)
            return features, lengths
        masked, self.current_mask = self.masking(input_feats=features.transpose(1, 2), input_lengths=lengths)
        return masked.transpose(1, 2).detach(), lengths

    def unmasked(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, without mask."""
        if isinstance(
            self.pre_encode, nn.Linear
        ):  # no sub-sampling: a linear layer, frames keep their number
            return self.pre_encode(x), lengths
        return self.pre_encode(x=x, lengths=lengths)
