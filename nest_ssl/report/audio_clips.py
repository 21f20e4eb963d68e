"""Short pieces of audio inside a page, as data URIs: no file beside it, nothing to fetch."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from nest_ssl.files.audio import audio_info, read_audio

# FLAC: lossless, so that one hears what the recogniser heard, half of WAV's bytes, and played by Chrome,
# Edge, Firefox and Safari (since 11). MP3 is a third of it, but adds a codec to what a codec is judged by.
MIME = "audio/flac"
LARGEST_RATE = 16000  # Hz, what the models read; more is resampled


@dataclass(frozen=True)
class Clip:
    """Audio for a player; `uri` is empty where there is none, and `note` says why, or what was cut."""

    uri: str
    duration_s: float = 0.0
    note: str = ""


class ClipBox:
    """Makes clips until the bytes that they take in the page are used up."""

    def __init__(self, most_bytes: int = 3_000_000, longest_s: float = 12.0) -> None:
        self.left_bytes = most_bytes
        self.longest_s = longest_s

    def clip(self, path: Path, offset_s: float = 0.0, duration_s: float | None = None) -> Clip:
        """Give an utterance, or its beginning, at the rate of its file up to LARGEST_RATE, channels averaged.

        offset_s, duration_s: the part of the file that the utterance is; None: all that follows.
        Nothing is raised: a file that is gone or damaged gives a clip without audio and the reason.
        """
        try:
            if not path.is_file():
                return Clip("", note=f"the audio file is gone: {path}")
            info = audio_info(path)
            whole_s = info.duration_s - offset_s
            if duration_s:
                whole_s = min(whole_s, duration_s)
            shown_s = min(whole_s, self.longest_s)
            rate = min(info.sample_rate, LARGEST_RATE)
            samples, rate = read_audio(path, rate, offset_s, shown_s, channel="average")
        except (OSError, ValueError) as error:
            return Clip("", note=f"the audio cannot be read: {error}")
        uri = data_uri(samples, rate)
        if len(uri) > self.left_bytes:
            return Clip("", note=f"no player, to keep this page small; the audio is {path}")
        self.left_bytes -= len(uri)
        notes = [f"the first {shown_s:g} s of {whole_s:.1f} s"] if whole_s > shown_s + 0.05 else []
        notes += [f"{info.channels} channels mixed"] if info.channels > 1 else []
        return Clip(uri, len(samples) / rate, "; ".join(notes))


def data_uri(samples: np.ndarray, sample_rate: int) -> str:
    """Give float (T,) samples in [-1, 1] as a data URI of 16-bit FLAC; what is beyond is clipped."""
    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1.0, 1.0), sample_rate, format="FLAC", subtype="PCM_16")
    return f"data:{MIME};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
