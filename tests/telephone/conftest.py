"""Real prompts for the telephone tests."""

import io
from pathlib import Path

import av
import numpy as np
import pytest

from nest_ssl.config import load_config
from nest_ssl.files.audio import write_audio
from nest_ssl.files.manifest import write_rows
from nest_ssl.telephone.presets import Mix, mix_from_config
from nest_ssl.telephone.resample import resample

PROMPTS = Path(__file__).resolve().parent.parent / "data" / "asterisk"
KEYS = ("agent-loginok", "auth-thankyou", "digits/7", "hello-world", "letters/at", "vm-goodbye")
LANGUAGES = ("en", "es", "fr", "it", "ru")


def read_g722(path: Path) -> np.ndarray:
    """Give int16 (T,) at 16 kHz."""
    with av.open(io.BytesIO(path.read_bytes()), format="g722") as file:
        return np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])


@pytest.fixture(scope="session")
def speech() -> np.ndarray:
    """About 15 s of real speech at 16 kHz, float32 (T,)."""
    prompts = [read_g722(PROMPTS / language / f"{key}.g722") for language in LANGUAGES for key in KEYS[:3]]
    return np.concatenate(prompts).astype(np.float32) / 32768


@pytest.fixture(scope="session")
def prompts(tmp_path_factory) -> Path:
    """A manifest of 30 prompts in five languages, 16 kHz FLAC, and one of noise beside it (noise.jsonl)."""
    folder = tmp_path_factory.mktemp("prompts")
    rows = []
    for language in LANGUAGES:
        for key in KEYS:
            samples = read_g722(PROMPTS / language / f"{key}.g722")
            path = f"audio/{language}/{key}.flac"
            write_audio(folder / path, samples, 16000)
            duration = len(samples) / 16000
            row = {"audio_filepath": path, "duration": duration, "text": key, "lang": language}
            rows.append(row | {"key": key, "id": f"{language}/{key}"})
    write_rows(folder / "prompts.jsonl", rows)
    time = np.arange(5 * 16000) / 16000
    music = sum(np.sin(2 * np.pi * hertz * time) for hertz in (261.6, 329.6, 392.0)) / 8
    write_audio(folder / "audio/music.flac", music.astype(np.float32), 16000)
    noise_row = {"audio_filepath": "audio/music.flac", "duration": 5.0, "id": "music"}
    write_rows(folder / "noise.jsonl", [noise_row])
    return folder / "prompts.jsonl"


@pytest.fixture(scope="session")
def mix(checkout) -> Mix:
    """The default mix."""
    return mix_from_config(load_config(checkout / "conf" / "telephone.yaml"))


@pytest.fixture(scope="session")
def narrow_speech(speech) -> np.ndarray:
    """The same at 8 kHz, int16 (T,)."""
    return np.rint(np.clip(resample(speech, 16000, 8000) * 32768, -32768, 32767)).astype(np.int16)
