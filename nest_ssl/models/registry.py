"""Which class builds the model of a configuration or an archive; one table for all of them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

NEMO = "nemo.collections.asr.models"

# Class -> (our module, NeMo's module).  Another model is another line; modules are imported when asked for.
CLASSES = {
    "EncDecDenoiseMaskedTokenPredModel": ("nest_ssl.models.denoise_model", f"{NEMO}.ssl_models"),
    "EncDecMaskedTokenPredModel": ("nest_ssl.models.masked_token_model", f"{NEMO}.ssl_models"),
    "SpeechEncDecSelfSupervisedModel": ("nest_ssl.models.self_supervised_model", f"{NEMO}.ssl_models"),
    "EncDecCTCModelBPE": ("nest_ssl.models.ctc_models", f"{NEMO}.ctc_bpe_models"),
}
OUR_HOME = "nest_ssl.models.ssl_models"  # where users import the self-supervised ones from
NEST = "EncDecDenoiseMaskedTokenPredModel"


def names_of(class_name: str) -> tuple[str, ...]:
    """The values of `target` that mean a class; the first is the one that archives carry."""
    ours, nemo = CLASSES[class_name]
    homes = dict.fromkeys((nemo, NEMO, ours, OUR_HOME))
    return (*(f"{home}.{class_name}" for home in homes), class_name)


TARGETS = {name: class_name for class_name in CLASSES for name in names_of(class_name)}


def model_class(target: str) -> type[Any] | None:
    """The class that `target` means, a dotted name of NeMo's or ours or a bare one; None if there is none."""
    class_name = TARGETS.get(target)
    if class_name is None:
        return None
    return getattr(importlib.import_module(CLASSES[class_name][0]), class_name)


def model_class_of(section: Mapping[str, Any]) -> type[Any]:
    """The class for a `model:` section: what its `target` says, else what its parts are made for.

    NeMo's scripts each know their class, so their YAMLs need not say it: with a quantizer it is NEST, with
    `loss_list`, or without quantizer, the contrastive model. Raises ValueError for an unknown target.
    """
    target = section.get("target")
    if target is None:
        is_nest = section.get("quantizer") is not None and section.get("loss_list") is None
        target = NEST if is_nest else "SpeechEncDecSelfSupervisedModel"
    found = model_class(str(target))
    if found is None:
        raise ValueError(f"model.target: {target!r} is not supported; known: {', '.join(CLASSES)}")
    return found
