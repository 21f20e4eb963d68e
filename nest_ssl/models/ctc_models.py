"""Speech recognition by CTC on a FastConformer: what a pre-trained encoder is fine-tuned as."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from nest_ssl.checkpoints.nemo_archive import read_artifacts, read_nemo, write_nemo
from nest_ssl.checkpoints.state import load_state, portable_state
from nest_ssl.config import build
from nest_ssl.losses.ctc import CTCLoss
from nest_ssl.models.ctc_parts import FREEZABLE, layerwise_groups
from nest_ssl.models.parity import Parity
from nest_ssl.models.registry import model_class, names_of
from nest_ssl.models.ssl_config import model_section
from nest_ssl.modules.masked_batch_norm import use_valid_frames
from nest_ssl.modules.targets import TARGETS as MODULES
from nest_ssl.text.ctc_labels import collapse
from nest_ssl.text.error_rates import character_errors, word_errors
from nest_ssl.text.normalization import TextNormalizer
from nest_ssl.text.tokenizer import MODEL, PIECES, VOCABULARY, SentencePieceTokenizer

SECTIONS = ("preprocessor", "encoder", "decoder")
FRAMES_OF_SILENCE, LENGTHS_AT_ONCE = 64, 256
# NeMo's keys of tokenizer files, and the names these have in a folder.
ARTIFACTS = {"model_path": MODEL, "vocab_path": VOCABULARY, "spe_tokenizer_vocab": PIECES}


class EncDecCTCModelBPE(nn.Module):
    """Features, encoder, one linear layer, CTC over the pieces of a SentencePiece tokenizer; blank last.

    `cfg` is the `model:` section; `tokenizer` is read from `cfg.tokenizer.dir` when it is not given.  Beyond
    NeMo's keys:
    encoder_lr_factor, layer_lr_decay: learning rates of encoder layers, see `layerwise_groups`.
    freeze: parts that never train (encoder, pre_encode, decoder).
    freeze_encoder_steps: optimiser steps before the encoder starts to train.
    Frozen parts are in evaluation mode: no dropout, batch statistics as they were.
    parity: as in pre-training (models/parity.py); batch_norm and dither matter here.
    text_normalization: lower_case, remove_punctuation; null takes the tokenizer's.
    Raises ValueError naming the key of a section that is missing or does not fit another.
    """

    def __init__(
        self,
        cfg: DictConfig | Mapping[str, Any],
        trainer: Any = None,
        tokenizer: SentencePieceTokenizer | None = None,
    ) -> None:
        super().__init__()
        self.cfg = model_section(cfg)
        for section in SECTIONS:
            if not isinstance(self.cfg.get(section), DictConfig):
                raise ValueError(f"model.{section} is missing; the sections needed are {', '.join(SECTIONS)}")
        self.parity = Parity.from_config(self.cfg.get("parity"))
        self.tokenizer = tokenizer if tokenizer is not None else _tokenizer_of(self.cfg)
        stated = self.cfg.get("text_normalization")
        if stated is not None:
            self.tokenizer.normalizer = TextNormalizer.from_config(stated, "model.text_normalization")
        self.cfg.text_normalization = self.tokenizer.normalizer.as_dict()
        self.preprocessor = self._built("preprocessor")
        self.encoder = self._built("encoder")
        if self.parity.batch_norm == "valid":
            use_valid_frames(self.encoder)
        self._fill_decoder()
        self.decoder = self._built("decoder")
        self.spec_augmentation = self._built("spec_augment") if self.cfg.get("spec_augment") else None
        self.blank = self.tokenizer.vocab_size
        self.loss = CTCLoss(
            self.blank, zero_infinity=True, reduction=self.cfg.get("ctc_reduction", "mean_batch")
        )
        self.frozen = tuple(self.cfg.get("freeze") or ())
        for part in self.frozen:
            if part not in FREEZABLE:
                raise ValueError(f"model.freeze: {part!r} is not one of {', '.join(FREEZABLE)}")
            self._part(part).requires_grad_(False)
        self.encoder_rests = False  # in the first freeze_encoder_steps steps

    # ------------------------------------------------------------------ what it computes

    def forward(
        self,
        input_signal: Tensor | None = None,
        input_signal_length: Tensor | None = None,
        processed_signal: Tensor | None = None,
        processed_signal_length: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log probabilities (B, T', V + 1), their lengths (B,), the best label of each frame (B, T').

        Give `input_signal` (B, N) samples with its lengths, or `processed_signal` (B, D, T) features.
        """
        if (input_signal is None) == (processed_signal is None):
            raise ValueError("give either input_signal or processed_signal, with its length")
        if processed_signal is None:
            processed_signal, processed_signal_length = self.preprocessor(
                input_signal=input_signal, length=input_signal_length
            )
        if self.spec_augmentation is not None and self.training:
            processed_signal = self.spec_augmentation(
                input_spec=processed_signal, length=processed_signal_length
            )
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._encoder_stands_still()):
            encoded, encoded_len = self.encoder(audio_signal=processed_signal, length=processed_signal_length)
        log_probs = self.decoder(encoder_output=encoded)
        return log_probs, encoded_len, log_probs.argmax(dim=-1)

    def training_loss(self, batch: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The loss of a batch as the reduction sums it, its weight, and sums for `metrics`.

        `batch` has audio (B, N) float32, audio_len (B,), tokens (B, U) int64 and tokens_len (B,).
        """
        return self._loss(batch)[:3]

    @torch.no_grad()
    def validation_loss(self, batch: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """As `training_loss`; the sums have the errors of greedy decoding against `batch.texts` too."""
        loss_sum, weight, stats, best, lengths = self._loss(batch)
        paths = [row[:n] for row, n in zip(best.tolist(), lengths.tolist(), strict=True)]
        hypotheses = self.texts_of(paths)
        words = word_errors(batch.texts, hypotheses)
        characters = character_errors(batch.texts, hypotheses)
        for name, counts in (("cer", characters), ("wer", words)):
            for key, value in (("errors", counts.errors), ("total", counts.total)):
                stats[f"{name}_{key}"] = torch.tensor(
                    float(value), dtype=torch.float64, device=loss_sum.device
                )
        return loss_sum, weight, stats

    def metrics(
        self, loss_sum: Tensor | float, weight: Tensor | float, stats: Mapping[str, Tensor]
    ) -> dict[str, float]:
        """blank_share: frames whose best label is the blank; validation adds cer and wer, greedy."""
        frames = float(stats["frames"])
        figures = {"blank_share": float(stats["blanks"]) / frames if frames else float("nan")}
        for name in ("cer", "wer"):
            if f"{name}_total" in stats:
                total = float(stats[f"{name}_total"])
                figures[name] = float(stats[f"{name}_errors"]) / total if total else float("nan")
        return figures

    def texts_of(self, paths: Sequence[Sequence[int]]) -> list[str]:
        """The text that each frame-wise path of labels says."""
        return [self.text_of_labels(collapse(path, self.blank)) for path in paths]

    def text_of_labels(self, labels: Sequence[int]) -> str:
        """The text of labels without blanks; the unknown piece says nothing."""
        return self.tokenizer.decode([label for label in labels if label != self.tokenizer.unknown_id])

    def frames_of(self, samples: Tensor) -> Tensor:
        """Encoder frames (B,) int64 of audio with (B,) `samples`, without computing them."""
        frames = self.preprocessor.featurizer.get_seq_len(samples)
        return self.encoder_frames(frames)

    def encoder_frames(self, frames: Tensor) -> Tensor:
        """Encoder frames (B,) int64 of (B,) feature frames, by the sub-sampling's own rule.

        Lengths do not depend on what the features are, so a few frames of silence stand for all of them.
        """
        kinds, inverse = frames.unique(return_inverse=True)
        silence = torch.zeros(1, FRAMES_OF_SILENCE, int(self.cfg.encoder.feat_in))
        with torch.no_grad():
            found = [
                self.encoder.pre_encode(silence.expand(len(part), -1, -1), part)[1]
                for part in kinds.split(LENGTHS_AT_ONCE)
            ]
        return torch.cat(found).to(torch.int64)[inverse]

    # ------------------------------------------------------------------ what the trainer asks

    def parameter_groups(self, optim_cfg: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        lr = float((optim_cfg or self.cfg.optim).get("lr", 0.0))
        factor, decay = (float(self.cfg.get(k, 1.0)) for k in ("encoder_lr_factor", "layer_lr_decay"))
        return layerwise_groups(self, lr, factor, decay, self.cfg.get("optim_param_groups"))

    def before_step(self, step: int) -> None:
        """Called before optimiser step `step` (from 0), in train mode: the encoder rests at first."""
        self.encoder_rests = step < int(self.cfg.get("freeze_encoder_steps") or 0)
        self.train(self.training)

    def train(self, mode: bool = True) -> EncDecCTCModelBPE:
        super().train(mode)
        for part in self.frozen:
            self._part(part).eval()
        if self.encoder_rests:
            self.encoder.eval()
        return self

    def save_to(self, save_path: str | os.PathLike) -> None:
        """Write a .nemo archive with the tokenizer in it, which NeMo and `restore_from` read."""
        config = OmegaConf.to_container(self.cfg, resolve=False)
        assert isinstance(config, dict)
        files = self.tokenizer.files()
        artifacts = {}
        section = {"dir": str((config.get("tokenizer") or {}).get("dir") or "."), "type": "bpe"}
        for key, name in ARTIFACTS.items():
            digest = hashlib.blake2b(files[name], digest_size=16).hexdigest()
            section[key] = f"nemo:{digest}_{name}"
            artifacts[f"{digest}_{name}"] = files[name]
        config["tokenizer"] = section
        whole = {str(key): value for key, value in config.items()}
        write_nemo(
            save_path,
            whole,
            portable_state(self),
            target=names_of("EncDecCTCModelBPE")[0],
            artifacts=artifacts,
        )

    @classmethod
    def restore_from(cls, restore_path: str | os.PathLike, map_location: Any = "cpu") -> EncDecCTCModelBPE:
        """The model of a .nemo archive, ours or NeMo's; raises ValueError for another class of model."""
        config, state = read_nemo(restore_path, map_location)
        if model_class(str(config.get("target"))) is not EncDecCTCModelBPE:
            raise ValueError(
                f"{restore_path}: target {config.get('target')!r} is no CTC model; "
                "python -m nest_ssl.bin.finetune_ctc makes one of it"
            )
        name = str((config.get("tokenizer") or {}).get("model_path", "")).removeprefix("nemo:")
        proto = read_artifacts(restore_path, [name])[name]
        tokenizer = SentencePieceTokenizer(proto, source=f"{restore_path}: {name}")
        model = cls(config, tokenizer=tokenizer)
        load_state(model, state, str(restore_path))
        return model.to(map_location) if isinstance(map_location, str | torch.device) else model

    # ------------------------------------------------------------------ small parts

    def _loss(self, batch: Any) -> tuple[Tensor, Tensor, dict[str, Tensor], Tensor, Tensor]:
        log_probs, encoded_len, best = self(input_signal=batch.audio, input_signal_length=batch.audio_len)
        losses = self.loss.losses(log_probs, batch.tokens, encoded_len, batch.tokens_len)
        loss_sum, weight = self.loss.sum_and_weight(losses, batch.tokens_len)
        valid = torch.arange(best.shape[1], device=best.device) < encoded_len[:, None]
        stats = {
            "blanks": ((best == self.blank) & valid).sum().double(),
            "frames": encoded_len.sum().double(),
        }
        return loss_sum, weight, stats, best, encoded_len

    def _encoder_stands_still(self) -> bool:
        return self.encoder_rests or "encoder" in self.frozen

    def _part(self, name: str) -> nn.Module:
        return self.encoder.pre_encode if name == "pre_encode" else getattr(self, name)

    def _fill_decoder(self) -> None:
        """NeMo's placeholders (feat_in null, num_classes -1, vocabulary empty) get their values."""
        decoder, pieces = self.cfg.decoder, self.tokenizer.pieces()
        if not decoder.get("feat_in"):
            decoder.feat_in = self.encoder._feat_out
        if int(decoder.get("num_classes", -1)) > 0 and int(decoder.num_classes) != len(pieces):
            raise ValueError(
                f"model.decoder.num_classes: {decoder.num_classes}, the tokenizer has {len(pieces)}"
            )
        decoder.num_classes = len(pieces)
        decoder.vocabulary = pieces

    def _built(self, section: str) -> Any:
        name = f"model.{section}"
        try:
            return build(self.cfg[section], MODULES, name, **self.parity.of_section(section))
        except ValueError as error:
            message = str(error)
            raise ValueError(message if message.startswith(name) else f"{name}.{message}") from error


def _tokenizer_of(cfg: DictConfig) -> SentencePieceTokenizer:
    section = cfg.get("tokenizer")
    folder = section.get("dir") if isinstance(section, DictConfig) else None
    if not folder or folder == "???":
        raise ValueError(
            "model.tokenizer.dir must be given: a folder made by python -m nest_ssl.bin.tokenizer"
        )
    if section.get("type", "bpe") != "bpe":
        raise ValueError(f"model.tokenizer.type: {section.type!r} is not supported; bpe (SentencePiece) is")
    return SentencePieceTokenizer.load(Path(folder))
