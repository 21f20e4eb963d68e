"""Telephone channels drawn anew in every epoch: the section `telephone` of a data set."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nest_ssl.config import suggestion
from nest_ssl.files.index import ManifestIndex
from nest_ssl.telephone.chain import apply_channel, draw_channel
from nest_ssl.telephone.codecs import codec
from nest_ssl.telephone.noise import NoiseBank
from nest_ssl.telephone.presets import CONFIG, Mix
from nest_ssl.telephone.row_table import scan_talkers
from nest_ssl.telephone.seed import SCHEMA, generator

DEFAULTS: dict[str, Any] = {
    "mix": "default",
    "prob": 1.0,
    "apply_to": None,
    "config": None,
    "noise_manifest": None,
    "talkers": None,
    "missing": "refuse",
}
MISSING = ("refuse", "drop")

log = logging.getLogger(__name__)


class TelephoneChannel:
    """Sends an utterance through a telephone channel or not; what is drawn is f(seed, epoch, utterance).

    mix: the channels to draw from; bank: where their noise comes from; probability: of any channel at all;
    apply_to: the signals of a batch that go through it, ("noisy",), ("audio", "noisy") or ("audio",);
    seed: of the run; sample_rate: Hz, of the signals.
    """

    def __init__(
        self,
        mix: Mix,
        bank: NoiseBank,
        probability: float,
        apply_to: tuple[str, ...],
        seed: int,
        sample_rate: int,
        facts: Mapping[str, Any],
    ) -> None:
        self.mix = mix
        self.bank = bank
        self.probability = probability
        self.apply_to = apply_to
        self.seed = seed
        self.sample_rate = sample_rate
        self.facts = dict(facts)  # for fingerprints: a run does not go on with another channel

    def draw(self, utterance_id: str, key: str, epoch: int) -> dict[str, Any] | None:
        """Give the channel of an utterance in an epoch, or None; babble takes other keys than `key`."""
        if generator(self.seed, utterance_id, epoch, "apply").random() >= self.probability:
            return None
        return draw_channel(self.mix, self.bank, self.seed, utterance_id, key, epoch)

    def apply(self, samples: np.ndarray, drawn: Mapping[str, Any]) -> np.ndarray:
        """Give (T,) float32 as it comes out of the channel, in time with (T,) float32 as it goes in."""
        heard, _ = apply_channel(samples, self.sample_rate, drawn, self.bank, self.sample_rate)
        return heard.astype(np.float32) / np.float32(32768.0)


def telephone_from_config(
    section: Mapping[str, Any] | None, sample_rate: int, seed: int, choices: tuple[str, ...], name: str
) -> TelephoneChannel | None:
    """Build the channel that a section with the keys of DEFAULTS describes; None for no section.

    choices: values of apply_to that the data set knows, its default first.  Raises ValueError naming the key
    for an unknown one, a wrong value, an unknown mix, and a codec whose library is not here (missing: drop
    leaves the presets out that need it).
    """
    if not section:
        return None
    if not isinstance(section, Mapping):
        raise ValueError(f"{name} must be a section with mix and prob, not {section!r}")
    for key in section:
        if key not in DEFAULTS:
            raise ValueError(f"{name}.{key} is no option; {suggestion(str(key), list(DEFAULTS))}")
    options = DEFAULTS | {key: value for key, value in section.items() if value is not None}
    probability = options["prob"]
    number = isinstance(probability, int | float) and not isinstance(probability, bool)
    if not number or not 0 <= probability <= 1:
        raise ValueError(f"{name}.prob must be a number from 0 to 1, not {probability!r}")
    apply_to = options["apply_to"] or choices[0]
    if apply_to not in choices:
        raise ValueError(f"{name}.apply_to must be one of {', '.join(choices)}, not {apply_to!r}")
    if options["missing"] not in MISSING:
        raise ValueError(f"{name}.missing must be one of {', '.join(MISSING)}, not {options['missing']!r}")
    config = Path(options["config"]) if options["config"] else CONFIG
    try:
        mix = Mix.load(options["mix"], config)
        if options["missing"] == "drop":
            mix = mix.without_missing()
        mix.check()
    except (ValueError, OSError) as error:
        raise ValueError(f"{name}: {error}") from error
    bank, sources = _bank(mix, options, name)
    facts = {
        "schema": SCHEMA,
        "mix": mix.settings(),
        "versions": {name: codec(name).version() for name in sorted(mix.codecs())},
        "prob": probability,
        "apply_to": apply_to,
        "noise": sources,
    }
    signals = ("audio", "noisy") if apply_to == "both" else (apply_to,)
    return TelephoneChannel(mix, bank, float(probability), signals, seed, sample_rate, facts)


def _bank(mix: Mix, options: Mapping[str, Any], name: str) -> tuple[NoiseBank, dict[str, str]]:
    """Open the sources of noise; gives them, and by kind what they depend on."""
    given = options["noise_manifest"] or {}
    if isinstance(given, str | Path):
        given = {"music": given}
    if not isinstance(given, Mapping):
        raise ValueError(f"{name}.noise_manifest must be a manifest, or manifests by kind, not {given!r}")
    recordings, sources = {}, {}
    for kind, manifest in given.items():
        recordings[str(kind)] = ManifestIndex.open(Path(str(manifest)).expanduser())
        if not len(recordings[str(kind)]):
            raise ValueError(f"{name}.noise_manifest: {manifest} has no rows")
        sources[str(kind)] = recordings[str(kind)].fingerprint()
    talkers = None
    if options["talkers"]:
        index = ManifestIndex.open(Path(str(options["talkers"])).expanduser())
        sources["babble"] = index.fingerprint()
        _, talkers = scan_talkers(index, distinct=False)  # rows of a training set may come twice
    bank = NoiseBank(talkers, recordings)
    without = sorted(mix.noise_kinds() - set(bank.kinds))
    if without:
        log.warning(
            "%s: noise of the kinds %s is left out, the others are drawn in its place: give %s.talkers (a "
            "manifest of speech) for babble, %s.noise_manifest for recordings",
            name, ", ".join(without), name, name,
        )  # fmt: skip
    return bank, sources
