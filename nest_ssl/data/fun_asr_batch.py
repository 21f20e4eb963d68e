"""Batches with the keys of FunASR's collator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from nest_ssl.data.fun_asr_sample import Sample

PAD = -1  # of every whole number, ids and labels too: FunASR's
RETRIES = 100  # FunASR's default


@dataclass
class FunASRBatch:
    """B conversations with S audios in `tensors`, by FunASR's names; `forward(**batch.tensors)` takes them.

    input_ids, labels_ids (B, L) int64, attention_mask (B, L) int32, fbank_beg, fake_token_len (B, turns)
    int32: padded with -1.  Where there is audio: speech (S, T, D) float32 padded with zeros, speech_lengths
    (S, 1) int32; with a CTC tokenizer ctc_targets (S, U) int64 padded with -1, ctc_target_lengths (S,) int64.
    texts: (B) the last answer of each; ctc_texts: (S) what ctc_targets encode.  seconds: of audio, without
    padding.  skipped, notes: as in the other batches.
    """

    tensors: dict[str, Tensor]
    utterance_ids: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    ctc_texts: list[str] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    seconds: float = 0.0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> FunASRBatch:
        """Give the batch with its tensors on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> FunASRBatch:
        """Give the batch in page-locked memory, from which copies to a GPU run aside."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, change: Callable[[Tensor], Tensor]) -> FunASRBatch:
        return replace(self, tensors={name: change(tensor) for name, tensor in self.tensors.items()})


def collate(samples: Sequence[Sample]) -> FunASRBatch:
    """Pad samples to a batch; ValueError for none."""
    if not samples:
        raise ValueError("a batch needs at least one sample")
    ids = [torch.from_numpy(sample.input_ids) for sample in samples]
    tensors = {
        "fbank_beg": _padded([torch.tensor(s.fbank_beg, dtype=torch.int32) for s in samples]),
        "fake_token_len": _padded([torch.tensor(s.fake_token_len, dtype=torch.int32) for s in samples]),
        "input_ids": _padded(ids),
        "attention_mask": _padded([torch.ones(len(row), dtype=torch.int32) for row in ids]),
        "labels_ids": _padded([torch.from_numpy(sample.labels) for sample in samples]),
    }
    speech = [feature for sample in samples for feature in sample.speech]
    targets = [target for sample in samples for target in sample.ctc_targets]
    if speech:
        tensors["speech"] = pad_sequence(speech, batch_first=True)
        tensors["speech_lengths"] = torch.tensor([[len(f)] for f in speech], dtype=torch.int32)
    if targets:
        tensors["ctc_targets"] = _padded([torch.from_numpy(target) for target in targets])
        tensors["ctc_target_lengths"] = torch.tensor([len(target) for target in targets])
    return FunASRBatch(
        tensors,
        utterance_ids=[sample.utterance_id for sample in samples],
        texts=[sample.text for sample in samples],
        ctc_texts=[text for sample in samples for text in sample.ctc_texts],
        items=[sample.item for sample in samples],
        seconds=float(np.sum([sample.seconds for sample in samples])),
    )


def kept_by_funasr(lengths: Sequence[int], token_max: int, retry: int = RETRIES) -> int:
    """Give how many samples FunASR's collator keeps: it drops the last ones until B * L fits token_max.

    lengths: LLM tokens of each.  One sample always stays; `retry` - 1 of them are dropped at most.
    """
    count = len(lengths)
    for _ in range(retry - 1):
        if count <= 1 or count * max(lengths[:count]) <= token_max:
            break
        count -= 1
    return count


def _padded(rows: list[Tensor]) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=PAD)
