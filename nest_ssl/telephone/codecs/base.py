"""What every codec offers the channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np


class CodecMissing(ValueError):
    """The library behind a codec is not here; the message says how to install it."""


class Codec(Protocol):
    """A speech codec as a round trip: what a listener at the other end of the line gets.

    `parameters` of its methods maps names to values of JSON types, for example {"kbps": 12.2, "dtx": true};
    what is absent takes the default.  They are written into the manifest, so they and the library's version
    decide every bit of the output.
    """

    name: str
    sample_rate: int  # Hz, of the samples it takes and gives
    frame_samples: int  # what is lost at once; 160 (20 ms) for codecs that work sample by sample
    delay_samples: float  # of encoder and decoder together; encode_decode takes out the nearest whole number
    choices: Mapping[str, tuple[Any, ...]]  # parameter -> allowed values, the default first; () for a number

    def check(self) -> None:
        """Raise CodecMissing, with the way to install it, if the library behind the codec is not here."""

    def check_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Raise ValueError that names the parameter, its value and the allowed ones."""

    def route(self) -> str:
        """Say how the codec is reached, for people: own tables, a package, a library file through ctypes."""

    def version(self) -> str:
        """Name the implementation and its version, for the manifest."""

    def encode_decode(
        self, samples: np.ndarray, parameters: Mapping[str, Any], lost: np.ndarray | None = None
    ) -> np.ndarray:
        """Give int16 (T,) as decoded after coding int16 (T,), with the codec's own delay taken out.

        lost: bool (ceil(T / frame_samples),), True for frames that did not arrive: the decoder conceals them
        as its standard or its usual implementation does; None if all arrived.  The input is not changed.
        """


def check_choices(codec: Codec, parameters: Mapping[str, Any]) -> None:
    """Raise ValueError for a parameter the codec has not or a value outside its `choices`.

    Where `choices` is empty (a number), the codec itself checks the value.
    """
    for name, value in parameters.items():
        if name not in codec.choices:
            known = ", ".join(codec.choices) or "none"
            raise ValueError(f"{codec.name}: {name!r} (value {value!r}) is no parameter; known are {known}")
        allowed = codec.choices[name]
        same_kind = [choice for choice in allowed if isinstance(choice, bool) == isinstance(value, bool)]
        if allowed and value not in same_kind:
            values = ", ".join(repr(choice) for choice in allowed)
            raise ValueError(f"{codec.name}: {name} must be one of {values}, not {value!r}")
