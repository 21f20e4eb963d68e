"""A tiny WenetSpeech, a folder of stereo calls and a tokenizer, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

WORDS = "今天天气很好我们一起去公园散步吃饭学习工作电话业务办理请问您需要什么帮助谢谢再见"
SEGMENT_S = 2.0
PAUSE_S = 0.25


def voice(seconds: float, rate: int, pitch: float) -> np.ndarray:
    """Harmonics in syllables with pauses between: speech to a level meter, float32 (T,)."""
    time = np.arange(round(seconds * rate)) / rate
    tones = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 12))
    syllables = np.clip(3 * np.sin(2 * np.pi * 2.2 * time) + 1.5, 0, 1)
    noise = np.random.default_rng(0).normal(0, 2e-4, len(time))
    return (0.1 * tones * syllables + noise).astype(np.float32)


def sentence(number: int, length: int = 8) -> str:
    """A text of its own for each number."""
    rng = np.random.default_rng(number)
    return "".join(rng.choice(list(WORDS), length))


def make_wenetspeech(
    folder: Path,
    recordings: int = 4,
    segments: int = 4,
    changes: dict[tuple[int, int], dict[str, Any]] | None = None,
    **dump: Any,
) -> Path:
    """Write WenetSpeech.json and its audio; `changes`: {(recording, segment): fields}; dump: of json.dump."""
    audios = []
    for a in range(recordings):
        path = f"audio/train/youtube/B{a:05}/Y{a:07}.wav"
        seconds = segments * (SEGMENT_S + PAUSE_S) + 1
        (folder / path).parent.mkdir(parents=True)
        soundfile.write(folder / path, voice(seconds, 16000, 110 + 20 * a), 16000, subtype="PCM_16")
        rows = []
        for s in range(segments):
            begin = round(0.1 + s * (SEGMENT_S + PAUSE_S), 3)
            segment = {
                "sid": f"Y{a:07}_S{s:05}",
                "begin_time": begin,
                "end_time": round(begin + SEGMENT_S, 3),
                "text": sentence(100 * a + s),
                "confidence": 1.0,
                "subsets": ["M", "L"],
            }
            rows.append(segment | (changes or {}).get((a, s), {}))
        source = "youtube" if a % 2 == 0 else "podcast"
        audios.append(
            {"aid": f"Y{a:07}", "duration": seconds, "md5": "0", "path": path, "source": source,
             "tags": ["综艺"], "url": "https://example.org", "segments": rows, "subsets": ["L"]}
        )  # fmt: skip
    content = json.dumps({"audios": audios}, ensure_ascii=False, **({"indent": 2} | dump))
    (folder / "WenetSpeech.json").write_text(content, encoding="utf-8")
    return folder / "WenetSpeech.json"


def make_calls(folder: Path, calls: int = 3, turns: int = 4) -> Path:
    """Write stereo calls at 8 kHz, the agent left and the customer right, with tables of their turns."""
    folder.mkdir(parents=True)
    for call in range(calls):
        seconds = turns * 1.5 + 1
        parties = [voice(seconds, 8000, 100 + 15 * call), voice(seconds, 8000, 190 + 15 * call)]
        soundfile.write(folder / f"call{call}.wav", np.stack(parties, axis=1), 8000, subtype="PCM_16")
        lines = ["start\tend\tchannel\ttext"]
        for turn in range(turns):
            begin = 0.1 + turn * 1.5
            party = ("agent", "customer")[turn % 2]
            lines.append(f"{begin:.2f}\t{begin + 1.3:.2f}\t{party}\t{sentence(9000 + 10 * call + turn, 6)}")
        (folder / f"call{call}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def make_tokenizer(folder: Path) -> Path:
    """Write a tokenizer.json with a token per character; needs the library tokenizers."""
    import tokenizers

    characters = sorted({*WORDS, *"abcdefghijklmnopqrstuvwxyz ", *"语音转写：，。不进行文本规整"})
    vocabulary = {character: number for number, character in enumerate(["<unk>", *characters])}
    found = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    found.pre_tokenizer = tokenizers.pre_tokenizers.Split("", behavior="isolated")
    found.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    folder.mkdir(parents=True)
    found.save(str(folder / "tokenizer.json"))
    return folder
