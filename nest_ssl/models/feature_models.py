"""The encoder of any pre-trained model, as a source of features."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from nest_ssl.checkpoints.source import read_source, unwrapped_encoder
from nest_ssl.checkpoints.state import load_state
from nest_ssl.config import build
from nest_ssl.modules.feature_aggregation import (
    Aggregator,
    ConformerMultiLayerFeaturePreprocessor,
    layer_indices,
)
from nest_ssl.modules.targets import TARGETS

SECTIONS = ("preprocessor", "encoder")


def feature_model(
    path: str | os.PathLike,
    layers: Sequence[int] | None = None,
    mode: str = "none",
    weights: Sequence[float] | None = None,
) -> tuple[ConformerMultiLayerFeaturePreprocessor, dict[str, Any]]:
    """Build front end and encoder of the model at `path` (whatever checkpoints.source reads), frozen.

    Gives it in evaluation mode, with the model section that it was built from.  Raises ValueError where the
    sections preprocessor and encoder are missing, or a key of their weights.
    """
    source = read_source(path)
    config = source.config or {}
    for section in SECTIONS:
        if not isinstance(config.get(section), dict):
            raise ValueError(f"{path} states no section {section}; take the model's .nemo or run directory")
    parts = nn.ModuleDict({key: build(config[key], TARGETS, f"model.{key}") for key in SECTIONS})
    state, _ = unwrapped_encoder(source.state)
    prefixes = tuple(f"{section}." for section in SECTIONS)
    load_state(parts, {k: v for k, v in state.items() if k.startswith(prefixes)}, str(path))
    chosen = layer_indices(layers, len(parts["encoder"].layers))  # type: ignore[arg-type]
    aggregator = Aggregator(mode, torch.tensor(weights) if weights else None, chosen)
    model = ConformerMultiLayerFeaturePreprocessor(
        aggregator, parts["preprocessor"], parts["encoder"], layer_idx_list=chosen
    )
    return model.eval(), config
