"""Miniature corpora in the layout of LibriSpeech, Libri-Light, MUSAN and RIRS_NOISES, packed as they are."""

from __future__ import annotations

import hashlib
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
SPEECH = {"train-clean-100": ("103", "1240"), "dev-clean": ("84", "121123"), "dev-other": ("116", "288045"),
          "test-clean": ("61", "70968"), "test-other": ("367", "130732")}  # fmt: skip
SECONDS = (1.2, 2.0, 1.6, 0.5)  # of the utterances of each chapter; the last is too short to train on


def write_audio(path: Path, seconds: float, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    tone = 0.2 * np.sin(2 * np.pi * generator.uniform(100, 3000) * time)
    soundfile.write(path, tone + 0.03 * generator.normal(size=len(time)), RATE)


def write_trees(root: Path) -> None:
    """LibriSpeech/, small/, musan/ and RIRS_NOISES/ under `root`."""
    for number, (part, (speaker, chapter)) in enumerate(SPEECH.items()):
        folder = root / "LibriSpeech" / part / speaker / chapter
        lines = []
        for utterance, seconds in enumerate(SECONDS):
            name = f"{speaker}-{chapter}-{utterance:04}"
            write_audio(folder / f"{name}.flac", seconds, 10 * number + utterance)
            lines.append(f"{name} CHAPTER ONE OF {part.upper()} {utterance}\n")
        (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))
    (root / "LibriSpeech" / "README.TXT").write_text("LibriSpeech\n")
    book = root / "small" / "960" / "holland_64kb_mp3"
    write_audio(book / "holland_01_64kb.flac", 8.0, 90)
    activity = [[0.4, 2.0], [2.5, 3.4], [4.0, 7.9]]
    (book / "holland_01_64kb.json").write_text(json.dumps({"speaker": "960", "voice_activity": activity}))
    for number, (kind, source) in enumerate(
        (("noise", "free-sound"), ("music", "fma"), ("speech", "librivox"))
    ):
        write_audio(root / "musan" / kind / source / f"{kind}-{source}-0000.wav", 4.0 + number, 100 + number)
        for name in ("ANNOTATIONS", "LICENSE"):
            (root / "musan" / kind / source / name).write_text(f"{name} of {source}\n")
    write_audio(root / "RIRS_NOISES" / "pointsource_noises" / "noise-free-sound-0001.wav", 2.5, 120)
    write_audio(
        root / "RIRS_NOISES" / "simulated_rirs" / "smallroom" / "Room001" / "Room001-00001.wav", 0.3, 121
    )


def write_archives(trees: Path, site: Path) -> None:
    """The archives of these trees and their lists of checksums, under the publishers' names."""
    site.mkdir()
    for part in SPEECH:
        with tarfile.open(site / f"{part}.tar.gz", "w:gz") as tar:
            tar.add(trees / "LibriSpeech" / "README.TXT", "LibriSpeech/README.TXT")
            tar.add(trees / "LibriSpeech" / part, f"LibriSpeech/{part}")
    with tarfile.open(site / "small.tar", "w") as tar:
        tar.add(trees / "small", "small")
    with tarfile.open(site / "musan.tar.gz", "w:gz") as tar:
        tar.add(trees / "musan", "musan")
    with zipfile.ZipFile(site / "rirs_noises.zip", "w", zipfile.ZIP_DEFLATED) as pack:
        for path in sorted((trees / "RIRS_NOISES").rglob("*")):
            pack.write(path, path.relative_to(trees))
    names = sorted(path.name for path in site.iterdir())
    sums = [f"{hashlib.md5((site / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (site / "md5sum.txt").write_text("".join(sums[:-2]))
    (site / "checksum.md5").write_text("".join(sums[-2:]))
