"""FunASR's MultiContextPrompt: what is said before the prompt of the first turn, from the row's context."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nest_ssl.config import suggestion

CHINESE = re.compile("[\u4e00-\u9fff]")
LATIN = re.compile("[A-Za-z]")
NO_CONTEXT = "\n\n\n"
# What FunASR 1.4.16 says, to which the released model was trained.
HEADERS = {
    "zh": "请结合下面提供的上下文信息，更加准确地完成语音转写任务。如果没有相关信息，我们会留空。\n",
    "en": "Please combine the context information provided below to complete the speech transcription task "
    "more accurately. If there is no relevant information, we will leave it blank.\n",
}
LINES = {
    "zh": ("历史转写结果：{}\n", "一遍解码结果：{}\n", "热词列表：{}\n"),
    "en": ("Historical transcription: {}\n", "One-pass result: {}\n", "Hotword list: {}\n"),
}
OPTIONS: dict[str, Any] = {
    "use_hist": True,
    "use_one_pass_result": True,
    "use_hotwords": True,
    "use_asr_hotwords": True,
    "use_multi_lingual_prompt": True,
    "chinese_hotwords_list": None,
    "english_hotwords_list": None,
    "max_neg_hotwords_num": 900,
    "min_neg_hotwords_num": 0,
}


class MultiContextPrompt:
    """Context lines of a row: earlier text, a first pass, hot words among others drawn from lists of words.

    conf: FunASR's prompt_conf.  Hot words are shuffled with the given `random.Random`, the negative ones
    drawn from the given RandomState, with the calls that FunASR makes, so that equal states give its text.
    """

    def __init__(self, conf: Mapping[str, Any] | None = None, name: str = "dataset_conf.prompt_conf") -> None:
        for key in conf or {}:
            if key not in OPTIONS:
                raise ValueError(f"{name}.{key}: there is no such key; {suggestion(str(key), OPTIONS)}")
        self.conf = OPTIONS | dict(conf or {})
        self.words = {
            "zh": _words(self.conf["chinese_hotwords_list"], f"{name}.chinese_hotwords_list"),
            "en": _words(self.conf["english_hotwords_list"], f"{name}.english_hotwords_list"),
        }

    def facts(self) -> dict[str, Any]:
        """What the prompts depend on, for fingerprints."""
        return self.conf | {"words": {language: len(words or ()) for language, words in self.words.items()}}

    def prompt(
        self, row: Mapping[str, Any], user: str, shuffler: random.Random, draws: np.random.RandomState
    ) -> str:
        """Give the text before the prompt of a turn; `user` (up to the audio) sets its language."""
        language = language_of(user)
        history, one_pass, hotwords = LINES[language]
        lines = ""
        if self.conf["use_hist"] and row.get("hist_context"):
            lines += history.format(row["hist_context"])
        if self.conf["use_one_pass_result"] and row.get("one_pass_result"):
            lines += one_pass.format(row["one_pass_result"])
        words: Any = None
        if self.conf["use_hotwords"]:
            words = row.get("hotwords") or None
        if self.conf["use_asr_hotwords"]:
            words = row.get("asr_hotwords") or words
        if words:
            others = self.words[language_of(" ".join(words) if isinstance(words, list) else words)]
            found = list(words) if isinstance(words, list) else words.split(", ")
            found += self._others(others, draws) if others is not None else []
            shuffler.shuffle(found)
            lines += hotwords.format(", ".join(found))
        return HEADERS[language] + (lines or NO_CONTEXT)

    def _others(self, words: Sequence[str], draws: np.random.RandomState) -> list[str]:
        least, most = self.conf["min_neg_hotwords_num"], self.conf["max_neg_hotwords_num"]
        most = min(most, len(words)) if most > -1 else len(words)
        count = draws.randint(least, most + 1) if least < most else most
        return draws.choice(words, count, replace=False).tolist() if count > 0 else []


def language_of(text: str) -> str:
    """Give "zh" for a text with more Chinese characters than Latin letters, and more than 30 % of them.

    An empty text is "zh", any other "en": FunASR's rule.
    """
    if not text:
        return "zh"
    chinese, latin = len(CHINESE.findall(text)), len(LATIN.findall(text))
    return "zh" if chinese > latin and chinese / len(text) > 0.3 else "en"


def _words(path: Any, name: str) -> list[str] | None:
    if not path:
        return None
    if not Path(str(path)).is_file():
        raise FileNotFoundError(f"{name}: {path} does not exist; it is a file with one hot word per line")
    return Path(str(path)).read_text(encoding="utf-8").strip().split("\n")
