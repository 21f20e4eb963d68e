"""What a model gives for a batch, ours beside NeMo's."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from nemo_comparison.table import ACTIVATIONS, GRADIENTS, LOSS, difference_of, state_difference


def forward(
    model: torch.nn.Module, batch: SimpleNamespace, seed: int | None = None, mask: bool = True
) -> tuple[Tensor, ...]:
    """The four outputs; on copies, for dither is added in place."""
    if seed is not None:
        torch.manual_seed(seed)
    with contextlib.nullcontext() if model.training else torch.no_grad():
        return model(
            input_signal=batch.audio.clone(),
            input_signal_length=batch.audio_len,
            noisy_input_signal=batch.noisy_audio.clone(),
            noisy_input_signal_length=batch.noisy_audio_len,
            apply_mask=mask,
        )


def loss_of(model: Any, outputs: tuple[Tensor, ...]) -> Tensor:
    log_probs, encoded_len, masks, tokens = outputs
    return model.loss(masks=masks, decoder_outputs=log_probs, targets=tokens, decoder_lengths=encoded_len)


def output_rows(results: list[tuple[Tensor, ...]]) -> Iterator[tuple[str, float, float, str]]:
    """(what, difference, tolerance, note): log_probs closely; encoded_len, masks and tokens exactly."""
    (log_probs, *exact), (expected, *expected_exact) = results
    yield "log_probs", difference_of(log_probs, expected), ACTIVATIONS, f"{tuple(expected.shape)}"
    differing = [difference_of(a, b) for a, b in zip(exact, expected_exact, strict=True)]
    masked = expected_exact[1].double().mean().item()
    yield "lengths, masks, tokens", max(differing), 0.0, f"{masked:.0%} masked"


def step_rows(
    ours: Any, nemo: Any, batch: SimpleNamespace, seed: int
) -> Iterator[tuple[str, float, float, str]]:
    """(what, difference, tolerance, note) of one forward and backward of both in training mode."""
    ours.train()
    nemo.train()
    states = [{n: v.clone() for n, v in model.state_dict().items()} for model in (ours, nemo)]
    yield from output_rows([forward(model, batch, seed) for model in (ours, nemo)])
    for model, state in zip((ours, nemo), states, strict=True):
        model.load_state_dict(state)  # the forward moved the batch statistics
    torch.manual_seed(seed)
    loss_sum, weight, _ = ours.training_loss(copy.deepcopy(batch))
    expected = loss_of(nemo, forward(nemo, batch, seed))
    if math.isnan(expected):
        yield "loss", abs(float(loss_sum)) + float(weight), 0.0, "nothing masked: NeMo's is NaN, ours 0"
        return
    loss = loss_sum / weight
    yield "loss", abs(loss.item() / expected.item() - 1), LOSS, f"{expected:.4f}"
    loss.backward()
    expected.backward()
    found, wanted = ({n: p.grad for n, p in m.named_parameters() if p.grad is not None} for m in (ours, nemo))
    yield "parameters with a gradient", float(len(found.keys() ^ wanted.keys())), 0.0, f"{len(wanted)}"
    largest = max(g.abs().max().item() for g in wanted.values())
    difference = max(difference_of(found[n], g) for n, g in wanted.items())
    yield "gradients", difference / largest, GRADIENTS, f"largest {largest:.2g}"
    found, wanted = ({n: b for n, b in m.named_buffers() if "batch_norm" in n} for m in (ours, nemo))
    yield "batch statistics", state_difference(found, wanted), ACTIVATIONS, f"{len(wanted)}"
