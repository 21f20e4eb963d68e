"""Disk for the checkpoints, and memory for a batch: estimates by stated formulas, against what is there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nest_ssl.files.system import available_memory
from nest_ssl.models.fun_asr_trainable import trainable_names
from nest_ssl.preflight.context import Context
from nest_ssl.preflight.report import Finding

GB = 1e9
# Values of 4 bytes that a layer keeps for the backward pass, per frame or token: times its width, its hidden
# width, and heads x longest (the encoder's scores) or heads x head width.  Fitted to what
# tests/preflight/test_memory.py measures with saved_tensors_hooks, within 15 %.
ENCODER_WIDTHS, ENCODER_HIDDEN, ENCODER_SCORES = 16.0, 3.0, 3.25
LLM_FROZEN = (3.5, 4.0, 3.0)  # width, heads, hidden: the gradient passes weights that have none
LLM_TRAINED = (7.75, 5.5, 4.0)
OUTPUT_COPIES = 3.0  # logits, their logarithms, their gradient
ENOUGH = 0.9  # of the device's memory
PREFIXES = {"encoder": ("audio_encoder.",), "adaptor": ("audio_adaptor.", "ctc_decoder.", "ctc.")}


@dataclass(frozen=True)
class Memory:
    """Bytes of a training step."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations


def check_memory(context: Context) -> Iterator[Finding]:
    """Estimate the memory of the largest batch and compare it with the device."""
    if not context.shapes or not context.llm_config:
        return
    frames, rows_frames, tokens, targets = largest_batch(context)
    found = estimate(context, frames, rows_frames, tokens, targets)
    there = device_memory(context.device)
    parts = (
        f"weights {found.weights / GB:.2f} GB, gradients {found.gradients / GB:.2f}, AdamW "
        f"{found.optimizer / GB:.2f}, activations about {found.activations / GB:.2f}"
    )
    what = (
        f"a step on {frames} encoder frames and {tokens} LLM tokens needs about {found.total / GB:.2f} GB: "
        f"{parts}"
    )
    if there is None or found.total <= ENOUGH * there:
        room = "" if there is None else f"; {context.device} has {there / GB:.1f} GB"
        yield Finding("note", "RES.memory", what + room)
        return
    fixed = found.total - found.activations
    yield Finding(
        "error" if fixed > there else "warning",
        "RES.memory",
        f"{what}; {context.device} has {there / GB:.1f} GB",
        "Weights and optimiser alone do not fit." if fixed > there else "The largest batch may not fit.",
        "Lower dataset_conf.batch_size and batch_size_token_max (train_conf.accum_grad makes up for it), or "
        "set train_conf.gradient_checkpointing=true.",
    )


