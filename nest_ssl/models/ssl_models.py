"""The NEST model: tokens of clean speech, guessed from masked and noisy speech."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from nest_ssl.checkpoints.nemo_archive import read_nemo, write_nemo
from nest_ssl.checkpoints.state import load_state, portable_state
from nest_ssl.config import build
from nest_ssl.losses.ssl_losses.mlm import MLMLoss, MultiMLMLoss, check_frames, selected_frames
from nest_ssl.losses.targets import TARGETS as LOSSES
from nest_ssl.models.masked_token_stats import masked_token_metrics, masked_token_stats
from nest_ssl.models.parameter_groups import parameter_groups
from nest_ssl.models.ssl_config import check_masked_token_config, model_section
from nest_ssl.modules.audio_preprocessing import AudioToMelSpectrogramPreprocessor
from nest_ssl.modules.ssl_modules.multi_softmax_decoder import MultiSoftmaxDecoder
from nest_ssl.modules.ssl_modules.quantizers import RandomProjectionVectorQuantizer
from nest_ssl.modules.targets import TARGETS as MODULES

NEMO_HOME = "nemo.collections.asr.models.ssl_models"


class EncDecDenoiseMaskedTokenPredModel(nn.Module):
    """NEST: predict, at the masked frames of noisy speech, the quantiser's tokens of the clean speech.

    `cfg` is the `model:` section (DictConfig or mapping).  It is kept in `self.cfg`, resolved; datasets are
    not built here, so their `???` may stay.  `trainer` is NeMo's second argument, without use here. Raises
    ValueError naming the key of a section that is missing, unknown or does not fit another. Source: NEST
    (arXiv 2408.13106).
    """

    def __init__(self, cfg: DictConfig | Mapping[str, Any], trainer: Any = None) -> None:
        super().__init__()
        self.cfg = model_section(cfg)
        check_masked_token_config(self.cfg)
        self.preprocessor = self._built("preprocessor")
        self.register_module("encoder", None)  # its place in the state dict
        # NeMo builds encoder and decoder twice and drops the first ones.  So do we, for their random draws:
        # a seed gives the initial weights that it gives there.
        for dropped in ("encoder", "decoder"):
            self._built(dropped)
        self.loss = self._built("loss", LOSSES)
        self.spec_augmentation = self._built("spec_augment")
        self.quantizer = self._built("quantizer")
        self.mask_processor = self._built("masking")
        self.encoder = self._built("encoder")
        self.decoder = self._built("decoder")

    def forward(
        self,
        input_signal: Tensor | None = None,
        input_signal_length: Tensor | None = None,
        processed_signal: Tensor | None = None,
        processed_signal_length: Tensor | None = None,
        noise_signal: Tensor | None = None,
        noise_signal_length: Tensor | None = None,
        processed_noise_signal: Tensor | None = None,
        processed_noise_signal_length: Tensor | None = None,
        noisy_input_signal: Tensor | None = None,
        noisy_input_signal_length: Tensor | None = None,
        processed_noisy_input_signal: Tensor | None = None,
        processed_noisy_input_signal_length: Tensor | None = None,
        apply_mask: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log probabilities of all frames, with what the loss compares them to.

        `input_signal` (B, N) is the clean and `noisy_input_signal` the noisy waveform, with lengths (B,) in
        samples; or `processed_...`, their features (B, D, T), with lengths in frames.  The noise alone is
        not used. Gives log_probs (B, T', C, K), encoded_len (B,), masks (B, D, T) of 0 and 1, tokens (B,
        T', K) int64; K goes with `squeeze_single`.
        """
        clean, noisy, noisy_length = self._features(
            (input_signal, input_signal_length, processed_signal, processed_signal_length),
            (
                noisy_input_signal,
                noisy_input_signal_length,
                processed_noisy_input_signal,
                processed_noisy_input_signal_length,
            ),
        )
        tokens, masked, masks = self._tokens_and_masks(clean, noisy, noisy_length, apply_mask)
        encoded, encoded_len = self.encoder(audio_signal=masked, length=noisy_length)
        return self.decoder(encoder_output=encoded), encoded_len, masks, tokens

    def training_loss(self, batch: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The summed loss of a batch, the number of masked frames, and sums for `metrics`.

        `batch` has audio, noisy_audio (B, N) float32 and audio_len, noisy_audio_len (B,) int64.  The loss
        is the negative log-likelihood (nats) summed over masked frames and averaged over books: a float32
        scalar, zero but differentiable when nothing is masked.  Logits are computed at masked frames only;
        if `forward`, the decoder or the loss were replaced, through `forward` and the loss.
        """
        if not self._is_as_built():
            return self._loss_through_forward(batch)
        clean, noisy, noisy_length = self._features(
            (batch.audio, batch.audio_len, None, None), (batch.noisy_audio, batch.noisy_audio_len, None, None)
        )
        tokens, masked, masks = self._tokens_and_masks(clean, noisy, noisy_length, apply_mask=True)
        selected = self.loss.selected_frames(masks)
        # Found before the encoder runs, so that a GPU is not waited for after it.
        indices = selected.flatten().nonzero().squeeze(1)
        encoded, encoded_len = self.encoder(audio_signal=masked, length=noisy_length)
        frames = encoded.transpose(1, 2)
        check_frames(selected, frames)
        logits = self.decoder.logits(frames.flatten(0, 1).index_select(0, indices)).float()
        targets = tokens.reshape(-1, logits.shape[2]).index_select(0, indices)
        by_book = F.cross_entropy(logits.transpose(1, 2).flatten(0, 1), targets.flatten(), reduction="sum")
        loss_sum = by_book / logits.shape[2]
        return loss_sum, selected.sum(), masked_token_stats(logits.detach(), targets, encoded_len)

    @torch.no_grad()
    def validation_loss(self, batch: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """As `training_loss`, without gradient; frames are masked at random here too, as in NeMo."""
        return self.training_loss(batch)

    def metrics(
        self, loss_sum: Tensor | float, weight: Tensor | float, stats: Mapping[str, Tensor]
    ) -> dict[str, float]:
        """The figures of a log line from summed results of `training_loss`; see `masked_token_metrics`."""
        return masked_token_metrics(loss_sum, weight, stats)

    def parameter_groups(self, optim_cfg: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Groups for the optimiser: all parameters, split as `model.optim_param_groups` says."""
        return parameter_groups(self, self.cfg.get("optim_param_groups"))

    def save_to(self, save_path: str | os.PathLike) -> None:
        """Write a .nemo archive, which NeMo and `restore_from` read."""
        config = OmegaConf.to_container(self.cfg, resolve=False)
        assert isinstance(config, dict)
        known = next(cls for cls in type(self).__mro__ if cls in MODELS.values())  # for a user's subclass too
        section = {str(key): value for key, value in config.items()}
        write_nemo(save_path, section, portable_state(self), target=f"{NEMO_HOME}.{known.__name__}")

    @classmethod
    def restore_from(
        cls, restore_path: str | os.PathLike, map_location: Any = "cpu", strict: bool = True
    ) -> EncDecDenoiseMaskedTokenPredModel:
        """The model of a .nemo archive, whose `target` decides the class; in training mode.

        `strict` false lets keys be missing or left over (counted in the log), never shapes differ.
        Raises ValueError for a damaged archive or another class of model.
        """
        config, state = read_nemo(restore_path, map_location)
        target = str(config.get("target"))
        model_class = MODELS.get(target)
        if model_class is None or not issubclass(model_class, cls):
            raise ValueError(f"{restore_path}: target {target!r} is not supported as a {cls.__name__}")
        model = model_class(config)
        every_key = () if strict else ("",)
        load_state(model, state, str(restore_path), allowed_missing=every_key, allowed_unexpected=every_key)
        return model.to(map_location) if isinstance(map_location, str | torch.device) else model

    def _built(self, section: str, targets: Mapping[str, type] = MODULES) -> Any:
        name = f"model.{section}"
        try:
            return build(self.cfg[section], targets, name)
        except ValueError as error:
            message = str(error)  # a module knows the option that is wrong, not the section that it stands in
            raise ValueError(message if message.startswith(name) else f"{name}.{message}") from error

    def _features(self, clean: tuple, noisy: tuple) -> tuple[Tensor, Tensor, Tensor]:
        """Features of both, frames of noisy, from (signal, length, processed, processed_length) of each."""
        _check_form("input_signal", *clean)
        _check_form("noisy_input_signal", *noisy)
        if _can_share_a_batch(clean[0], noisy[0]) and _is_untouched(
            self.preprocessor, AudioToMelSpectrogramPreprocessor
        ):
            clean_features, _, noisy_features, frames = self.preprocessor.forward_pair(*clean[:2], *noisy[:2])
            return clean_features, noisy_features, frames
        results = []
        for signal, length, processed, processed_length in (clean, noisy):
            if processed is None:
                processed, processed_length = self.preprocessor(input_signal=signal, length=length)
            results.append((processed, processed_length))
        return results[0][0], *results[1]

    def _tokens_and_masks(
        self, clean: Tensor, noisy: Tensor, noisy_length: Tensor, apply_mask: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        if _is_untouched(self.quantizer, RandomProjectionVectorQuantizer):
            tokens = self.quantizer.tokens(clean)
        else:
            _, tokens = self.quantizer(input_signal=clean)
        if apply_mask:
            masked, masks = self.mask_processor(input_feats=noisy, input_lengths=noisy_length)
        else:
            masked, masks = noisy, torch.zeros_like(noisy)
        return tokens, masked, masks

    def _is_as_built(self) -> bool:
        """True if computing loss and logits at masked frames gives what `forward` and `loss` would."""
        return (
            "forward" not in vars(self)
            and type(self).forward is _MODEL_FORWARD
            and _is_untouched(self.decoder, MultiSoftmaxDecoder)
            and _is_untouched(self.decoder.decoder_layers[0], nn.Conv1d)
            and _is_untouched(self.loss, MultiMLMLoss)
            and _is_untouched(self.loss.mlm_loss, MLMLoss)
        )

    def _loss_through_forward(self, batch: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        log_probs, encoded_len, masks, tokens = self(
            input_signal=batch.audio,
            input_signal_length=batch.audio_len,
            noise_signal=batch.noise,
            noise_signal_length=batch.noise_len,
            noisy_input_signal=batch.noisy_audio,
            noisy_input_signal_length=batch.noisy_audio_len,
            apply_mask=True,
        )
        loss_cfg = self.cfg.loss
        selected = selected_frames(
            masks, loss_cfg.get("combine_time_steps", 1), loss_cfg.get("mask_threshold", 0.8)
        )
        count = selected.sum()
        if bool(count):
            loss = self.loss(
                masks=masks, decoder_outputs=log_probs, targets=tokens, decoder_lengths=encoded_len
            )
            loss_sum = loss.float() * count
        else:
            loss_sum = 0.0 * log_probs.float().sum()
        books = tokens.shape[2] if tokens.dim() == 3 else 1
        scores = log_probs.detach()[selected].reshape(-1, log_probs.shape[2], books)
        targets = tokens[selected].reshape(-1, books)
        return loss_sum, count, masked_token_stats(scores, targets, encoded_len)


MODELS = {
    f"{home}.{model.__name__}": model
    for model in (EncDecDenoiseMaskedTokenPredModel,)
    for home in (NEMO_HOME, "nemo.collections.asr.models", __name__)
}

# The forwards whose results the short cuts above reproduce; users may replace any of them, on a class or an
# object.
_MODEL_FORWARD = EncDecDenoiseMaskedTokenPredModel.forward
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


def _is_untouched(module: Any, cls: type[nn.Module]) -> bool:
    """True if calling `module` runs the code of `cls` that we know: same class, same forward, no hooks."""
    return (
        type(module) is cls
        and cls.forward is _FORWARDS[cls]
        and "forward" not in vars(module)
        and not module._forward_hooks
        and not module._forward_pre_hooks
    )


def _can_share_a_batch(clean: Tensor | None, noisy: Tensor | None) -> bool:
    """Two waveforms of one shape; not one tensor twice, to which the second call would add more dither."""
    return (
        clean is not None
        and noisy is not None
        and clean.shape == noisy.shape
        and clean.untyped_storage().data_ptr() != noisy.untyped_storage().data_ptr()
    )


def _check_form(
    name: str,
    signal: Tensor | None,
    length: Tensor | None,
    processed: Tensor | None,
    processed_length: Tensor | None,
) -> None:
    has_signal = signal is not None and length is not None
    has_processed = processed is not None and processed_length is not None
    if has_signal == has_processed:
        raise ValueError(
            f"give either {name} and {name}_length, or processed_{name.removeprefix('input_')} and its length"
        )
