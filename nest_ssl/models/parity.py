"""`model.parity`: where NeMo's behaviour is a fault that runs, its numbers or the right ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nest_ssl.config import suggestion

# Key -> (NeMo 2's value, the other one).
VALUES: dict[str, tuple[Any, Any]] = {
    "skipped_noise": ("added", "dropped"),
    "noisy_length": ("noise", "audio"),
    "dither": ("in_place", "copy"),
    "batch_norm": ("padded", "valid"),
    "quantizer_autocast": (True, False),
    "masking": ("nemo2", "nemo3"),
    "noise_failure": ("zeros", "error"),
}
NEMO = {key: nemo for key, (nemo, _) in VALUES.items()}
PRESETS = {
    "nemo": NEMO,
    "nemo3": {**NEMO, "masking": "nemo3"},
    "fixed": {key: other for key, (_, other) in VALUES.items() if key != "masking"},
}


@dataclass(frozen=True)
class Parity:
    """What to do about each of NeMo's faults; the defaults are those of a section without `parity`.

    skipped_noise: noise of an item that the batch augmentor skips is "added" as it is, or "dropped".
    noisy_length: noisy audio is as long as its "noise" says, or its "audio".
    dither: noise is added to the caller's waveforms "in_place", so a tensor that is given twice gets it
        twice, or to a "copy".
    batch_norm: training statistics of the encoder are over all frames, "padded" ones too, or "valid" ones.
    quantizer_autocast: autocast has the quantiser's projection (true), or it stays in float32.
    masking: sampler of NeMo 1 and 2, or of NeMo 3 ("nemo3" masks no frame of items shorter than a block, and
        draws on the device).
    noise_failure: where 20 noise recordings in a row cannot be read, noise is "zeros", or that is an "error".
    """

    skipped_noise: str = "added"
    noisy_length: str = "audio"
    dither: str = "in_place"
    batch_norm: str = "padded"
    quantizer_autocast: bool = False
    masking: str = "nemo2"
    noise_failure: str = "error"

    @classmethod
    def from_config(cls, value: Any) -> Parity:
        """From `nemo` (all as NeMo 2), `nemo3` (as NeMo 3), `fixed` (nothing that is a fault), or a mapping.

        A mapping has keys that differ from the defaults; null is the defaults. Raises ValueError naming the
        key.
        """
        if value is None:
            return cls()
        if isinstance(value, str) and value in PRESETS:
            return cls(**PRESETS[value])
        if not isinstance(value, Mapping):
            raise ValueError(f"model.parity: {value!r} is not {', '.join(PRESETS)} or a mapping of keys")
        for key, chosen in value.items():
            if key not in VALUES:
                raise ValueError(f"model.parity.{key} is unknown; {suggestion(str(key), VALUES)}")
            if chosen not in VALUES[key] or isinstance(chosen, bool) != isinstance(VALUES[key][0], bool):
                known = " or ".join(str(v).lower() for v in VALUES[key])
                raise ValueError(f"model.parity.{key}: {chosen!r} is not {known}")
        return cls(**{str(key): chosen for key, chosen in value.items()})

    def of_section(self, section: str) -> dict[str, Any]:
        """The constructor arguments by which a section's module is told."""
        arguments: dict[str, dict[str, Any]] = {
            "preprocessor": {"dither_in_place": self.dither == "in_place"},
            "quantizer": {"autocast": self.quantizer_autocast},
            "masking": {"sampler": self.masking},
            "batch_augmentor": {"skipped_noise": self.skipped_noise, "noisy_length": self.noisy_length},
        }
        return arguments.get(section, {})
