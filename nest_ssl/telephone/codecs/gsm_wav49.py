"""GSM 06.10 as call recorders store it: WAV files of "GSM 6.10", two frames to 65 bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nest_ssl.telephone.codecs.base import check_choices
from nest_ssl.telephone.codecs.frames import refuse_loss
from nest_ssl.telephone.codecs.gsm import GsmFullRate


class GsmWav49:
    """The coder of gsm_fr: only the packing of its bits differs, so what is read back is the same."""

    name = "gsm_wav49"
    sample_rate = 8000
    frame_samples = 160
    delay_samples = 0.0
    choices: Mapping[str, tuple[Any, ...]] = {}

    def __init__(self) -> None:
        self._coder = GsmFullRate()

    def check(self) -> None:
        self._coder.check()

    def check_parameters(self, parameters: Mapping[str, Any]) -> None:
        check_choices(self, parameters)

    def route(self) -> str:
        return self._coder.route()

    def version(self) -> str:
        return self._coder.version()

    def encode_decode(
        self, samples: np.ndarray, parameters: Mapping[str, Any], lost: np.ndarray | None = None
    ) -> np.ndarray:
        self.check_parameters(parameters)
        refuse_loss(self.name, lost)
        return self._coder.encode_decode(samples, {})
