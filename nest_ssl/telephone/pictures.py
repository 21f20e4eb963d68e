"""Pictures of channels for people to look at: spectrograms and what a channel did to the spectrum."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from nest_ssl.files.atomic import replaced
from nest_ssl.telephone.inspection import long_term_spectrum

COLUMNS = 2  # of pairs: a spectrogram and a response beside it
SHOWN_DB = 70.0  # of a spectrogram, below its maximum
RESPONSE_DB = (-40.0, 15.0)
SILENT_DB = 50.0  # where the original has so little, a ratio would say nothing


def draw_audition(
    path: Path, original: np.ndarray, versions: Sequence[tuple[str, str, np.ndarray]], sample_rate: int
) -> None:
    """Write a PNG with the spectrogram of (T,) `original` and of each (name, caption, (T,) samples).

    Beside each is the change of the long-term spectrum in dB: as level differences were taken out, 0 dB means
    the mean of 500-2500 Hz.
    """
    from matplotlib.figure import Figure

    panels = [("original", f"{sample_rate / 1000:g} kHz", original), *versions]
    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(8.5 * COLUMNS, 2.5 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, 2 * COLUMNS, squeeze=False, width_ratios=[3.2, 1.3] * COLUMNS)
    hertz, before = long_term_spectrum(original, sample_rate)
    for number, (name, caption, samples) in enumerate(panels):
        row, column = divmod(number, COLUMNS)
        left, right = axes[row][2 * column], axes[row][2 * column + 1]
        _spectrogram(left, samples, sample_rate)
        left.set_title(textwrap.shorten(f"{name}: {caption}", 95, placeholder=" ..."), fontsize=9, loc="left")
        _response(right, hertz, before, long_term_spectrum(samples, sample_rate)[1])
    for axis in axes.flat[2 * len(panels) :]:
        axis.set_visible(False)
    with replaced(path) as temporary:
        figure.savefig(temporary, format="png", dpi=90)


def caption_of(record: Mapping[str, Any]) -> str:
    """Say in a line what a channel's record holds: codecs, losses, noise, weighting."""
    words = []
    for leg in record["legs"]:
        parameters = " ".join(
            f"{key} {value}" for key, value in leg["parameters"].items() if value is not False
        )
        lost = f", {leg['lost_frames']} of {leg['frames']} frames lost" if leg.get("lost_frames") else ""
        words.append(f"{leg['codec']} {parameters}".strip() + lost)
    chain = " > ".join(words) or "no codec"
    if record.get("recorder"):
        chain += f" > recorder {record['recorder']['codec']}"
    if record.get("weighting"):
        chain += f"; {record['weighting']['send']}"
    for stage in ("noise", "far_noise"):
        if record.get(stage):
            chain += f"; {stage.replace('_', ' ')} {record[stage]['kind']} {record[stage]['snr_db']:.0f} dB"
    extras = [name for name in ("room", "agc", "hum", "dc", "line_noise", "echo", "clip") if record.get(name)]
    return chain + (f"; {', '.join(extras)}".replace("_", " ") if extras else "")


def _spectrogram(axis: Any, samples: np.ndarray, sample_rate: int) -> None:
    size = round(0.02 * sample_rate)
    if len(samples) < 2 * size:
        samples = np.pad(samples, (0, 2 * size - len(samples)))
    hertz, times, spectra = scipy.signal.stft(
        samples, sample_rate, nperseg=size, noverlap=size // 2, boundary=None
    )
    level = 20 * np.log10(np.abs(spectra) + 1e-9)
    top = float(level.max())
    axis.pcolormesh(times, hertz / 1000, level, vmin=top - SHOWN_DB, vmax=top, cmap="magma", rasterized=True)
    axis.set_ylabel("kHz", fontsize=8)
    axis.set_xlabel("s", fontsize=8, labelpad=0)
    axis.tick_params(labelsize=7)


def _response(axis: Any, hertz: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
    band = (hertz >= 500) & (hertz <= 2500)
    change = after - before
    change = change - np.mean(change[band])
    change[before < before.max() - SILENT_DB] = np.nan
    axis.axhline(0, color="0.8", linewidth=0.8)
    axis.axvspan(0.3, 3.4, color="0.95")
    axis.plot(hertz / 1000, np.clip(change, RESPONSE_DB[0] - 5, RESPONSE_DB[1]), linewidth=1.0)
    axis.set_ylim(*RESPONSE_DB)
    axis.set_xlim(0, hertz[-1] / 1000)
    axis.set_ylabel("dB", fontsize=8, labelpad=0)
    axis.set_xlabel("kHz", fontsize=8, labelpad=0)
    axis.tick_params(labelsize=7)
