"""The legs of a call: a codec with its parameters, its loss and how often it is there at all.

    {codec: amr_nb, kbps: {12.2: .6, 4.75: .4}, dtx: true, loss: {probability: 1}}  a leg
    {probability: .8, codec: g711a, gain_db: {min: -3, max: 0}}                   a tandem leg, 80 % of calls
    {one_of: [{weight: .7, codec: g711}, {weight: .3, codec: amr_nb}]}              alternatives

Keys: codec, probability, gain_db (before the codec), loss; every other key is a parameter of the codec.  The
codec g711 is the law of the network (`law` of the channel).  The recorder is a leg without loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nest_ssl.telephone.codecs import codec
from nest_ssl.telephone.codecs.base import CodecMissing
from nest_ssl.telephone.draws import (
    check_draw,
    check_number,
    check_probability,
    check_weights,
    draw,
    happens,
    is_choice,
    nearest,
    weighted,
)
from nest_ssl.telephone.loss import check_loss, draw_loss

LAW = {"g711": {"a": "g711a", "u": "g711u"}}  # codecs whose kind the network decides
MAX_GAIN_DB = 30.0


@dataclass(frozen=True)
class Alternative:
    """One codec that a leg may be."""

    codec: str
    parameters: Mapping[str, Any]
    loss: Mapping[str, Any] | None

    def codecs(self) -> tuple[str, ...]:
        """Give the codecs this may be, by the law of the network."""
        return tuple(LAW[self.codec].values()) if self.codec in LAW else (self.codec,)


@dataclass(frozen=True)
class Leg:
    """A stretch of the call, drawn anew for each utterance."""

    probability: float
    gain_db: Any
    alternatives: tuple[Alternative, ...]
    weights: Mapping[int, float]

    def draw(
        self, stream: Callable[[str], np.random.Generator], name: str, law: str
    ) -> dict[str, Any] | None:
        """Give the codec with its values, or None for a call without this leg.

        stream: gives the random numbers of a stage; `name` is this leg's.
        """
        rng = stream(name)
        if not happens(rng, self.probability):
            return None
        chosen = self.alternatives[weighted(rng, self.weights)]
        coder = LAW[chosen.codec][law] if chosen.codec in LAW else chosen.codec
        gain_db = draw(rng, self.gain_db)
        parameters = {key: draw(rng, chosen.parameters[key]) for key in sorted(chosen.parameters)}
        loss = draw_loss(stream(f"{name}/loss"), chosen.loss) if chosen.loss else None
        return {
            "codec": coder,
            "parameters": parameters,
            "gain_db": gain_db,
            "loss": loss,
            "version": codec(coder).version(),
        }

    def codecs(self) -> set[str]:
        """Give the codecs that this leg may have."""
        return {name for alternative in self.alternatives for name in alternative.codecs()}

    def missing(self) -> list[str]:
        """Give a line for every codec whose library is not here, with the way to install it."""
        lines = []
        for number, alternative in enumerate(self.alternatives):
            if self.probability > 0 and self.weights[number] > 0:
                for name in alternative.codecs():
                    try:
                        codec(name).check()
                    except CodecMissing as error:
                        lines.append(str(error))
        return lines


def read_leg(settings: Any, where: str, loss_defaults: Mapping[str, Any] | None) -> Leg:
    """Give the leg that a mapping of the YAML describes; ValueError naming the key for what is impossible.

    `loss_defaults`: what a leg's `loss` starts from; None for the recorder, which loses nothing.
    """
    if not isinstance(settings, Mapping):
        raise ValueError(f"{where}: a leg is a mapping such as {{codec: g711a}}, not {settings!r}")
    values = dict(settings)
    probability = check_probability(values.pop("probability", 1.0), f"{where}.probability")
    gain_db = values.pop("gain_db", 0.0)
    check_draw(gain_db, f"{where}.gain_db", -MAX_GAIN_DB, MAX_GAIN_DB)
    if "one_of" not in values:
        return Leg(probability, gain_db, (_alternative(values, where, loss_defaults),), {0: 1.0})
    choices = values.pop("one_of")
    if values:
        key = next(iter(values))
        raise ValueError(f"{where}.{key}: stands beside one_of; write it into each alternative of one_of")
    if not isinstance(choices, list) or not choices:
        raise ValueError(f"{where}.one_of: must be a list such as [{{weight: 1, codec: g711a}}]")
    alternatives, weights = [], {}
    for number, choice in enumerate(choices):
        here = f"{where}.one_of.{number}"
        if not isinstance(choice, Mapping) or "weight" not in choice:
            raise ValueError(f"{here}: must be a mapping with a weight and a codec, not {choice!r}")
        weights[number] = check_number(choice["weight"], f"{here}.weight", 0.0)
        rest = {key: value for key, value in choice.items() if key != "weight"}
        alternatives.append(_alternative(rest, here, loss_defaults))
    check_weights(weights, f"{where}.one_of")
    return Leg(probability, gain_db, tuple(alternatives), weights)


def _alternative(
    values: Mapping[str, Any], where: str, loss_defaults: Mapping[str, Any] | None
) -> Alternative:
    if "codec" not in values:
        raise ValueError(f"{where}.codec: is missing")
    parameters = {key: value for key, value in values.items() if key not in ("codec", "loss")}
    loss = values.get("loss")
    if loss is not None:
        if loss_defaults is None:
            raise ValueError(f"{where}.loss: a recorder loses no packets")
        if not isinstance(loss, Mapping):
            raise ValueError(f"{where}.loss: must change keys of channel.loss, or be {{}}, not {loss!r}")
        loss = {**loss_defaults, **loss}
        check_loss(loss, f"{where}.loss")
    alternative = Alternative(values["codec"], parameters, loss)
    for name in alternative.codecs():
        _check_codec(name, parameters, where)
    return alternative


def _check_codec(name: Any, parameters: Mapping[str, Any], where: str) -> None:
    try:
        coder = codec(name)
    except ValueError as error:
        raise ValueError(f"{where}.codec: {error}") from error
    for key, setting in parameters.items():
        here = f"{where}.{key}"
        if key not in coder.choices:
            raise ValueError(f"{here}: the codec {name} has no such parameter{nearest(key, coder.choices)}")
        allowed = coder.choices[key]
        check_draw(setting, here, allowed=allowed or None)
        values = [setting]
        if is_choice(setting):
            values = list(setting)
        elif isinstance(setting, Mapping):
            values = [setting["min"], setting["max"]]
        for value in values:
            try:
                coder.check_parameters({key: value})
            except ValueError as error:
                raise ValueError(f"{here}: {error}") from error
