"""Telephone channel simulation: band, level, noise, codecs, losses; drawn per utterance and reproducible.

    from nest_ssl import telephone

    channel = telephone.preset("mobile_amr_nb", overrides={"loss.rate": 0.0})
    received, record = channel(samples, sr=16000, key="utterance 7", seed=17, out_sr=8000)
    channel.replay(samples, record)                     # the same samples again, from what was written down
    mix = telephone.Mix.load("china")                   # the same for a mix of presets
    telephone.run("train.jsonl", "data/telephone", mix, seed=17)             # a corpus
    telephone.upsample("calls.jsonl", "data/calls_16k")                      # real calls, from 8 to 16 kHz
    telephone.noise_bank("train.jsonl", {"music": "music.jsonl"})            # for preset(..., bank=...)

The names are loaded when they are used: importing this package imports nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nest_ssl.telephone.api import Channel, noise_bank, preset, run, upsample
    from nest_ssl.telephone.presets import Mix

__all__ = ["Channel", "Mix", "noise_bank", "preset", "run", "upsample"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{'presets' if name == 'Mix' else 'api'}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
