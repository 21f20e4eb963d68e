"""What a telephone channel did to one utterance: spectrograms before and after, and the channel in words."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from nest_ssl.files.audio import read_audio
from nest_ssl.files.manifest import read_rows
from nest_ssl.files.rows import audio_path, row_id
from nest_ssl.report.audio_clips import LARGEST_RATE, Clip, ClipBox
from nest_ssl.report.plots import HEIGHT, WIDTH

WINDOW_MS, HOP_MS = 25.0, 10.0
RANGE_DB = 70.0  # below the loudest point; what is softer is drawn as silence
LONGEST_S = 8.0
ROWS_LOOKED_AT = 2000  # of the simulated manifest, for an example

Example = tuple[Mapping[str, Any], Mapping[str, Any]]


@dataclass(frozen=True)
class ChannelSide:
    """One utterance on one side of the channel; `picture` is SVG, empty where the audio could not be read."""

    title: str
    clip: Clip
    picture: str


def choose_example(source_manifest: Path, simulated_manifest: Path) -> Example:
    """Give (source row, simulated row), joined by source_id, of an utterance on which the channel shows.

    Of the first ROWS_LOOKED_AT rows with a channel it is the one with most impairments that lasts 2 to 7 s.
    The audio_filepath of both is made absolute. Raises FileNotFoundError, and ValueError where no row of the
    simulated manifest has its source in the other.
    """
    rows = [
        row
        for _, row in islice(read_rows(simulated_manifest), ROWS_LOOKED_AT)
        if isinstance(row.get("channel"), Mapping) and row.get("source_id")
    ]
    wanted = {str(row["source_id"]) for row in rows}
    sources = {}
    for _, row in read_rows(source_manifest):
        name = row_id(row)
        if name in wanted and name not in sources:
            sources[name] = row
            if len(sources) == len(wanted):
                break
    pairs = [(sources[str(row["source_id"])], row) for row in rows if str(row["source_id"]) in sources]
    if not pairs:
        raise ValueError(
            f"{simulated_manifest}: none of its first {ROWS_LOOKED_AT} rows has a channel and a source_id "
            f"that is an id in {source_manifest}; give the manifest that was simulated from, "
            "and the one that came out"
        )
    source, simulated = max(pairs, key=lambda pair: _telling(pair[1]))  # of equals the first
    return (
        {**source, "audio_filepath": str(audio_path(source, Path(source_manifest)).resolve())},
        {**simulated, "audio_filepath": str(audio_path(simulated, Path(simulated_manifest)).resolve())},
    )


def _telling(row: Mapping[str, Any]) -> tuple[bool, int]:
    duration = row.get("duration")
    fits = isinstance(duration, int | float) and 2.0 <= duration <= 7.0
    return fits, len(channel_facts(row["channel"]))


def channel_sides(example: Example, clips: ClipBox) -> list[ChannelSide]:
    """Give both sides of the channel, their spectrograms over the same seconds and Hz."""
    read = []
    for row in example:
        try:
            offset_s, duration_s = _part(row)
            shown_s = min(duration_s or LONGEST_S, LONGEST_S)
            found = read_audio(row["audio_filepath"], None, offset_s, shown_s, channel="average")
        except (OSError, ValueError, KeyError):
            found = None  # the clip says why
        read.append(found)
    there = [found for found in read if found is not None]
    top_hz = min(max((rate for _, rate in there), default=LARGEST_RATE), LARGEST_RATE) / 2
    seconds = max((len(samples) / rate for samples, rate in there), default=0.0)
    sides = []
    for title, row, found in zip(("Before the channel", "After the channel"), example, read, strict=True):
        clip = clips.clip(Path(str(row.get("audio_filepath"))), *_part(row))
        picture = ""
        if found is not None:
            samples, rate = found
            shown_s = len(samples) / rate
            alt = f"{title}: spectrogram of {shown_s:.1f} s at {rate} Hz, 0 to {top_hz / 1000:g} kHz"
            picture = spectrogram_figure(samples, rate, top_hz, seconds, alt)
            title = f"{title}, {rate / 1000:g} kHz"
        sides.append(ChannelSide(title, clip, picture))
    return sides


def _part(row: Mapping[str, Any]) -> tuple[float, float | None]:
    """Where in its file an utterance begins, and how long it is: a segment states both."""
    offset_s, duration_s = (row.get(name) for name in ("offset", "duration"))
    return (
        float(offset_s) if isinstance(offset_s, int | float) else 0.0,
        float(duration_s) if isinstance(duration_s, int | float) and duration_s > 0 else None,
    )


def spectrogram_db(samples: np.ndarray, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the power of each frequency and frame in dB below the loudest, and the frequencies.

    samples: float (T,). Gives (float32 (F, N) from -RANGE_DB to 0; float64 (F,) in Hz, rising from 0).
    Frames are Hann windows of WINDOW_MS every HOP_MS, the first one starting at sample 0; the end is padded.
    """
    window = round(WINDOW_MS / 1000 * sample_rate)
    hop = round(HOP_MS / 1000 * sample_rate)
    size = 1 << (window - 1).bit_length()
    number = max(1, -(-(len(samples) - window) // hop) + 1)
    padded = np.zeros((number - 1) * hop + window)
    padded[: len(samples)] = samples[: len(padded)]
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop] * np.hanning(window)
    power = np.abs(np.fft.rfft(frames, size, axis=1).T) ** 2
    peak = float(power.max())
    if peak <= 0:
        return np.full(power.shape, -RANGE_DB, dtype=np.float32), np.fft.rfftfreq(size, 1 / sample_rate)
    level = 10 * np.log10(np.maximum(power / peak, 10 ** (-RANGE_DB / 10)))
    return level.astype(np.float32), np.fft.rfftfreq(size, 1 / sample_rate)


def spectrogram_figure(samples: np.ndarray, sample_rate: int, top_hz: float, seconds: float, alt: str) -> str:
    """Give a spectrogram as SVG, axes from 0 to `top_hz` and `seconds`; beyond the audio it is grey."""
    level, frequencies = spectrogram_db(samples, sample_rate)
    level = level[frequencies <= top_hz]
    left, right, top, bottom = 34, WIDTH - 8, 8, HEIGHT - 36
    width = (right - left) * min(1.0, len(samples) / sample_rate / seconds)
    height = (bottom - top) * min(1.0, sample_rate / 2 / top_hz)
    parts = [
        f'<rect class="nothing" x="{left}" y="{top}" width="{right - left}" height="{bottom - top}"/>',
        f'<image href="{_png(level)}" x="{left}" y="{bottom - height:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" preserveAspectRatio="none"/>',
    ]
    if height < 0.99 * (bottom - top):
        text = f"nothing above {sample_rate / 2000:g} kHz"
        middle = top + (bottom - top - height) / 2 + 4
        parts.append(
            f'<text class="name" x="{(left + right) / 2}" y="{middle:.1f}" text-anchor="middle">{text}</text>'
        )
    for khz in range(0, int(top_hz / 1000) + 1, 2 if top_hz > 4000 else 1):
        y = bottom - (bottom - top) * khz * 1000 / top_hz
        parts.append(f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{khz}</text>')
    step = 0.5 if seconds <= 3 else 1.0 if seconds <= 6 else 2.0
    for number in range(int(seconds / step + 1e-9) + 1):
        x = left + (right - left) * number * step / seconds
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{number * step:g}</text>'
        )
    parts.append(f'<text class="tick" x="{right}" y="{HEIGHT - 4}" text-anchor="end">kHz over seconds</text>')
    return (
        f'<svg class="plot" role="img" viewBox="0 0 {WIDTH} {HEIGHT}" aria-label="{escape(alt)}">'
        f"{''.join(parts)}</svg>"
    )


def _png(level: np.ndarray) -> str:
    """Low frequencies at the bottom; colours are matplotlib's magma, which grey printing keeps in order."""
    from matplotlib import colormaps
    from matplotlib.image import imsave

    file = io.BytesIO()
    imsave(file, level[::-1], vmin=-RANGE_DB, vmax=0.0, cmap=colormaps["magma"], format="png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def channel_facts(channel: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Give what a simulated channel did as (what, in words), in the order of the signal."""
    facts: list[tuple[str, str]] = []

    def add(name: str, key: str, words: str) -> None:
        part = channel.get(key)
        if isinstance(part, Mapping):
            facts.append((name, words.format_map(_Known(part))))

    if channel.get("preset"):
        facts.append(("Preset", str(channel["preset"])))
    add("Room", "room", "reverberation time {rt60_s} s, {distance_m} m from the mouth")
    for key, name in (("noise", "Noise around the speaker"), ("far_noise", "Noise at the far end")):
        add(name, key, "{kind}, SNR {snr_db} dB")
    add("Microphone", "weighting", "send curve {send}")
    add("High-pass", "high_pass", "from {edge_hz} Hz")
    add("Automatic gain", "agc", "to {target_dbov} dBov")
    add("Mains hum", "hum", "{mains_hz} Hz at {level_dbov} dBov")
    add("Line noise", "line_noise", "{level_dbov} dBov")
    add("Echo", "echo", "after {delay_ms} ms, {level_db} dB")
    add("Clipping", "clip", "{shape}, {over_db} dB over full scale")
    add("Clock drift", "drift", "{ppm} ppm")
    if isinstance(channel.get("level_dbov"), int | float):
        facts.append(("Speech level", f"{channel['level_dbov']:.1f} dBov"))
    legs = [leg for leg in channel.get("legs") or [] if isinstance(leg, Mapping)]
    for number, leg in enumerate(legs, start=1):
        facts.append(("Codec" if len(legs) == 1 else f"Codec, leg {number}", _leg(leg)))
    recorder = channel.get("recorder")
    if isinstance(recorder, Mapping):
        facts.append(("Call recorder", _leg(recorder)))
    return facts


class _Known(dict):
    """Fields of one part of a channel for a sentence: rounded, and "?" for one that it does not state."""

    def __missing__(self, key: str) -> str:
        return "?"

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        return f"{value:.3g}" if isinstance(value, float) else value


def _leg(leg: Mapping[str, Any]) -> str:
    words = [str(leg.get("codec", "?"))]
    parameters = leg.get("parameters")
    if isinstance(parameters, Mapping):
        words += [f"{key} {str(value).lower()}" for key, value in parameters.items()]
    loss = leg.get("loss")
    if isinstance(loss, Mapping):
        lost, frames = leg.get("lost_frames"), leg.get("frames")
        told = f"{lost} of {frames} frames lost" if lost is not None and frames else "with frame loss"
        words.append(f"{told} (concealment: {loss.get('concealment', '?')})")
    return ", ".join(words)
