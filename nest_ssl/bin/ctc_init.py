"""What a CTC model starts from: the encoder of a pre-trained model, in any form it is kept in."""

from __future__ import annotations

from typing import Any

from nest_ssl.checkpoints.source import read_source, unwrapped_encoder
from nest_ssl.checkpoints.state import LoadAccount, load_state
from nest_ssl.models.ctc_models import EncDecCTCModelBPE

TAKEN = ("encoder.", "preprocessor.")


def initial_sections(path: str) -> dict[str, Any]:
    """The sections `preprocessor` and `encoder` of the model at `path`; ValueError if it states none."""
    config = read_source(path).config
    if not config or not all(isinstance(config.get(key), dict) for key in ("preprocessor", "encoder")):
        raise ValueError(f"{path} states no sections preprocessor and encoder; take a .nemo of the model")
    return {key: config[key] for key in ("preprocessor", "encoder")}


def load_initial_weights(model: EncDecCTCModelBPE, path: str) -> LoadAccount:
    """Copy encoder and preprocessor from the model at `path`; every key of both must be there and fit."""
    state, _ = unwrapped_encoder(read_source(path).state)
    taken = {key: value for key, value in state.items() if key.startswith(TAKEN)}
    return load_state(model, taken, path, allowed_missing=("decoder.",))
