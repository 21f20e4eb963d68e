"""Masked-token prediction: the quantiser's tokens of a signal, guessed from the signal masked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor, nn

from nest_ssl.losses.ssl_losses.mlm import MLMLoss, MultiMLMLoss, check_frames, selected_frames
from nest_ssl.models.base import Loss, SelfSupervisedModel, check_form
from nest_ssl.models.masked_token_stats import masked_token_metrics, masked_token_stats
from nest_ssl.models.ssl_config import masked_token_config
from nest_ssl.modules.audio_preprocessing import AudioToMelSpectrogramPreprocessor
from nest_ssl.modules.ssl_modules.masking import ConvFeatureMaskingWrapper
from nest_ssl.modules.ssl_modules.multi_softmax_decoder import MultiSoftmaxDecoder
from nest_ssl.modules.ssl_modules.quantizers import RandomProjectionVectorQuantizer


class EncDecMaskedTokenPredModel(SelfSupervisedModel):
    """Predict, at the masked frames of speech, the quantiser's tokens of the same speech.

    `cfg` is the `model:` section; it is kept in `self.cfg`, resolved and otherwise as given. `trainer` is
    NeMo's second argument, without use here.  With `mask_position: post_conv` frames are masked behind the
    encoder's sub-sampling and tokens are those of its (unmasked) output; `pre_encoder` then is the
    sub-sampling with its masking, and its tensors are listed under all names that NeMo gives them.

    Raises ValueError naming the key of a section that is missing, unknown or does not fit another. Source:
    BEST-RQ (arXiv 2202.01855).
    """

    pre_encoder: ConvFeatureMaskingWrapper | None

    def __init__(self, cfg: DictConfig | Mapping[str, Any], trainer: Any = None) -> None:
        super().__init__(cfg)
        parts = self.parts = masked_token_config(self.cfg)  # self.cfg as the modules need it
        self.preprocessor = self._built(parts.preprocessor, "preprocessor")
        self.register_module("encoder", None)  # its place in the state dict
        # NeMo builds encoder, decoder and loss twice and drops the first ones.  So do we with those that draw
        # random numbers: a seed gives the initial weights that it gives there.
        for dropped in ("encoder", "decoder"):
            self._built(parts[dropped], dropped)
        self.loss = self._built(parts.loss, "loss")
        self.spec_augmentation = self._built(parts.spec_augment, "spec_augment")
        self.quantizer = self._built(parts.quantizer, "quantizer")
        self.mask_processor = self._built(parts.masking, "masking")
        self.encoder = self._built(parts.encoder, "encoder")
        self.decoder = self._built(parts.decoder, "decoder")
        self.pre_encoder = None
        if self.cfg.get("mask_position", "pre_conv") == "post_conv":
            self.pre_encoder = ConvFeatureMaskingWrapper(self.encoder.pre_encode, self.mask_processor)
            self.encoder.pre_encode = self.pre_encoder

    def forward(
        self,
        input_signal: Tensor | None = None,
        input_signal_length: Tensor | None = None,
        processed_signal: Tensor | None = None,
        processed_signal_length: Tensor | None = None,
        apply_mask: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log probabilities of all frames, with what the loss compares them to.

        `input_signal` (B, N) is the waveform, with lengths (B,) in samples; or `processed_signal`, its
        features (B, D, T), with lengths in frames. Gives log_probs (B, T', C, K), encoded_len (B,), masks (B,
        D, T) of 0 and 1 (post_conv: (B, d_model, T')), tokens (B, T', K) int64; K goes with `squeeze_single`.
        """
        check_form(
            "input_signal", input_signal, input_signal_length, processed_signal, processed_signal_length
        )
        if processed_signal is None:
            processed_signal, processed_signal_length = self.preprocessor(
                input_signal=input_signal, length=input_signal_length
            )
        assert processed_signal_length is not None
        features = (processed_signal, processed_signal_length)
        encoded, encoded_len, masks, tokens = self._encoded(features, features, apply_mask)
        return self.decoder(encoder_output=encoded), encoded_len, masks, tokens

    # ------------------------------------------------------------------ losses

    def training_loss(self, batch: Any) -> Loss:
        """The summed loss of a batch, the number of masked frames, and sums for `metrics`.

        `batch` has audio (B, N) float32 and audio_len (B,) int64, and what else the model hears.  The loss is
        the negative log-likelihood (nats) summed over masked frames and averaged over books: a float32
        scalar, zero but differentiable when nothing is masked.  Logits are computed at masked frames only;
        if `forward`, the decoder or the loss were replaced, through `forward` and the loss.
        """
        if not self._is_as_built():
            return self._loss_through_forward(batch)
        clean, heard = self._batch_features(batch)
        if self.pre_encoder is None:
            tokens, masked, masks = self._tokens_and_masks(clean[0], *heard, apply_mask=True)
            selected = self.loss.selected_frames(masks)
            # Found before the encoder runs, so that a GPU is not waited for after it.
            rows, columns = selected.nonzero(as_tuple=True)
            encoded, encoded_len = self.encoder(audio_signal=masked, length=heard[1])
        else:
            encoded, encoded_len, masks, tokens = self._encoded(clean, heard, apply_mask=True)
            selected = self.loss.selected_frames(masks)
            rows, columns = selected.nonzero(as_tuple=True)
        frames = encoded.transpose(1, 2)
        check_frames(selected, frames)
        if frames.shape[1] < selected.shape[1]:
            # As the loss does: compared up to the shorter end. (Causal sub-sampling makes a frame more.)
            selected = selected[:, : frames.shape[1]]
            rows, columns = selected.nonzero(as_tuple=True)
        logits = self.decoder.logits(
            frames.flatten(0, 1).index_select(0, rows * frames.shape[1] + columns)
        ).float()
        targets = tokens.reshape(-1, logits.shape[2]).index_select(0, rows * tokens.shape[1] + columns)
        by_book = F.cross_entropy(logits.transpose(1, 2).flatten(0, 1), targets.flatten(), reduction="sum")
        stats = masked_token_stats(logits.detach(), targets, encoded_len)
        return by_book / logits.shape[2], selected.sum(), stats

    def metrics(
        self, loss_sum: Tensor | float, weight: Tensor | float, stats: Mapping[str, Tensor]
    ) -> dict[str, float]:
        """The figures of a log line from summed results of `training_loss`; see `masked_token_metrics`."""
        return masked_token_metrics(loss_sum, weight, stats)

    def _batch_features(self, batch: Any) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Features and frames of what the tokens are of, and of what the encoder hears."""
        features = self.preprocessor(input_signal=batch.audio, length=batch.audio_len)
        return features, features

    def _batch_signals(self, batch: Any) -> dict[str, Tensor]:
        """A batch as arguments of `forward`."""
        return {"input_signal": batch.audio, "input_signal_length": batch.audio_len}

    def _loss_through_forward(self, batch: Any) -> Loss:
        log_probs, encoded_len, masks, tokens = self(**self._batch_signals(batch), apply_mask=True)
        loss_cfg = self.parts.loss
        selected = selected_frames(
            masks, loss_cfg.get("combine_time_steps", 1), loss_cfg.get("mask_threshold", 0.8)
        )
        frames = min(selected.shape[1], log_probs.shape[1], tokens.shape[1])
        selected = selected[:, :frames]
        count = selected.sum()
        if bool(count):
            loss = self.loss(
                masks=masks, decoder_outputs=log_probs, targets=tokens, decoder_lengths=encoded_len
            )
            loss_sum = loss.float() * count
        else:
            loss_sum = 0.0 * log_probs.float().sum()
        books = tokens.shape[2] if tokens.dim() == 3 else 1
        scores = log_probs.detach()[:, :frames][selected].reshape(-1, log_probs.shape[2], books)
        targets = tokens[:, :frames][selected].reshape(-1, books)
        return loss_sum, count, masked_token_stats(scores, targets, encoded_len)

    # ------------------------------------------------------------------ tokens, masks, encoder

    def _encoded(
        self, clean: tuple[Tensor, Tensor], heard: tuple[Tensor, Tensor], apply_mask: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """encoded (B, D, T'), its lengths, masks and tokens, from features and frames of both signals."""
        if self.pre_encoder is None:
            targets, masked, masks = self._tokens_and_masks(clean[0], *heard, apply_mask=apply_mask)
            encoded, encoded_len = self.encoder(audio_signal=masked, length=heard[1])
            return encoded, encoded_len, masks, targets
        tokens: Tensor | None = None
        if heard is not clean:
            with torch.no_grad():
                features, _ = self.pre_encoder.unmasked(clean[0].transpose(1, 2), clean[1])
            tokens = self._tokens(features.transpose(1, 2))
        self.pre_encoder.apply_mask = apply_mask
        encoded, encoded_len = self.encoder(audio_signal=heard[0], length=heard[1])
        own, drawn = self.pre_encoder.current_features, self.pre_encoder.current_mask
        assert own is not None
        assert drawn is not None
        if tokens is None:
            tokens = self._tokens(own.transpose(1, 2))
        return encoded, encoded_len, drawn, tokens

    def _tokens_and_masks(
        self, clean: Tensor, heard: Tensor, frames: Tensor, apply_mask: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        tokens = self._tokens(clean)
        if apply_mask:
            masked, masks = self.mask_processor(input_feats=heard, input_lengths=frames)
        else:
            masked, masks = heard, torch.zeros_like(heard)
        return tokens, masked, masks

    def _tokens(self, features: Tensor) -> Tensor:
        if is_untouched(self.quantizer, RandomProjectionVectorQuantizer):
            return self.quantizer.tokens(features)
        return self.quantizer(input_signal=features)[1]

    def _is_as_built(self) -> bool:
        """True if computing loss and logits at masked frames gives what `forward` and `loss` would."""
        return (
            "forward" not in vars(self)
            and getattr(type(self).forward, "__module__", "").startswith("nest_ssl.models.")
            and is_untouched(self.decoder, MultiSoftmaxDecoder)
            and is_untouched(self.decoder.decoder_layers[0], nn.Conv1d)
            and is_untouched(self.loss, MultiMLMLoss)
            and is_untouched(self.loss.mlm_loss, MLMLoss)
        )


# The forwards whose results the short cuts above reproduce; users may replace any of them, on a class or an
# object.
_FORWARDS = {
    cls: cls.forward
    for cls in (
        AudioToMelSpectrogramPreprocessor,
        RandomProjectionVectorQuantizer,
        MultiSoftmaxDecoder,
        MultiMLMLoss,
        MLMLoss,
        nn.Conv1d,
    )
}


def is_untouched(module: Any, cls: type[nn.Module]) -> bool:
    """True if calling `module` runs the code of `cls` that we know: same class, same forward, no hooks."""
    return (
        type(module) is cls
        and cls.forward is _FORWARDS[cls]
        and "forward" not in vars(module)
        and not module._forward_hooks
        and not module._forward_pre_hooks
    )
