"""How often each layer is left out in training."""

from __future__ import annotations

MODES = ("linear", "uniform")


def layer_drop_probs(n_layers: int, drop_prob: float, mode: str, start_layer: int) -> list[float]:
    """The share of training steps that leave out layer 0, 1, ...: none before `start_layer`.

    "uniform": `drop_prob` from there on; "linear": rising by equal steps to `drop_prob` at the last layer.
    ValueError names the key. Source: arXiv 2102.03216.
    """
    if not 0.0 <= drop_prob < 1.0:
        raise ValueError(f"stochastic_depth_drop_prob: {drop_prob} is not in [0, 1)")
    if not 1 <= start_layer <= n_layers:
        raise ValueError(f"stochastic_depth_start_layer: {start_layer} is not in 1 ... n_layers {n_layers}")
    if mode not in MODES:
        raise ValueError(f"stochastic_depth_mode: {mode!r}; use {' or '.join(MODES)}")
    count = n_layers - start_layer
    rising = [(layer + 1) / count * drop_prob for layer in range(count)]
    return [0.0] * start_layer + (rising if mode == "linear" else [drop_prob] * count)
