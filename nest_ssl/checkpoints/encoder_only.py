"""The pre-trained part alone: preprocessor and encoder, under the names that downstream models look for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from nest_ssl.checkpoints.source import unwrapped_encoder

PARTS = ("preprocessor", "encoder")

# NeMo restores an archive as a whole model before it takes parts of it.  Of its classes this one, without
# losses, has no weights but these parts'.
TARGET = "nemo.collections.asr.models.ssl_models.SpeechEncDecSelfSupervisedModel"
NO_AUGMENTATION = {
    "_target_": "nemo.collections.asr.modules.SpectrogramAugmentation",
    "freq_masks": 0,
    "time_masks": 0,
    "freq_width": 0,
    "time_width": 0,
}


def encoder_only(
    section: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and state dict of the encoder alone, as a model that NeMo restores strictly.

    Keys are `preprocessor.*` and `encoder.*`, sub-sampling without the wrapper of post_conv models.  Raises
    ValueError if the section or the weights lack one of the two.
    """
    plain, _ = unwrapped_encoder(dict(state))
    kept = {key: tensor for key, tensor in plain.items() if key.split(".")[0] in PARTS}
    for part in PARTS:
        if not section.get(part):
            raise ValueError(f"the configuration has no section {part}; it has {', '.join(section)}")
    if not any(key.startswith("encoder.") for key in kept):
        raise ValueError(f"there is no encoder among the weights; they begin {', '.join(list(state)[:3])}")
    rate = section.get("sample_rate") or section["preprocessor"].get("sample_rate", 16000)
    config = {"sample_rate": rate, **{part: section[part] for part in PARTS}}
    return {**config, "spec_augment": dict(NO_AUGMENTATION), "loss_list": {}, "target": TARGET}, kept
