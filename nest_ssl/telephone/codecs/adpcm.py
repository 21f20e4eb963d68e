"""ADPCM of call recorders, by libsndfile: IMA (WAV files) and VOX (Dialogic boards), 4 bits a sample."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import soundfile

from nest_ssl.telephone.codecs.base import CodecMissing, check_choices
from nest_ssl.telephone.codecs.frames import refuse_loss
from nest_ssl.telephone.codecs.native import whole_frames

RATE = 8000


class _Stored:
    """A file format of libsndfile, written and read in memory."""

    name: str
    file_format: str
    subtype: str
    sample_rate = RATE
    frame_samples = 160
    delay_samples = 0.0
    choices: Mapping[str, tuple[Any, ...]] = {}

    def check(self) -> None:
        if not soundfile.check_format(self.file_format, self.subtype):
            raise CodecMissing(
                f"{self.name}: libsndfile {soundfile.__libsndfile_version__} cannot write {self.subtype} in "
                f"{self.file_format}; install soundfile's own wheel, which can: pip install soundfile"
            )

    def check_parameters(self, parameters: Mapping[str, Any]) -> None:
        check_choices(self, parameters)

    def route(self) -> str:
        return f"{self.file_format} {self.subtype} through soundfile"

    def version(self) -> str:
        return f"libsndfile {soundfile.__libsndfile_version__}"

    def encode_decode(
        self, samples: np.ndarray, parameters: Mapping[str, Any], lost: np.ndarray | None = None
    ) -> np.ndarray:
        self.check_parameters(parameters)
        refuse_loss(self.name, lost)
        if len(samples) == 0:
            return np.zeros(0, np.int16)
        return self.read(self.store(samples))[: len(samples)]

    def store(self, samples: np.ndarray) -> io.BytesIO:
        """Give a file, open at its beginning, of int16 (T,), T > 0."""
        stored = io.BytesIO()
        whole = whole_frames(samples, 2)  # libsndfile writes VOX in pairs, and fails for half a byte
        soundfile.write(stored, whole, RATE, format=self.file_format, subtype=self.subtype)
        stored.seek(0)
        return stored

    def read(self, stored: io.BytesIO) -> np.ndarray:
        """Give int16 (at least T,): the last block is filled up."""
        return soundfile.read(stored, dtype="int16")[0]


class ImaAdpcm(_Stored):
    """IMA ADPCM in WAV blocks of 256 bytes."""

    name, file_format, subtype = "ima_adpcm", "WAV", "IMA_ADPCM"


class VoxAdpcm(_Stored):
    """VOX ADPCM, 12 bits of resolution, no header."""

    name, file_format, subtype = "vox_adpcm", "RAW", "VOX_ADPCM"

    def read(self, stored: io.BytesIO) -> np.ndarray:
        return soundfile.read(
            stored, dtype="int16", format="RAW", subtype=self.subtype, samplerate=RATE, channels=1
        )[0]
