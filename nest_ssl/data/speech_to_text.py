"""Audio with its text, for training and scoring recognisers: items, batches, loader."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from nest_ssl.data.loader import SSLDataLoader
from nest_ssl.data.ssl_dataset import AudioNoiseDataset, BatchKey

NO_TEXT = "without text"

log = logging.getLogger(__name__)


class TextEncoder(Protocol):
    """What turns a text into tokens; picklable, and `proto` names it in fingerprints."""

    proto: bytes

    @property
    def unknown_id(self) -> int: ...

    def pieces(self) -> list[str]: ...

    def normalize(self, text: str) -> str: ...

    def encode(self, text: str) -> list[int]: ...


@dataclass
class SpeechToTextBatch:
    """A padded batch: audio (B, T) float32 and tokens (B, U) int64, zero behind each length.

    audio_len, tokens_len: (B,) int64.  texts: the normalised references.  seconds: unpadded audio.
    skipped: (utterance id, reason) of what should be here and could not be read; notes: for the log.
    """

    audio: Tensor
    audio_len: Tensor
    tokens: Tensor
    tokens_len: Tensor
    texts: list[str]
    utterance_ids: list[str] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    seconds: float = 0.0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SpeechToTextBatch:
        """Give the batch with its tensors on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> SpeechToTextBatch:
        """Give the batch in page-locked memory, from which copies to a GPU run aside."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, change: Callable[[Tensor], Tensor]) -> SpeechToTextBatch:
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        changed: dict[str, Any] = {k: change(v) for k, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **changed)


class SpeechToTextDataset(AudioNoiseDataset):
    """Map-style dataset over JSON-lines manifests whose rows have a `text`.

    encoder: normalises and tokenises; texts are read and tokenised once, here.  keep_empty: keep rows
    without text (for transcription); otherwise they are left out.  `left_out`: reason -> utterance ids.
    The other arguments are AudioNoiseDataset's; audio is not repeated to a least length.
    """

    def __init__(
        self,
        manifest_filepath: str | Path | Sequence[str | Path],
        sample_rate: int,
        encoder: TextEncoder,
        *,
        keep_empty: bool = False,
        name: str = "train_ds",
        **options: Any,
    ) -> None:
        super().__init__(manifest_filepath, sample_rate, min_audio_len_secs=0.0, name=name, **options)
        self.encoder = encoder
        self.texts: list[str] = []
        self.tokens: list[np.ndarray] = []
        self.ids: list[str] = []
        self.left_out: dict[str, list[str]] = {}
        for i in range(len(self.corpus)):
            utterance = self.corpus[i]
            if utterance.text is not None and not isinstance(utterance.text, str):
                raise ValueError(f"{utterance.place}: text must be a text, not {utterance.text!r}")
            text = encoder.normalize(utterance.text or "")
            self.texts.append(text)
            self.tokens.append(np.array(encoder.encode(text), np.int64))
            self.ids.append(utterance.utterance_id)
        self.items = np.arange(len(self.corpus))  # of the corpus, that are kept
        if not keep_empty:
            self.leave_out(np.array([not self.texts[i] for i in self.items]), NO_TEXT)

    def __len__(self) -> int:
        return len(self.items)

    def lengths(self) -> np.ndarray:
        """Give (N,) float32 seconds of the kept utterances."""
        return self.corpus.lengths()[self.items]

    def leave_out(self, mask: np.ndarray, reason: str) -> list[str]:
        """Leave out the kept utterances where `mask` (N,) is True; gives their ids."""
        ids = [self.ids[i] for i in self.items[mask]]
        if ids:
            self.left_out.setdefault(reason, []).extend(ids)
            self.items = self.items[~mask]
        if not len(self.items):
            reasons = ", ".join(f"{len(ids)} {reason}" for reason, ids in self.left_out.items())
            raise ValueError(f"{self.name}.manifest_filepath: no utterance is left: {reasons}")
        return ids

    def _heard(self, i: int, epoch: int) -> np.ndarray:
        """Read an utterance, through the telephone channel of its epoch where the section asks for one."""
        utterance = self.corpus[i]
        audio = self._read(utterance)
        if self.telephone is None:
            return audio
        drawn = self.telephone.draw(utterance.utterance_id, utterance.key, epoch)
        return self.telephone.apply(audio, drawn) if drawn else audio

    def batch(self, key: BatchKey, batch_augmentor: Any = None) -> SpeechToTextBatch:  # type: ignore[override]
        """Read and collate one batch; `batch_augmentor` has no place here and must be None."""
        if batch_augmentor is not None:
            raise ValueError(f"{self.name}.batch_augmentor is for pre-training data")
        read: list[tuple[int, np.ndarray]] = []
        skipped = []
        for number in key.items.tolist():
            i = int(self.items[number])
            try:
                read.append((i, self._heard(i, key.epoch)))
            except (ValueError, OSError) as error:
                if self.max_corrupt == 0:
                    raise ValueError(f"{error}\n{self._way_out()}") from error
                skipped.append((self.ids[i], str(error)))
        if not read:
            raise ValueError(f"no utterance of a whole batch can be read; the first: {skipped[0][1]}")
        audio_len = torch.tensor([len(audio) for _, audio in read])
        tokens_len = torch.tensor([len(self.tokens[i]) for i, _ in read])
        audio = torch.zeros(len(read), int(audio_len.max()))
        tokens = torch.zeros(len(read), max(1, int(tokens_len.max())), dtype=torch.int64)
        for row, (i, samples) in enumerate(read):
            audio[row, : len(samples)] = torch.from_numpy(samples)
            tokens[row, : len(self.tokens[i])] = torch.from_numpy(self.tokens[i])
        return SpeechToTextBatch(
            audio=audio,
            audio_len=audio_len,
            tokens=tokens,
            tokens_len=tokens_len,
            texts=[self.texts[i] for i, _ in read],
            utterance_ids=[self.ids[i] for i, _ in read],
            items=[i for i, _ in read],
            seconds=int(audio_len.sum()) / self.sample_rate,
            skipped=skipped,
        )


class SpeechToTextLoader(SSLDataLoader):
    """The batches of a SpeechToTextDataset, under the same promises as SSLDataLoader's."""

    dataset: SpeechToTextDataset  # type: ignore[assignment]

    def describe(self) -> dict[str, Any]:
        """SSLDataLoader's facts, with what was left out of them and the tokens per second."""
        facts = super().describe()
        dataset = self.dataset
        dropped = Counter(facts["dropped"])
        dropped.update({reason: len(ids) for reason, ids in dataset.left_out.items()})
        tokens = sum(len(dataset.tokens[i]) for i in dataset.items)
        facts["utterances"] = len(dataset)
        facts["dropped"] = dict(dropped)
        facts["tokens"] = tokens
        return facts

    def fingerprint(self) -> str:
        """Give a text that changes when the order or content of the batches would."""
        digest = hashlib.blake2b(super().fingerprint().encode(), digest_size=16)
        digest.update(self.dataset.encoder.proto)
        for i in self.dataset.items.tolist():
            digest.update(self.dataset.tokens[i].tobytes())
            digest.update(b"\n")
        return digest.hexdigest()
