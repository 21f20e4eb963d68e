"""Conversations with audio for Fun-ASR-Nano: what one batch holds, whatever process makes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from nest_ssl.data.fun_asr_augment import seeds, utterance_stream
from nest_ssl.data.fun_asr_batch import FunASRBatch, collate, kept_by_funasr
from nest_ssl.data.fun_asr_corpus import MessagesCorpus
from nest_ssl.data.fun_asr_features import AudioFeatures
from nest_ssl.data.fun_asr_rows import Conversation
from nest_ssl.data.fun_asr_sample import Sample, SampleBuilder
from nest_ssl.data.lengths import speech_length
from nest_ssl.data.messages import speech_length_detail
from nest_ssl.data.ssl_dataset import BatchKey

NOTES = 5  # rows of a kind that a process names
PROBE = "The quick brown fox, 12.5 % 你好。"  # tokenizers that encode it alike are taken for the same


class MessagesDataset(Dataset):
    """Map-style dataset of samples; `batch(key)` reads, augments and collates, a pure function of its key.

    check_lengths: what a speech_length does that differs from the audio by more than a frame: error, warn or
    off.  drop_above: FunASR's collator, which drops the last samples of a batch above so many padded LLM
    tokens, at most retry - 1 of them; None (ours) drops none.
    max_corrupt: 0, audio that cannot be read raises; otherwise a batch names it in `skipped`.
    """

    def __init__(
        self,
        corpus: MessagesCorpus,
        builder: SampleBuilder,
        audio: AudioFeatures,
        *,
        max_corrupt: int = 0,
        check_lengths: str = "error",
        drop_above: int | None = None,
        retry: int = 100,
        seed: int = 0,
        name: str = "dataset_conf",
    ) -> None:
        self.corpus = corpus
        self.builder = builder
        self.audio = audio
        self.max_corrupt = max_corrupt
        self.check_lengths = check_lengths
        self.drop_above = drop_above
        self.retry = retry
        self.seed = seed
        self.name = name
        self.sample_rate = int(audio.frontend.fs)
        self._notes: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self.corpus)

    def __getitem__(self, i: int) -> Sample:
        return self.sample(i, 0)[0]

    def facts(self) -> dict[str, Any]:
        """What the content of a sample depends on, beside the rows, for fingerprints."""
        builder = self.builder
        probes = [t.encode(PROBE) if t else None for t in (builder.tokenizer, builder.ctc_tokenizer)]
        return {
            "audio": self.audio.facts(),
            "sample": vars(builder.settings),
            "context": builder.context.facts() if builder.context else None,
            "prompt": vars(self.corpus.prompt),
            "ctc_text": str(builder.ctc_text),
            "tokenizers": probes,
            "drop_above": self.drop_above,
        }

    def sample(self, i: int, epoch: int) -> tuple[Sample, list[str]]:
        """Give item `i` as it is in `epoch`, and notes for the log."""
        conversation = self.corpus[i]
        notes: list[str] = []
        seconds = 0.0
        features: list[Tensor | None] = []
        for number, turn in enumerate(conversation.turns[: self.builder.settings.multiturn_num_max]):
            if turn.audio is None:
                features.append(None)
                continue
            heard = self.audio.of(conversation, i, number, epoch)
            notes += self._checked(conversation, number, heard.file_seconds)
            features.append(heard.features)
            seconds += heard.seconds
        draws = utterance_stream(self.seed, epoch, conversation.utterance_id, "prompt")
        sample = self.builder.sample(conversation, features, seeds(draws)[0], draws)
        sample.item, sample.seconds = i, seconds
        notes += self._text_notes(conversation, sample.text_tokens)
        return sample, notes

    def batch(self, key: BatchKey, batch_augmentor: Any = None) -> FunASRBatch:
        """Read and collate one batch; `batch_augmentor` has no place here and must be None."""
        if batch_augmentor is not None:
            raise ValueError(f"{self.name}: a batch augmentor is for pre-training data")
        samples, notes, skipped = [], [], []
        for i in key.items.tolist():
            try:
                sample, found = self.sample(i, key.epoch)
            except (ValueError, OSError) as error:
                if self.max_corrupt == 0:
                    raise ValueError(
                        f"{error}\nrepair or remove the row, or set {self.name}.max_corrupt=N to go on "
                        f"without up to N such rows"
                    ) from error
                skipped.append((self.corpus[i].utterance_id, str(error)))
                continue
            samples.append(sample)
            notes += found
        if not samples:
            raise ValueError(f"no row of a whole batch can be read; the first: {skipped[0][1]}")
        if self.drop_above is not None:
            kept = kept_by_funasr([len(s.input_ids) for s in samples], self.drop_above, self.retry)
            notes += [f"dropped by FunASR's collator: {sample.utterance_id}" for sample in samples[kept:]]
            samples = samples[:kept]
        batch = collate(samples)
        batch.skipped, batch.notes = skipped, notes
        return batch

    def _checked(self, conversation: Conversation, turn: int, seconds: float) -> list[str]:
        """Compare a stated speech_length with the audio."""
        stated = conversation.speech_lengths
        if self.check_lengths == "off" or turn >= len(stated):
            return []
        if abs(stated[turn] - speech_length(seconds)) <= 1:
            return []
        message = f"{conversation.place}: speech_length {speech_length_detail(stated[turn], seconds)}"
        if self.check_lengths == "warn":
            return self._named("speech_length", message)
        raise ValueError(
            f"{message}; batches and limits count by it: write the lengths anew (python -m "
            f"nest_ssl.bin.prepare), or set {self.name}.check_lengths=warn"
        )

    def _text_notes(self, conversation: Conversation, tokens: Sequence[int]) -> list[str]:
        if self.check_lengths == "off":
            return []
        notes: list[str] = []
        stated = conversation.text_lengths
        for number, count, turn in zip(stated, tokens, conversation.turns, strict=False):
            if number != count and turn.before is None:
                message = f"text_length {number} is stated, the text has {count} LLM tokens"
                notes += self._named("text_length", f"{conversation.place}: {message}")
        return notes

    def _named(self, kind: str, message: str) -> list[str]:
        """Give a message for the log, of each kind the first ones only."""
        self._notes[kind] += 1
        if self._notes[kind] > NOTES:
            return []
        more = "; further rows like it are not named" if self._notes[kind] == NOTES else ""
        return [f"{message}{more}"]


def limits_left_out(
    corpus: MessagesCorpus, limits: Mapping[str, int | None], sampler: bool = True
) -> np.ndarray:
    """Give (N,) bool: the rows that stay under FunASR's later limits, and note the others in corpus.left_out.

    limits: source_len (10-ms frames + LLM tokens of the text; its sampler), feature_frames and
    sequence_length (its dataset).  sampler False leaves the first to FunASR's sampler.
    """
    kept = np.ones(len(corpus), bool)
    columns: Sequence[tuple[str, np.ndarray, str]] = (
        ("source_len", corpus.source_lens, "speech_length + text_length above max_token_length {} (sampler)"),
        ("feature_frames", corpus.feature_frames, "feature frames above max_source_length {} (dataset)"),
        ("sequence_length", corpus.sequence_lengths, "LLM tokens above max_token_length {} (dataset)"),
    )
    for name, values, reason in columns:
        most = limits.get(name)
        if most is None:
            continue
        above = kept & (values > most)
        for i in np.flatnonzero(above).tolist():
            corpus.leave_out(i, reason.format(most))
        if sampler or name != "source_len":
            kept &= ~above
    return kept
