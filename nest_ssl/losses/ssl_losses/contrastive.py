"""The contrastive loss of wav2vec: which of several vectors is that of the masked frame?"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nest_ssl.losses.ssl_losses.gumbel_quantizer import GumbelVectorQuantizer


class ContrastiveLoss(nn.Module):
    """Cross entropy (nats) of the true target of each masked frame among `num_negatives` false ones.

    Targets are `combine_time_steps` frames of `in_dim` features, projected to `proj_dim`, or
    (`quantized_targets`) quantised with learnt codebooks, whose diversity then is part of the loss with
    weight `prob_ppl_weight`.  Scores are cosines divided by `logit_temp`.  A frame counts when more than
    `mask_threshold` of its features are masked.

    Negatives are drawn without replacement (with it where there are too few) from the masked frames of the
    utterance, or all frames (`sample_from_non_masked`), or those of the batch
    (`sample_from_same_utterance_only` false), or the codebook (`sample_from_codebook`); `group_loss` compares
    each group with all its codes.  As in NeMo, the utterances of a batch share the places of their
    negatives, and must have equally many masked frames.

    The loss is `reduce`d ("sum" or "mean") over frames, and multiplied by `multiplier` / B.  `store_ids`
    keeps the tokens in `target_ids` (B, T') and `target_lengths` for other losses, `reduce_ids` with runs of
    equal tokens as one.  Source: wav2vec 2.0 (arXiv 2006.11477), section 3.2.
    """

    needs_labels = False

    def __init__(
        self,
        in_dim: int,
        proj_dim: int = 128,
        combine_time_steps: int = 1,
        num_negatives: int = 100,
        quantized_targets: bool = False,
        codebook_size: int = 320,
        prob_ppl_weight: float = 0.1,
        logit_temp: float = 0.1,
        reduce: str = "sum",
        sample_from_same_utterance_only: bool = True,
        sample_from_non_masked: bool = False,
        sample_from_codebook: bool = False,
        group_loss: bool = False,
        num_groups: int = 2,
        quantizer_temp_start: float = 2,
        quantizer_temp_min: float = 0.5,
        quantizer_temp_decay: float = 0.999995,
        mask_threshold: float = 0.8,
        store_ids: bool = True,
        reduce_ids: bool = False,
        multiplier: float = 16.0,
    ) -> None:
        super().__init__()
        if reduce not in ("sum", "mean"):
            raise ValueError(f"reduce: {reduce!r} is not sum or mean")
        if (sample_from_codebook or group_loss) and not quantized_targets:
            raise ValueError("sample_from_codebook and group_loss need quantized_targets: true")
        self.combine_time_steps = combine_time_steps
        self.num_negatives = num_negatives
        self.prob_ppl_weight = prob_ppl_weight
        self.logit_temp = logit_temp
        self.reduce = reduce
        self.sample_from_same_utterance_only = sample_from_same_utterance_only
        self.sample_from_non_masked = sample_from_non_masked
        self.sample_from_codebook = sample_from_codebook
        self.group_loss = group_loss
        self.mask_threshold = mask_threshold
        self.store_ids, self.reduce_ids = store_ids, reduce_ids
        self.multiplier = multiplier
        self.target_ids: Tensor | None = None
        self.target_lengths: Tensor | None = None
        self.quantizer: GumbelVectorQuantizer | None = None
        if quantized_targets:
            self.quantizer = GumbelVectorQuantizer(
                dim=in_dim * combine_time_steps,
                vq_dim=proj_dim,
                num_vars=codebook_size,
                groups=num_groups,
                temp=(quantizer_temp_start, quantizer_temp_min, quantizer_temp_decay),
                combine_groups=True,
            )
        else:
            self.target_proj = nn.Linear(in_dim * combine_time_steps, proj_dim)

    def set_num_updates(self, num_updates: int) -> None:
        """Tell the quantiser the optimiser step, for its temperature."""
        if self.quantizer is not None:
            self.quantizer.set_num_updates(num_updates)

    def forward(
        self,
        spectrograms: Tensor,
        spec_masks: Tensor,
        decoder_outputs: Tensor,
        decoder_lengths: Tensor | None = None,
    ) -> Tensor:
        """spectrograms, spec_masks (B, D, T), decoder_outputs (B, T', C) -> scalar.

        The spectrograms are those before masking; masks are 1 where masked.  Lengths are ignored, as in
        NeMo. Without any masked frame the loss is zero, where NeMo fails.
        """
        batch, frames = decoder_outputs.shape[:2]
        steps, masks = self._stacked(spectrograms, frames), self._stacked(spec_masks, frames)
        masked = masks.mean(-1) > self.mask_threshold
        targets, diversity_loss = self._targets(steps)
        outputs = decoder_outputs[masked]
        if not len(outputs):
            return 0.0 * (decoder_outputs.sum() + targets.sum())
        if self.sample_from_same_utterance_only:
            outputs, positives, negatives = self._within_utterances(decoder_outputs, targets, masked)
        else:
            outputs, positives, negatives = self._within_batch(outputs, targets, masked)
        scores = self._scores(outputs, positives, negatives)
        loss = F.cross_entropy(
            scores.transpose(0, 1), scores.new_zeros(scores.shape[1]).long(), reduction=self.reduce
        )
        if diversity_loss is not None and self.prob_ppl_weight != 0:
            loss = loss + self.prob_ppl_weight * diversity_loss * scores.shape[1]
        return loss * (self.multiplier / batch)

    def _stacked(self, frames: Tensor, count: int) -> Tensor:
        """(B, D, T) -> (B, count, T / count * D), padded with zeros where T does not divide."""
        frames = frames.transpose(1, 2)
        missing = math.ceil(frames.shape[1] / count) * count - frames.shape[1]
        return F.pad(frames, (0, 0, 0, missing)).reshape(len(frames), count, -1)

    def _targets(self, steps: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, T', proj_dim) and the loss for using few codes; keeps the tokens if asked to."""
        if self.quantizer is None:
            return self.target_proj(steps), None
        quantized = self.quantizer(steps)
        if self.store_ids:
            self.target_ids, self.target_lengths = quantized.ids, None
            if self.reduce_ids:
                self.target_ids, self.target_lengths = without_repetitions(quantized.ids)
        return quantized.vectors, quantized.diversity_loss

    def _within_utterances(
        self, outputs: Tensor, targets: Tensor, masked: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs and positives (M * B, C), frame by frame, and negatives (N, M * B, C)."""
        batch, counts = len(outputs), masked.sum(dim=1)
        if bool((counts != counts[0]).any()):
            raise ValueError(
                f"the utterances have {counts.tolist()} masked frames; sample_from_same_utterance_only needs "
                "equally many: spec_augment.patch_size must be a multiple of encoder.subsampling_factor"
            )
        positives = targets[masked].reshape(batch, -1, targets.shape[-1]).transpose(0, 1)
        outputs = outputs[masked].reshape(batch, -1, outputs.shape[-1]).transpose(0, 1)
        candidates = targets.transpose(0, 1) if self.sample_from_non_masked else positives
        negatives = self._drawn(candidates, len(positives))
        return outputs.flatten(0, 1), positives.flatten(0, 1), negatives.flatten(1, 2)

    def _within_batch(
        self, outputs: Tensor, targets: Tensor, masked: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """outputs (M, C) of the masked frames -> outputs and positives (M, C), negatives (N, M, C)."""
        positives = targets[masked]
        if self.group_loss:
            assert self.quantizer is not None
            groups = self.quantizer.groups
            # Every group's own codes, or the common ones for each group; NeMo cannot run this with those.
            codes = self.quantizer.grouped_codes().expand(groups, -1, -1)
            negatives = codes.transpose(0, 1).repeat(1, len(outputs), 1)
            width = outputs.shape[-1] // groups
            return outputs.reshape(-1, width), positives.reshape(-1, width), negatives
        if self.sample_from_codebook:
            assert self.quantizer is not None
            negatives = self.quantizer.sample_from_codebook(self.num_negatives, len(positives))
        else:
            candidates = targets.flatten(0, 1) if self.sample_from_non_masked else positives
            negatives = self._drawn(candidates, len(positives))
        return outputs, positives, negatives

    def _drawn(self, candidates: Tensor, count: int) -> Tensor:
        """candidates (F, ...) -> (num_negatives, count, ...), other ones for each of `count` frames."""
        chances = torch.ones(count, len(candidates), device=candidates.device)
        too_few = len(candidates) < self.num_negatives
        drawn = torch.multinomial(chances, self.num_negatives, replacement=too_few)
        return candidates[drawn].transpose(0, 1)

    def _scores(self, outputs: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
        """Cosines over the temperature, (1 + N, M): the positives' first, -inf where a negative equals it."""
        same = (positives == negatives).all(dim=-1)
        vectors = torch.cat([positives[None], negatives])
        scores = torch.cosine_similarity(outputs.float()[None].expand_as(vectors), vectors.float(), dim=-1)
        scores = scores / self.logit_temp
        return torch.cat([scores[:1], scores[1:].masked_fill(same, -math.inf)])


def without_repetitions(ids: Tensor) -> tuple[Tensor, Tensor]:
    """ids (B, T) int64 with runs of equal ids as one, zero behind -> (B, T''), lengths (B,) int64."""
    starts = torch.ones_like(ids, dtype=torch.bool)
    starts[:, 1:] = ids[:, 1:] != ids[:, :-1]
    lengths = starts.sum(dim=1)
    reduced = torch.zeros_like(ids).scatter_(1, starts.cumsum(dim=1) - 1, ids)
    return reduced[:, : int(lengths.max())], lengths
