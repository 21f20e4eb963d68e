"""The NEST model: tokens of clean speech, guessed from masked and noisy speech."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from nest_ssl.models.base import check_form
from nest_ssl.models.masked_token_model import EncDecMaskedTokenPredModel, is_untouched
from nest_ssl.modules.audio_preprocessing import AudioToMelSpectrogramPreprocessor


class EncDecDenoiseMaskedTokenPredModel(EncDecMaskedTokenPredModel):
    """NEST: predict, at the masked frames of noisy speech, the quantiser's tokens of the clean speech.

    Otherwise as EncDecMaskedTokenPredModel. Source: NEST (arXiv 2408.13106).
    """

    def forward(  # type: ignore[override]
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
        not used. Gives log_probs (B, T', C, K), encoded_len (B,), masks (B, D, T) of 0 and 1 (post_conv: (B,
        d_model, T')), tokens (B, T', K) int64; K goes with `squeeze_single`.
        """
        clean, noisy = self._features(
            (input_signal, input_signal_length, processed_signal, processed_signal_length),
            (
                noisy_input_signal,
                noisy_input_signal_length,
                processed_noisy_input_signal,
                processed_noisy_input_signal_length,
            ),
        )
        encoded, encoded_len, masks, tokens = self._encoded(clean, noisy, apply_mask)
        return self.decoder(encoder_output=encoded), encoded_len, masks, tokens

    def _batch_features(self, batch: Any) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        return self._features(
            (batch.audio, batch.audio_len, None, None), (batch.noisy_audio, batch.noisy_audio_len, None, None)
        )

    def _batch_signals(self, batch: Any) -> dict[str, Tensor]:
        return {
            "input_signal": batch.audio,
            "input_signal_length": batch.audio_len,
            "noise_signal": batch.noise,
            "noise_signal_length": batch.noise_len,
            "noisy_input_signal": batch.noisy_audio,
            "noisy_input_signal_length": batch.noisy_audio_len,
        }

    def _features(self, clean: tuple, noisy: tuple) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Features and frames of both, from (signal, length, processed, processed_length) of each."""
        check_form("input_signal", *clean)
        check_form("noisy_input_signal", *noisy)
        if _can_share_a_batch(clean[0], noisy[0]) and is_untouched(
            self.preprocessor, AudioToMelSpectrogramPreprocessor
        ):
            both = self.preprocessor.forward_pair(*clean[:2], *noisy[:2])
            return both[:2], both[2:]
        results = []
        for signal, length, processed, processed_length in (clean, noisy):
            if processed is None:
                processed, processed_length = self.preprocessor(input_signal=signal, length=length)
            results.append((processed, processed_length))
        return results[0], results[1]


def _can_share_a_batch(clean: Tensor | None, noisy: Tensor | None) -> bool:
    """Two waveforms of one shape; not one tensor twice, to which the second call would add more dither."""
    return (
        clean is not None
        and noisy is not None
        and clean.shape == noisy.shape
        and clean.untyped_storage().data_ptr() != noisy.untyped_storage().data_ptr()
    )
