"""Gradient checkpointing: a layer computed again in the backward pass instead of kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(layer: nn.Module, *arguments: Any, **keywords: Any) -> Tensor:
    """Call `layer` so that its activations are computed again when gradients are.

    Dropout draws the same numbers the second time, and batch norms keep their running statistics then: they
    would count the batch twice.
    """
    result: Tensor = checkpoint(
        layer,
        *arguments,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _statistics_kept(layer)),
        **keywords,
    )
    return result


@contextmanager
def _statistics_kept(layer: nn.Module) -> Iterator[None]:
    norms = [m for m in layer.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    counted = [None if n.num_batches_tracked is None else n.num_batches_tracked.clone() for n in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counted, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and count is not None:
                norm.num_batches_tracked.copy_(count)
