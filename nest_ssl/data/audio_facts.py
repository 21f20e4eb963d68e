"""What the annotation rules need to know of a stretch of audio, measured in one decoding."""

from __future__ import annotations

import os
from typing import Any

from nest_ssl.files.audio import Channel


def audio_facts(
    path: str | os.PathLike,
    offset: float | None = None,
    duration: float | None = None,
    channel: Channel = None,
) -> dict[str, Any]:
    """Measure the audio of a row; never raises for bad audio, but says so in "error".  JSON-able.

    error: str | None (then only it, and what the header gave, are there); sample_rate Hz; channels;
    file_duration: s, of the whole file; duration: s, exact, of what could be read of the segment;
    num_samples; active_level_dbov: P.56, None for silence; activity: share of the time, 0 to 1; active_s;
    dynamics_db: between the quiet and the loud 20-ms frames (5th and 95th percentile), None below 3 frames;
    peak: 0 to 1; clipped_share: samples at or above 0.98 of full scale (G.711 ends there);
    digital_silence_share: of 20-ms frames in which all samples are equal; digest: of the 16-bit samples, hex.
    """
    raise NotImplementedError
