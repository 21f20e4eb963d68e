"""Fun-ASR-Nano: an audio encoder, an adaptor, a CTC branch and a language model that reads the audio."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nest_ssl.checkpoints.funasr_load import WeightsAccount
from nest_ssl.models.fun_asr_embeds import placed, placeholder_count
from nest_ssl.models.fun_asr_parts import (
    DTYPES,
    AudioEncoder,
    Frontend,
    build_adaptor,
    build_audio_encoder,
    build_ctc,
    build_ctc_tokenizer,
    build_frontend,
    build_llm,
    llm_folder,
    tokenizer_folder,
)
from nest_ssl.modules.adaptor import Transformer
from nest_ssl.modules.ctc_head import CTC
from nest_ssl.modules.nest_audio_encoder import NestAudioEncoder
from nest_ssl.text.chat import DEFAULT_SYSTEM, END, START, source_pieces
from nest_ssl.text.ctc_tokenizer import SenseVoiceTokenizer
from nest_ssl.text.llm_tokenizer import LlmTokenizer

IGNORED = -100  # a label that no loss counts


class FunASRNano(nn.Module):
    """FunASR's FunASRNano with its attribute names, state-dict names and numbers.

    config: FunASR's configuration, interpolations resolved.  directory: what relative paths in it are taken
    from.  Weights are random; `from_pretrained` reads a model directory.

    `audio_encoder` SenseVoiceEncoderSmall or ConformerEncoder (NEST's, whose `frontend` is
    AudioToMelSpectrogramPreprocessor); widths, frame rate and the number of tokens that stand for audio
    follow it.  `ctc_decoder`, `ctc` and `ctc_tokenizer` are None without a CTC branch.
    Sections' `freeze` is followed as in FunASR: it takes gradients away, and evaluation mode only until
    `train()`.
    """

    def __init__(self, config: Mapping[str, Any], directory: str | os.PathLike | None = None):
        super().__init__()
        self.config = dict(config)
        self.directory = None if directory is None else Path(directory)
        self.frontend: Frontend = build_frontend(config, self.directory)
        self.audio_encoder: AudioEncoder = build_audio_encoder(config, self.frontend.output_size())
        width = self.audio_encoder.output_size()
        self.llm: Any
        self.llm = build_llm(config, llm_folder(config, self.directory))
        self.llm_dtype: str = (config.get("llm_conf") or {}).get("llm_dtype", "fp32")
        llm_width = int(self.llm.get_input_embeddings().weight.shape[1])
        self.audio_adaptor = build_adaptor(config, width, llm_width)
        self.use_low_frame_rate = bool(
            (config.get("audio_adaptor_conf") or {}).get("use_low_frame_rate", False)
        )
        self.ctc_decoder: Transformer | None = None
        self.ctc: CTC | None = None
        self.blank_id: int | None = None
        if (branch := build_ctc(config, width)) is not None:
            self.ctc_decoder, self.ctc = branch
            self.blank_id = self.ctc.blank_id
        self.load_account: WeightsAccount | None = None
        model_conf = config.get("model_conf") or {}
        self.length_normalized_loss = bool(model_conf.get("length_normalized_loss", False))

    # ------------------------------------------------------------------ texts

    @cached_property
    def tokenizer(self) -> LlmTokenizer:
        """The language model's tokenizer, read when it is first asked for."""
        return LlmTokenizer(tokenizer_folder(self.config, self.directory))

    @cached_property
    def _ctc_tokenizer(self) -> SenseVoiceTokenizer | None:
        return build_ctc_tokenizer(self.config, self.directory)

    @property
    def ctc_tokenizer(self) -> SenseVoiceTokenizer | None:
        """The tokenizer of the CTC units; None without a CTC branch, or where no ranks file is named."""
        return self._ctc_tokenizer if self.ctc is not None else None

    def drop_ctc(self) -> None:
        """Take the CTC branch away, as FunASR does where a checkpoint has no weights for it."""
        self.ctc_decoder = self.ctc = self.blank_id = None

    # ------------------------------------------------------------------ geometry

    @property
    def frame_s(self) -> float:
        """Seconds per frame of the encoder, which is a frame of CTC: 0.06 for the released model."""
        return self.frontend.frame_s * self.audio_encoder.frame_factor

    def frames_of(self, feature_lengths: Tensor) -> Tensor:
        """feature_lengths (B,) -> frames of the encoder (B,)."""
        return self.audio_encoder.frames_of(feature_lengths)

    def llm_tokens_of(self, feature_lengths: Tensor, training: bool = True) -> Tensor:
        """feature_lengths (B,) -> tokens that stand for the audio in the language model (B,) int64.

        FunASR's dataset counts the low frame rate always; inference counts all frames where
        use_low_frame_rate is false.  For a NEST encoder both are alike, and then what the adaptor gives.
        """
        frames = self.frames_of(feature_lengths).to(torch.int64)
        if self.use_low_frame_rate:
            return placeholder_count(frames)
        if isinstance(self.audio_encoder, NestAudioEncoder):
            return self.audio_adaptor.frames_of(frames)
        return placeholder_count(frames) if training else frames

    # ------------------------------------------------------------------ audio

    def encode(self, speech: Tensor, speech_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """speech (S, T, width) features, speech_lengths (S,) or (S, 1) -> (S, T', D), lengths (S,) int32."""
        lengths = speech_lengths[:, 0] if speech_lengths.dim() > 1 else speech_lengths
        encoder_out, encoder_lens = self.audio_encoder(speech, lengths)
        return encoder_out, encoder_lens

    def adapt(self, encoder_out: Tensor, encoder_lens: Tensor) -> tuple[Tensor, Tensor]:
        """encoder_out (S, T, D), lengths (S,) -> (S, ceil(T / k), H) for the language model, lengths (S,)."""
        adapted, lengths = self.audio_adaptor(encoder_out, encoder_lens)
        return adapted, lengths

    def ctc_log_probs(self, encoder_out: Tensor, encoder_lens: Tensor) -> Tensor:
        """encoder_out (S, T, D), lengths (S,) -> log probabilities (S, T, V) of the CTC units.

        Raises ValueError where there is no CTC branch.
        """
        if self.ctc_decoder is None or self.ctc is None:
            raise ValueError("the model has no CTC branch: its checkpoint has no weights for it")
        decoded, _ = self.ctc_decoder(encoder_out, encoder_lens)
        return self.ctc.log_softmax(decoded)

    # ------------------------------------------------------------------ language model

    def embeds(
        self,
        input_ids: Tensor,
        encoded: tuple[Tensor, Tensor] | None,
        fbank_beg: Tensor,
        fake_token_len: Tensor,
    ) -> Tensor:
        """input_ids (B, L), encoder_out and lengths, fbank_beg and fake_token_len (B, turns) -> (B, L, H).

        Tokens below 0 count as 0.  From fbank_beg on, where it is above 0, stand the first fake_token_len
        frames of the adaptor's next row; all that the row has, where it has fewer.
        """
        tokens = self.llm.get_input_embeddings()(input_ids.clamp(min=0))
        if encoded is None:
            return tokens
        adapted, lengths = self.adapt(*encoded)
        return placed(tokens, adapted, lengths, fbank_beg, fake_token_len)

    def label_logits(self, embeds: Tensor, attention_mask: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """embeds (B, L, H), mask and labels (B, L) -> logits (N, V) float32 before N labels, labels (N,).

        Labels below 0 are none.  Only these positions are multiplied with the vocabulary, which for short
        texts is a fraction of the time and memory; the mean cross entropy is `forward`'s loss.
        """
        with self.llm_autocast(embeds.device):
            hidden = self.llm.get_decoder()(
                inputs_embeds=embeds.to(DTYPES[self.llm_dtype]),
                attention_mask=attention_mask.clamp(min=0),
                use_cache=False,
            ).last_hidden_state
            wanted = labels[:, 1:] >= 0
            logits = self.llm.get_output_embeddings()(hidden[:, :-1][wanted])
        return logits.float(), labels[:, 1:][wanted]

    def llm_autocast(self, device: torch.device) -> torch.autocast:
        """Autocast to llm_dtype; with fp32 none, also where the caller has some, as in FunASR."""
        dtype = DTYPES[self.llm_dtype]
        enabled = self.llm_dtype != "fp32"
        return torch.autocast(device.type, enabled=enabled, dtype=dtype if enabled else torch.bfloat16)

    # ------------------------------------------------------------------ training, as FunASR calls it

    def forward(
        self,
        speech: Tensor | None = None,
        speech_lengths: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels_ids: Tensor | None = None,
        fbank_beg: Tensor | None = None,
        fbank_mask: Tensor | None = None,
        fake_token_len: Tensor | None = None,
        **unused: Any,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """FunASR's batch (see data/fun_asr_batch.py) -> loss (1,), statistics (1,) each, weight (1,) int64.

        The parameters come in FunASR's order; speech and what belongs to it may be left out, and fbank_mask
        is not read, as there.  The loss is the mean over the labels of the batch; FunASR has no other (no
        CTC).  No tensor of the batch is changed.  `unused` takes what else a batch carries.
        """
        if input_ids is None or attention_mask is None or labels_ids is None or fbank_beg is None:
            raise ValueError("a batch needs input_ids, attention_mask, labels_ids and fbank_beg")
        stats: dict[str, Any] = {}
        encoded = None
        if speech is not None:
            if speech_lengths is None or fake_token_len is None:
                raise ValueError("a batch with speech needs speech_lengths and fake_token_len")
            encoded = self.encode(speech, speech_lengths)
            stats |= _speech_stats(speech, speech_lengths)
        inputs_embeds = self.embeds(
            input_ids, encoded, fbank_beg, fbank_beg if fake_token_len is None else fake_token_len
        )
        labels = labels_ids.masked_fill(labels_ids == -1, IGNORED)
        mask = attention_mask.clamp(min=0)
        with self.llm_autocast(inputs_embeds.device):
            outputs = self.llm(
                inputs_embeds=inputs_embeds.to(DTYPES[self.llm_dtype]),
                attention_mask=mask,
                labels=labels,
            )
        loss = outputs.loss
        with torch.no_grad():
            counted = labels[:, 1:] != IGNORED
            right = (outputs.logits[:, :-1].argmax(-1) == labels[:, 1:]) & counted
            stats["acc"] = right.sum().float() / counted.sum().float()
        stats["loss"] = loss.detach().clone()
        stats |= _token_stats(mask, fbank_beg)
        weight = int((labels > 1).sum()) if self.length_normalized_loss else len(input_ids)
        stats = {key: _gathered(value, loss.device) for key, value in stats.items()}
        return _gathered(loss, loss.device), stats, _gathered(weight, loss.device)

    # ------------------------------------------------------------------ inference

    def prompt_embeds(
        self,
        encoder_out: Tensor,
        encoder_lens: Tensor,
        feature_lengths: Tensor,
        prompts: Sequence[str],
        prev_texts: Sequence[str | None] | None = None,
        system: str = DEFAULT_SYSTEM,
    ) -> list[Tensor]:
        """Give what the language model reads before it answers, (L, H) per utterance, in llm's dtype.

        encoder_out (B, T, D) and encoder_lens (B,) of `encode`, feature_lengths (B,) what went into it.
        prompts: what the user says before each audio (text.chat.inference_prompt).  prev_texts: how each
        answer begins.  dataset_conf's do_think and sys_prompt are followed.
        """
        # Zeros behind an utterance's last frame, as where it is alone: the adaptor joins neighbours.
        frames = torch.arange(encoder_out.shape[1], device=encoder_out.device)
        inside = (frames < encoder_lens.to(frames.device)[:, None])[..., None]
        adapted, lengths = self.adapt(encoder_out.masked_fill(~inside, 0.0), encoder_lens)
        wanted = self.llm_tokens_of(feature_lengths, training=False).tolist()
        section = self.config.get("dataset_conf") or {}
        speaker = system if section.get("sys_prompt", True) else None
        embed, found = self.llm.get_input_embeddings(), []
        for row, (prompt, count) in enumerate(zip(prompts, wanted, strict=True)):
            user = f"{prompt}{START}{END}"
            before, after = source_pieces(speaker, user, think=section.get("do_think", True))
            previous = prev_texts[row] if prev_texts is not None else None
            heads, tails = self.tokenizer.encode(before), self.tokenizer.encode(after + (previous or ""))
            ids = torch.tensor([[*heads, *[0] * count, *tails]], device=adapted.device)
            beg, number = (torch.tensor([[value]]) for value in (len(heads), count))
            valid = adapted[row : row + 1, : int(lengths[row])]  # no frame that others in the batch pad
            found.append(placed(embed(ids), valid, lengths[row : row + 1], beg, number)[0])
        return [one.to(embed.weight.dtype) for one in found]

    @torch.inference_mode()
    def generate(
        self, embeds: Sequence[Tensor], max_new_tokens: int = 512, **options: Any
    ) -> list[list[int]]:
        """Give the tokens that follow each prompt (L, H), greedily by default, without end and padding.

        options: transformers' generate() keywords, FunASR's llm_kwargs.
        """
        longest = max(len(one) for one in embeds)
        padded = torch.stack([F.pad(one, (0, 0, longest - len(one), 0)) for one in embeds])
        mask = torch.stack(
            [F.pad(one.new_ones(len(one), dtype=torch.int64), (longest - len(one), 0)) for one in embeds]
        )
        with self.llm_autocast(padded.device):
            found = self.llm.generate(
                inputs_embeds=padded,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                pad_token_id=self.end_ids[0],
                **{"do_sample": False, **options},
            )
        return [_before(row, self.end_ids) for row in found.tolist()]

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer, by the language model's configuration."""
        end = self.llm.config.eos_token_id
        return tuple(end) if isinstance(end, list | tuple) else (end,)

    # ------------------------------------------------------------------ checkpoints

    @classmethod
    def from_pretrained(
        cls,
        directory: str | os.PathLike,
        *,
        init_param: str | os.PathLike | None = None,
        overrides: Mapping[str, Any] | Sequence[str] | None = None,
        dtype: str | torch.dtype | None = None,
        device: str | torch.device = "cpu",
        llm_from: str | os.PathLike | None = None,
    ) -> FunASRNano:
        """Read a model directory in FunASR's layout; in evaluation mode, with the account in `load_account`.

        init_param: other weights.  overrides: keys of the configuration, a mapping or ++key=value words.
        dtype: that of the language model in place of llm_conf.llm_dtype; all else is fp32, and `config`
        keeps what it says.
        llm_from: a file that gives the language model where the weights have none.
        All keys are demanded; a file without any weight of the CTC branch gives a model without it.
        Raises FileNotFoundError or ValueError with the cause and the way out.
        """
        from nest_ssl.models.fun_asr_loading import load_directory

        model = load_directory(cls, directory, init_param, overrides, dtype, llm_from)
        return model.to(device)


def _before(ids: list[int], ends: Sequence[int]) -> list[int]:
    stops = [i for i, token in enumerate(ids) if token in ends]
    return ids[: stops[0]] if stops else ids


def _speech_stats(speech: Tensor, speech_lengths: Tensor) -> dict[str, Any]:
    rows, frames = speech.shape[:2]
    real = int((speech_lengths[:, 0] if speech_lengths.dim() > 1 else speech_lengths).sum())
    return {
        "batch_size_speech": rows,
        "batch_size_x_frames": rows * frames,
        "batch_size_real_frames": real,
        "padding_frames": rows * frames - real,
    }


def _token_stats(mask: Tensor, fbank_beg: Tensor) -> dict[str, Any]:
    real, turns = int(mask.sum()), (fbank_beg > 0).sum(-1)
    return {
        "batch_size": len(mask),
        "batch_size_x_tokens": mask.numel(),
        "batch_size_real_tokens": real,
        "padding_tokens": mask.numel() - real,
        "dialog_turns_max": int(turns.max()),
        "dialog_turns_avg": float(turns.sum()) / len(mask),
    }


def _gathered(value: Any, device: torch.device) -> Tensor:
    """(1,) tensors, as FunASR hands them to DataParallel."""
    return (value if isinstance(value, Tensor) else torch.tensor(value, device=device)).reshape(-1)