def largest_batch(context: Context) -> tuple[int, int, int, int]:
    """Give padded encoder frames of the largest batch, those of its longest row, LLM tokens, label tokens."""
    lengths = context.lengths
    longest = int(np.nanmax(lengths["speech_length"])) if "speech_length" in lengths else 3000
    sequence = (
        int(np.nanmax(lengths["sequence_length"])) if "sequence_length" in lengths else longest // 48 + 128
    )
    text = int(np.nanmax(lengths["text_length"])) if "text_length" in lengths else sequence // 2
    rows = max(1, len(context.training))
    seconds = context.value("dataset_conf.batch_duration")
    by_count = context.value("dataset_conf.batch_type", "token") == "example"
    most = int(
        context.value("dataset_conf.batch_size" if by_count else "dataset_conf.batch_size_sample_max", rows)
    )
    most = min(most, rows)
    size = int(seconds * 100) if seconds else int(context.value("dataset_conf.batch_size", 6000))
    features = longest * most if by_count else min(max(size, longest), longest * most)
    frames = max(1, context.encoder_frames(longest)) * features // max(1, longest)
    cap = context.value("dataset_conf.batch_size_token_max")
    tokens = min(max(sequence, int(cap)), sequence * most) if cap else sequence * most
    return frames, context.encoder_frames(longest), tokens, max(1, tokens * (text + 1) // max(1, sequence))


def estimate(context: Context, frames: int, longest: int, tokens: int, targets: int) -> Memory:
    """Estimate the bytes of a step on a batch.

    frames: padded encoder frames of the batch; longest: of its longest row; tokens: padded LLM tokens;
    targets: labels, for which logits are made.  A layer keeps, per frame, ENCODER_WIDTHS times its width,
    ENCODER_HIDDEN times its hidden width, and ENCODER_SCORES times heads x longest, of 4 bytes; likewise per
    token of the language model.  A part in front of everything that is trained keeps nothing.
    """
    trained, stored = _trained(context), _stored(context)
    per_trained = sum(4 * int(np.prod(context.shapes[name])) for name in trained)
    lora = (
        _lora_values(context) if context.part == "lora" and not any("lora" in name for name in trained) else 0
    )
    per_trained += 4 * lora
    encoder = any(name.startswith("audio_encoder.") for name in trained)
    activations = _encoder_bytes(context, frames, longest) if encoder else 0
    # The gradient passes the language model on its way to whatever lies before it.
    if any(name.startswith(("audio_encoder.", "audio_adaptor.", "llm.")) for name in trained) or lora:
        own = bool(lora) or any(name.startswith("llm.") for name in trained)
        activations += _llm_bytes(context, tokens, targets, own)
    if float(context.value("ctc_weight", 0.0) or 0.0) > 0 and "ctc.ctc_lo.weight" in context.shapes:
        activations += int(4 * OUTPUT_COPIES * frames * context.shapes["ctc.ctc_lo.weight"][0])
    return Memory(stored, per_trained, 2 * per_trained, int(activations))


def _encoder_bytes(context: Context, frames: int, longest: int) -> float:
    conf = context.section("audio_encoder_conf")
    if context.value("audio_encoder") == "ConformerEncoder":
        sizes = (("d_model", 512), ("n_heads", 8), ("n_layers", 17))
        width, heads, layers = (int(conf.get(key, default)) for key, default in sizes)
        hidden = 2 * width * int(conf.get("ff_expansion_factor", 4))
    else:
        sizes = (("output_size", 512), ("attention_heads", 4), ("num_blocks", 50))
        width, heads, layers = (int(conf.get(key, default)) for key, default in sizes)
        layers += int(conf.get("tp_blocks", 20))
        hidden = int(conf.get("linear_units", 2048))
    layer = ENCODER_WIDTHS * width + ENCODER_HIDDEN * hidden + ENCODER_SCORES * heads * longest
    return 4.0 * frames * _layers(context, layers, layer, width)


def _llm_bytes(context: Context, tokens: int, targets: int, trained: bool) -> float:
    conf = context.llm_config
    width, layers = int(conf["hidden_size"]), int(conf["num_hidden_layers"])
    hidden, heads = int(conf["intermediate_size"]), int(conf["num_attention_heads"])
    head = int(conf.get("head_dim") or width // heads)
    widths, scores, hiddens = LLM_TRAINED if trained else LLM_FROZEN
    layer = widths * width + scores * heads * head + hiddens * hidden
    logits = 4.0 * OUTPUT_COPIES * targets * int(conf["vocab_size"])
    return 4.0 * tokens * _layers(context, layers, layer, width) + logits


def _layers(context: Context, count: int, layer: float, width: int) -> float:
    """Give the values that all layers keep; with gradient checkpointing their inputs, and one layer's all."""
    if context.value("train_conf.gradient_checkpointing", False):
        return float(width) * count + layer
    return layer * count


def _trained(context: Context) -> list[str]:
    if context.model is not None:
        return trainable_names(context.model)
    prefixes = PREFIXES.get(context.part or "", ())
    return (
        list(context.shapes)
        if context.part == "all"
        else [n for n in context.shapes if n.startswith(prefixes)]
    )


def _stored(context: Context) -> int:
    if context.model is not None:
        return sum(p.numel() * p.element_size() for p in context.model.parameters())
    return sum(t.numel() * max(4, t.element_size()) for t in (context.state or {}).values())


def _lora_values(context: Context) -> int:
    rank = int(context.value("llm_conf.lora_conf.r", 16))
    targets = context.value("llm_conf.lora_conf.target_modules", ["q_proj", "v_proj"])
    return sum(
        rank * sum(shape)
        for name, shape in context.shapes.items()
        if name.startswith("llm.") and len(shape) == 2 and any(f".{target}." in name for target in targets)
    )


def device_memory(device: torch.device) -> int | None:
    """Give the bytes that a device has free for us; None where that is not to be had."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))
    return available_memory()


def check_disk(context: Context) -> Iterator[Finding]:
    """Compare what the run will write with the space at its folder."""
    if context.out is None or not context.shapes:
        return
    place = _existing(Path(context.out))
    free = shutil.disk_usage(place).free
    values = sum(int(np.prod(context.shapes[name])) for name in _trained(context))
    checkpoint = 12 * values  # weights and two moments of AdamW, fp32
    model = _stored(context)
    kept = max(
        int(context.value("train_conf.keep_nbest_models", 5)),
        int(context.value("train_conf.avg_nbest_model", 1)),
    )
    least, most = 2 * checkpoint + 2 * model, (kept + 2) * checkpoint + 2 * model
    what = (
        f"{place} has {free / GB:.1f} GB free; a checkpoint takes {checkpoint / GB:.2f} GB, {kept} and the "
        f"last are kept, the model takes {model / GB:.2f} GB: up to {most / GB:.1f} GB"
    )
    if free >= most:
        yield Finding("note", "RES.disk", what)
        return
    yield Finding(
        "error" if free < least else "warning",
        "RES.disk",
        what,
        "The run would stop when the disk is full; what was written before stays whole, for a checkpoint is "
        "complete or absent.",
        f"Free space, name another folder, or lower train_conf.keep_nbest_models (now {kept}) and "
        "avg_nbest_model.",
    )


def _existing(path: Path) -> Path:
    """Give the nearest folder that is there."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
