"""FunASRNano as the training loop takes it: two losses, frozen parts at rest, small checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nest_ssl.checkpoints.state import tensors_digest
from nest_ssl.models.fun_asr_files import save_pretrained
from nest_ssl.models.fun_asr_nano import FunASRNano
from nest_ssl.models.fun_asr_parts import DTYPES
from nest_ssl.models.fun_asr_trainable import keep_frozen_in_eval, set_trainable
from nest_ssl.text.ctc_labels import collapse
from nest_ssl.text.error_rates import character_errors

Loss = tuple[Tensor, Tensor, dict[str, Tensor]]


class FunASRNanoForTraining(FunASRNano):
    """FunASRNano with what training/protocol.py asks for.  Call `prepare` once the weights are loaded.

    The loss of a batch is the mean over its labels of the language model's negative log likelihood, plus
    ctc_weight times CTC's per target unit.  With ctc_weight 0 the CTC branch is not run in training and the
    loss is FunASR's, which has no CTC loss.
    """

    ctc_weight = 0.0
    ctc_detach_encoder = False

    def prepare(
        self,
        *,
        ctc_weight: float = 0.0,
        ctc_detach_encoder: bool = False,
        gradient_checkpointing: bool = False,
    ) -> None:
        """Set what is trained (the configuration's switches), the dtypes and the losses.

        Trained weights become fp32: bf16 ones lose steps that are smaller than their resolution, and autocast
        computes in bf16 anyway.  A frozen language model is kept in llm_conf.llm_dtype.  ctc_weight counts
        nothing where the model has no CTC branch.
        """
        if ctc_weight < 0:
            raise ValueError(f"ctc_weight: {ctc_weight!r} must not be negative")
        self.ctc_weight = float(ctc_weight) if self.ctc is not None else 0.0
        self.ctc_detach_encoder = ctc_detach_encoder
        set_trainable(self, self.config)
        self._set_dtypes()
        self._checkpoint_gradients(gradient_checkpointing)

    # ------------------------------------------------------------------ losses

    def training_loss(self, batch: Any) -> Loss:
        """(sum over labels with graph, number of labels, sums for `metrics`) of a FunASRBatch."""
        return self._loss(batch.tensors, with_ctc=self.ctc_weight > 0)

    @torch.no_grad()
    def validation_loss(self, batch: Any) -> Loss:
        """As `training_loss`; a CTC branch's loss and greedy errors are counted whatever its weight."""
        return self._loss(batch.tensors, with_ctc=self.ctc is not None, decode=True)

    def metrics(self, loss_sum: float, weight: float, stats: Mapping[str, Tensor]) -> dict[str, float]:
        """llm_loss and ctc_loss (nats per label and per CTC unit), acc, ctc_cer (validation), infeasible."""
        sums = {key: float(value) for key, value in stats.items()}

        def share(one: str, of: str) -> float:
            return sums[one] / sums[of] if sums[of] else float("nan")

        figures = {"llm_loss": share("llm_nll", "labels")}
        if "ctc_nll" in sums:
            figures["ctc_loss"] = share("ctc_nll", "ctc_units")
        figures["acc"] = share("correct", "labels")
        if "ctc_errors" in sums:
            figures["ctc_cer"] = share("ctc_errors", "ctc_characters")
        if "infeasible" in sums:
            figures["infeasible"] = sums["infeasible"]
        return figures

    def ctc_losses(
        self, log_probs: Tensor, frames: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(S,) float32 nats of each utterance, 0 where it has too few frames for its targets, and (S,) bool,
        True where they suffice.

        log_probs (S, T, V), frames (S,), targets (S, U) of any padding, target_lengths (S,).
        """
        targets, target_lengths, frames = targets.clamp(min=0), target_lengths.long(), frames.long()
        with torch.autocast(log_probs.device.type, enabled=False):
            losses = F.ctc_loss(
                log_probs.float().transpose(0, 1),
                targets,
                frames,
                target_lengths,
                blank=self._blank,
                reduction="none",
                zero_infinity=True,
            )
        inside = torch.arange(1, targets.shape[1], device=targets.device) < target_lengths[:, None]
        repeats = ((targets[:, 1:] == targets[:, :-1]) & inside).sum(1)  # each needs a blank in between
        return losses, frames >= target_lengths + repeats

    def _loss(self, tensors: Mapping[str, Tensor], with_ctc: bool, decode: bool = False) -> Loss:
        encoded = None
        if "speech" in tensors:
            encoded = self.encode(tensors["speech"], tensors["speech_lengths"])
        nll, labels, correct = self._llm_loss(tensors, encoded)
        stats = {"llm_nll": nll.detach().double(), "labels": labels.double(), "correct": correct.double()}
        loss_sum = nll
        if with_ctc:
            ctc, sums = self._ctc_branch(tensors, encoded, decode)
            stats |= sums
            if ctc is not None and self.ctc_weight > 0:
                loss_sum = nll + self.ctc_weight * ctc * labels
        return loss_sum, labels, stats

    def _llm_loss(
        self, tensors: Mapping[str, Tensor], encoded: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sum of the labels' negative log likelihoods, their number, and how many are the likeliest token."""
        starts = tensors["fbank_beg"]
        counts = tensors.get("fake_token_len", starts)
        embeds = self.embeds(tensors["input_ids"], encoded, starts, counts)
        logits, wanted = self.label_logits(embeds, tensors["attention_mask"], tensors["labels_ids"])
        # without labels a loss of 0, with a graph all the same
        nll = F.cross_entropy(logits, wanted, reduction="sum") if len(wanted) else embeds.sum() * 0.0
        correct = (logits.argmax(-1) == wanted).sum()
        return nll, torch.tensor(len(wanted), device=embeds.device), correct

    def _ctc_branch(
        self, tensors: Mapping[str, Tensor], encoded: tuple[Tensor, Tensor] | None, decode: bool
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Mean negative log likelihood per target unit, and sums for `metrics`."""
        device = tensors["input_ids"].device
        keys = ("ctc_nll", "ctc_units", "infeasible", *(("ctc_errors", "ctc_characters") if decode else ()))
        sums = {key: torch.zeros((), dtype=torch.float64, device=device) for key in keys}
        if encoded is None or "ctc_targets" not in tensors:
            return None, sums
        encoder_out, lengths = encoded
        if self.ctc_detach_encoder:
            encoder_out = encoder_out.detach()
        targets, target_lengths = tensors["ctc_targets"], tensors["ctc_target_lengths"]
        log_probs, frames = self.ctc_log_probs(encoder_out, lengths), self._ctc_frames(lengths)
        losses, fits = self.ctc_losses(log_probs, frames, targets, target_lengths)
        total, units = losses.sum(), target_lengths[fits].sum()
        sums["ctc_nll"] += total.detach().double()
        sums["ctc_units"] += units
        sums["infeasible"] += (~fits).sum()
        if decode:
            errors, characters = self._greedy_errors(log_probs, frames, targets, target_lengths)
            sums["ctc_errors"] += errors
            sums["ctc_characters"] += characters
        return total / units.clamp(min=1), sums

    def _greedy_errors(
        self, log_probs: Tensor, frames: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> tuple[int, int]:
        """Character errors of the likeliest CTC path against the targets' text, and its characters."""
        assert self.ctc_tokenizer is not None
        paths, ends = log_probs.argmax(-1).cpu(), frames.tolist()
        heard = [collapse(path[:end].tolist(), self._blank) for path, end in zip(paths, ends, strict=True)]
        meant = [row[:end].tolist() for row, end in zip(targets.cpu(), target_lengths.tolist(), strict=True)]
        counts = character_errors(
            *([self.ctc_tokenizer.decode(ids) for ids in side] for side in (meant, heard))
        )
        return counts.errors, counts.total

    # ------------------------------------------------------------------ modes and weights

    def train(self, mode: bool = True) -> FunASRNanoForTraining:
        """Train mode for what is trained; frozen parts stay in eval mode, without dropout."""
        super().train(mode)
        if mode:
            keep_frozen_in_eval(self)
        return self

    def parameter_groups(self, optim_cfg: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """One group: the weights that are trained."""
        return [{"params": [parameter for parameter in self.parameters() if parameter.requires_grad]}]

    def save_to(self, path: Path, /) -> None:
        """Write a complete model directory."""
        save_pretrained(self, path)

    # ------------------------------------------------------------------ checkpoints

    def checkpoint_state(self) -> dict[str, Tensor]:
        """What training changes, under FunASR's names: trained weights, and the buffers."""
        return {
            key: value.detach()
            for key, value in self.state_dict(keep_vars=True).items()
            if value.requires_grad or not isinstance(value, nn.Parameter)
        }

    def load_checkpoint_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back a `checkpoint_state`; RuntimeError if keys or shapes are not the same."""
        own = self.checkpoint_state()
        if own.keys() != state.keys():
            missing, odd = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
            raise RuntimeError(
                f"{len(missing)} tensors are missing ({', '.join(missing[:3])}) and {len(odd)} are not "
                f"expected ({', '.join(odd[:3])}): other parts were trained then"
            )
        with torch.no_grad():
            for key, value in state.items():
                if value.shape != own[key].shape:
                    raise RuntimeError(
                        f"{key} has the shape {tuple(value.shape)}, not {tuple(own[key].shape)}"
                    )
                own[key].copy_(value)

    def frozen_identity(self) -> str:
        """A digest of the weights that are not trained."""
        resting = self.state_dict(keep_vars=True).items()
        return tensors_digest(
            (key, value)
            for key, value in resting
            if isinstance(value, nn.Parameter) and not value.requires_grad
        )

    # ------------------------------------------------------------------ small parts

    @property
    def _blank(self) -> int:
        assert self.blank_id is not None
        return self.blank_id

    def _ctc_frames(self, encoder_lens: Tensor) -> Tensor:
        assert self.ctc_decoder is not None
        return self.ctc_decoder.frames_of(encoder_lens)

    def _set_dtypes(self) -> None:
        for part in self.parameters():
            if part.requires_grad and part.dtype != torch.float32:
                part.data = part.data.float()
        for part in self.llm.parameters():
            if not part.requires_grad and part.dtype != DTYPES[self.llm_dtype]:
                part.data = part.data.to(DTYPES[self.llm_dtype])

    def _checkpoint_gradients(self, wanted: bool) -> None:
        """Recompute the layers' activations in the backward pass instead of keeping them.

        A section's own activation_checkpoint, FunASR's key, holds whatever is `wanted` for all.
        """
        for name in ("audio_encoder", "audio_adaptor", "ctc_decoder"):
            if (part := getattr(self, name)) is not None:
                section = self.config.get(f"{name}_conf") or {}
                part.gradient_checkpointing = wanted or bool(section.get("activation_checkpoint", False))
        for layer in self.llm.get_decoder().layers:
            layer.__dict__.pop("forward", None)
            if wanted:  # not by transformers, which spares a frozen language model: it is in eval mode
                layer.forward = partial(_recomputed, layer.forward)


def _recomputed(forward: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*arguments, **keywords)
    return checkpoint(forward, *arguments, use_reentrant=False, **keywords)
