"""A tiny Fun-ASR-Nano ready to train, and a batch for it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from nest_ssl.models.fun_asr_training import FunASRNanoForTraining
from tests.fun_asr_tiny import make_model_dir

UNFROZEN = {
    "audio_encoder_conf.freeze": False,
    "audio_adaptor_conf.freeze": False,
    "llm_conf.freeze": False,
}


def model_dir(folder: Path, encoder: str = "sanm", ctc: bool = True) -> Path:
    """A tiny model directory, made once per folder."""
    path = folder / f"{encoder}-{ctc}"
    return path if path.is_dir() else make_model_dir(path, encoder=encoder, ctc=ctc)


def trainable(
    folder: Path,
    overrides: dict[str, Any] | None = None,
    encoder: str = "sanm",
    ctc: bool = True,
    **options: Any,
) -> FunASRNanoForTraining:
    """The tiny model, prepared with `options`; fresh adapters are the same each time."""
    torch.manual_seed(0)
    model = FunASRNanoForTraining.from_pretrained(model_dir(folder, encoder, ctc), overrides=overrides or {})
    assert isinstance(model, FunASRNanoForTraining)
    model.prepare(**options)
    return model


def batch(model: FunASRNanoForTraining, frames: tuple[int, ...] = (23, 17), seed: int = 1) -> SimpleNamespace:
    """Random features with texts of three units each."""
    generator = torch.Generator().manual_seed(seed)
    size, longest = len(frames), max(frames)
    lengths = torch.tensor(frames)
    speech = torch.randn(size, longest, model.frontend.output_size(), generator=generator)
    speech *= (torch.arange(longest) < lengths[:, None])[..., None]
    counts = model.llm_tokens_of(lengths)
    begin, label_count = 4, 4
    width = begin + int(counts.max()) + label_count
    ids = torch.full((size, width), -1)
    labels, mask = ids.clone(), ids.clone()
    for row, count in enumerate(counts.tolist()):
        end = begin + count + label_count
        ids[row, :end] = torch.randint(97, 122, (end,), generator=generator)
        ids[row, begin : begin + count] = 0
        labels[row, :end] = -100
        labels[row, begin + count : end] = ids[row, begin + count : end]
        mask[row, :end] = 1
    return SimpleNamespace(
        tensors={
            "speech": speech,
            "speech_lengths": lengths[:, None].int(),
            "input_ids": ids,
            "attention_mask": mask.int(),
            "labels_ids": labels,
            "fbank_beg": torch.full((size, 1), begin, dtype=torch.int32),
            "fake_token_len": counts[:, None].int(),
            "ctc_targets": torch.tensor([[97, 97, 98]] * size),
            "ctc_target_lengths": torch.full((size,), 3),
        }
    )
