"""wav2vec-style pre-training: patches of the spectrogram masked, their contents told from false ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from nest_ssl.config import suggestion
from nest_ssl.losses.ssl_losses.contrastive import ContrastiveLoss
from nest_ssl.models.base import Loss, SelfSupervisedModel, check_form
from nest_ssl.models.ssl_config import check_contrastive_config

ZERO = 1e-5  # features nearer to zero than this count as masked


@dataclass(frozen=True)
class LossOptions:
    """An entry of `loss_list` without its modules; NeMo's keys."""

    loss_alpha: float = 1.0
    output_from_layer: str | None = None
    targets_from_loss: str | None = None
    transpose_encoded: bool = False
    start_step: int = 0


class SpeechEncDecSelfSupervisedModel(SelfSupervisedModel):
    """An encoder of masked spectrograms with one decoder and loss, or a weighted list of them.

    `cfg` is the `model:` section, with `decoder` and `loss` or `loss_list` {name: {decoder, loss, is_active,
    loss_alpha, output_from_layer, targets_from_loss, transpose_encoded, start_step}}; it is kept in
    `self.cfg`. `trainer` is NeMo's second argument, without use here.  Optional: `dropout_features` (of the
    encoder's input), `dropout_features_q` (of the targets), `feature_penalty` (weight of the mean square of
    the features in the loss). Raises ValueError naming the key that is missing or unknown. Source: wav2vec
    2.0 (arXiv 2006.11477), on spectrograms.
    """

    def __init__(self, cfg: DictConfig | Mapping[str, Any], trainer: Any = None) -> None:
        super().__init__(cfg)
        check_contrastive_config(self.cfg)
        self.preprocessor = self._built(self.cfg.preprocessor, "preprocessor")
        self.encoder = self._built(self.cfg.encoder, "encoder")
        self.loss_options: dict[str, LossOptions] = {}
        self.decoder_losses: nn.ModuleDict | None = None
        if "loss_list" in self.cfg:
            self.decoder_losses = nn.ModuleDict()
            self._build_losses(self.decoder_losses)
        else:
            self.decoder_ssl = self._built(self.cfg.decoder, "decoder")
            self.loss = self._built(self.cfg.loss, "loss")
        self.spec_augmentation = self._built(self.cfg.spec_augment, "spec_augment")
        self.dropout_features = _dropout(self.cfg, "dropout_features")
        self.dropout_features_q = _dropout(self.cfg, "dropout_features_q")
        self.penalty_factor = float(self.cfg.get("feature_penalty") or 0.0)
        self.feature_penalty: Tensor | float = 0.0  # of the last forward
        self.apply_masking = True
        self.global_step: int | None = None  # until a step is told all losses count
        self._layer_outputs: dict[str, Tensor] = {}

    def before_step(self, step: int) -> None:
        """Tell the number of optimiser steps done: losses start, and their quantisers cool, by it."""
        self.global_step = step
        for module in self.modules():
            if isinstance(module, ContrastiveLoss):
                module.set_num_updates(step)

    def forward(
        self,
        input_signal: Tensor | None = None,
        input_signal_length: Tensor | None = None,
        processed_signal: Tensor | None = None,
        processed_signal_length: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Spectrograms before masking, masks (both (B, D, T)), encoded (B, D', T') and its lengths (B,).

        `input_signal` (B, N) is the waveform, with lengths in samples; or `processed_signal`, its features.
        Features are masked in evaluation too, unless `apply_masking` is set to False.
        """
        check_form(
            "input_signal", input_signal, input_signal_length, processed_signal, processed_signal_length
        )
        if processed_signal is None:
            processed_signal, processed_signal_length = self.preprocessor(
                input_signal=input_signal, length=input_signal_length
            )
        assert processed_signal_length is not None
        if self.penalty_factor:
            self.feature_penalty = processed_signal.float().square().mean() * self.penalty_factor
        spectrograms = processed_signal.detach()
        if self.dropout_features is not None:
            processed_signal = self.dropout_features(processed_signal)
        if self.dropout_features_q is not None:
            spectrograms = self.dropout_features_q(spectrograms)
        if self.apply_masking:
            processed_signal = self.spec_augmentation(
                input_spec=processed_signal, length=processed_signal_length
            )
        with self._keeping_layer_outputs():
            encoded, encoded_len = self.encoder(audio_signal=processed_signal, length=processed_signal_length)
        frames = torch.arange(processed_signal.shape[2], device=processed_signal.device)
        valid = frames < processed_signal_length[:, None]
        masks = (processed_signal.detach().abs() < ZERO) & valid[:, None, :]
        return spectrograms, masks.float(), encoded, encoded_len

    def decoder_loss_step(
        self,
        spectrograms: Tensor,
        spec_masks: Tensor,
        encoded: Tensor,
        encoded_len: Tensor,
        targets: Tensor | None = None,
        target_lengths: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of the losses, and each active one without its weight, by name.

        The first four are what `forward` gave; `targets` (B, U) int64 with lengths, for losses that need
        labels and take them from no other loss. Without `loss_list` the dict is empty.
        """
        if self.decoder_losses is None:
            outputs = self.decoder_ssl(encoder_output=encoded)
            if _needs_labels(self.loss):
                loss = self.loss(
                    spec_masks=spec_masks,
                    decoder_outputs=outputs,
                    targets=_given(targets, "loss"),
                    decoder_lengths=encoded_len,
                    target_lengths=target_lengths,
                )
            else:
                loss = self.loss(spectrograms=spectrograms, spec_masks=spec_masks, decoder_outputs=outputs)
            return loss, {}
        parts: Any = self.decoder_losses
        total: Tensor = encoded.new_zeros(1)
        losses: dict[str, Tensor] = {}
        for name, options in self.loss_options.items():
            if self.global_step is not None and self.global_step < options.start_step:
                continue
            heard = encoded
            if options.output_from_layer is not None:
                heard = self._layer_outputs[options.output_from_layer]
            if options.transpose_encoded:
                heard = heard.transpose(-2, -1)
            if options.targets_from_loss is not None:
                source = parts[options.targets_from_loss]["loss"]
                targets = _given(source.target_ids, f"loss_list.{options.targets_from_loss}")
                target_lengths = encoded_len if source.target_lengths is None else source.target_lengths
            decoder, loss = parts[name]["decoder"], parts[name]["loss"]
            outputs = decoder(encoder_output=heard)
            if _needs_labels(loss):
                value = loss(
                    spec_masks=spec_masks,
                    decoder_outputs=outputs,
                    targets=_given(targets, f"loss_list.{name}"),
                    decoder_lengths=encoded_len,
                    target_lengths=target_lengths,
                )
            else:
                value = loss(
                    spectrograms=spectrograms,
                    spec_masks=spec_masks,
                    decoder_outputs=outputs,
                    decoder_lengths=encoded_len,
                )
            total = total + value * options.loss_alpha
            losses[name] = value
        return total, losses

    def training_loss(self, batch: Any) -> Loss:
        """The loss of a batch times its items, the number of items, and sums for `metrics`.

        `batch` has audio (B, N) float32 and audio_len (B,) int64.  NeMo's loss of a batch, an average over
        its items, is the first result over the second.
        """
        spectrograms, masks, encoded, encoded_len = self(
            input_signal=batch.audio, input_signal_length=batch.audio_len
        )
        loss, losses = self.decoder_loss_step(spectrograms, masks, encoded, encoded_len)
        loss = loss.float().sum()  # of one element
        if self.penalty_factor:
            loss = loss + self.feature_penalty
        items = torch.tensor(len(batch.audio), device=loss.device)
        stats = {"masked": masks.mean(dim=1).sum().double(), "frames": _valid_frames(self, batch).double()}
        for name in self.loss_options:
            active = name in losses
            stats[f"{name}.sum"] = (
                losses[name].detach().double().sum() * items if active else items.double() * 0
            )
            stats[f"{name}.items"] = items * int(active)
        return loss * items, items, stats

    def metrics(
        self, loss_sum: Tensor | float, weight: Tensor | float, stats: Mapping[str, Tensor]
    ) -> dict[str, float]:
        """The figures of a log line: mask_share, and each loss of `loss_list` (NaN: not begun)."""
        figures = {"mask_share": _ratio(stats["masked"], stats["frames"])}
        for name in self.loss_options:
            figures[f"{name}_loss"] = _ratio(stats[f"{name}.sum"], stats[f"{name}.items"])
        return figures

    def _build_losses(self, parts: nn.ModuleDict) -> None:
        known = {"decoder", "loss", "is_active", *LossOptions.__dataclass_fields__}
        for key, entry in self.cfg.loss_list.items():
            name = str(key)
            for option in entry:
                if option not in known:
                    raise ValueError(
                        f"model.loss_list.{name}.{option} is unknown; {suggestion(option, known)}"
                    )
            if not entry.get("is_active", True):
                continue
            parts[name] = nn.ModuleDict(
                {part: self._built(entry[part], f"loss_list.{name}.{part}") for part in ("decoder", "loss")}
            )
            given = {
                key: entry[key] for key in LossOptions.__dataclass_fields__ if entry.get(key) is not None
            }
            self.loss_options[name] = LossOptions(**given)
        for name, options in self.loss_options.items():
            if options.targets_from_loss is not None and options.targets_from_loss not in parts:
                raise ValueError(
                    f"model.loss_list.{name}.targets_from_loss: {options.targets_from_loss!r} is not an "
                    "active loss"
                )
            if options.output_from_layer is not None and not _has_module(
                self.encoder, options.output_from_layer
            ):
                raise ValueError(
                    f"model.loss_list.{name}.output_from_layer: the encoder has no module "
                    f"{options.output_from_layer!r}; its layers are layers.0, layers.1 ..."
                )

    @contextlib.contextmanager
    def _keeping_layer_outputs(self) -> Iterator[None]:
        """Within, the outputs (B, T', D) of the layers that losses want are kept."""
        self._layer_outputs = {}
        wanted = {o.output_from_layer for o in self.loss_options.values() if o.output_from_layer is not None}

        def keep(name: str) -> Any:
            return lambda module, inputs, output: self._layer_outputs.update({name: output})

        hooks = [self.encoder.get_submodule(name).register_forward_hook(keep(name)) for name in wanted]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _dropout(cfg: DictConfig, key: str) -> nn.Dropout | None:
    return nn.Dropout(cfg[key]) if cfg.get(key) is not None else None


def _needs_labels(module: nn.Module) -> bool:
    return bool(getattr(module, "needs_labels", False))


def _given(targets: Tensor | None, name: str) -> Tensor:
    if targets is None:
        raise ValueError(
            f"model.{name} needs labels; set targets_from_loss to a loss that makes tokens of audio"
        )
    return targets


def _has_module(module: nn.Module, name: str) -> bool:
    return any(name == found for found, _ in module.named_modules())


def _valid_frames(model: SpeechEncDecSelfSupervisedModel, batch: Any) -> Tensor:
    return model.preprocessor.featurizer.get_seq_len(batch.audio_len).sum()


def _ratio(part: Tensor, whole: Tensor) -> float:
    return float(part) / float(whole) if float(whole) else float("nan")
