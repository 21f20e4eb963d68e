"""One forward and backward pass on rows of the data, after which the model is what it was before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from nest_ssl.data.fun_asr_batch import collate
from nest_ssl.preflight.context import SMALL, Context
from nest_ssl.preflight.rows import Row


def probe_of(
    model: Any, dataset: Any, device: torch.device | None = None
) -> Callable[[Sequence[Row]], float]:
    """Give what `Context.probe` is: rows -> the mean loss of their batch, forward and backward.

    model: with training_loss(batch) -> (sum, weight, statistics), or FunASR's forward(**batch).  dataset: the
    training data's MessagesDataset.  Weights, buffers, gradients, mode and random state are left as they
    were, bit for bit.
    """
    places = {dataset.corpus.place(i): i for i in range(len(dataset.corpus))}

    def probe(rows: Sequence[Row]) -> float:
        samples = [dataset.sample(places[row.place], 0)[0] for row in rows if row.place in places]
        if not samples:
            raise ValueError("the data leave this row out, by a limit")
        batch = collate(samples)
        where = device or next(model.parameters()).device
        return passed(model, batch.to(where))

    return probe


def passed(model: Any, batch: Any) -> float:
    """Run one batch forward and backward and give the mean loss; the model is left as it was."""
    modes = {module: module.training for module in model.modules()}
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=devices), torch.enable_grad():
            for parameter in model.parameters():
                parameter.grad = None
            model.train()
            if hasattr(model, "training_loss"):
                total, weight, _ = model.training_loss(batch)
                loss = total / weight.clamp(min=1)
            else:
                loss = model(**batch.tensors)[0].mean()
            if loss.requires_grad:
                loss.backward()
            return float(loss.detach())
    finally:
        for name, parameter in model.named_parameters():
            parameter.grad = gradients[name]
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in buffers:
                    buffer.copy_(buffers[name])
        for module, mode in modes.items():
            module.training = mode


def wanted(context: Context) -> str | None:
    """Give why no probe is to run; None where one is."""
    asked = context.options.probe
    if asked is False:
        return "switched off"
    if context.model is None:
        return "no model was built"
    if any(parameter.is_meta for parameter in context.model.parameters()):
        return "the weights are too large to be copied for a check; --probe does it, a GPU passes in seconds"
    if context.probe is None:
        return "no training data to run it on"
    if asked is None and context.device.type == "cpu" and (context.num_parameters or 0) > SMALL:
        return (
            f"{context.num_parameters:,} parameters on a CPU would take minutes; --probe runs it all the "
            "same, a GPU does in seconds"
        )
    return None
