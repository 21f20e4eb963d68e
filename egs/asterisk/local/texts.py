"""The wording of the prompts, from core-sounds-XX.txt.

A line is `key: text`, `;` begins a comment. The lists are wording, not transcripts: nobody checked them
against the recordings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

# Sounds that are no speech, in every language; some lists say so in brackets, some in words, some not at all.
NOT_SPEECH = re.compile(
    r"silence/.*|beep|beeperr|ascending-2tone|descending-2tone|confbridge-join|confbridge-leave|tt-monkeys"
)

# Remarks of the lists' authors, which no voice says; other words in brackets may be spoken and stay.
REMARKS = (
    '(note: does not say "2")',
    "(simple tone sound plays)",
    "(emphase)",
    "(enfatico)",
    "(voce alternativa con presidente al posto di moderatore, visto che sono indeciso sulla traduzione)",
    "(You are now muted.)",
    "(data)",
    "(in inglese)",
    '(nota: non dice "2")',
    "(produrre un beep subito dopo, ma non in questo file).",
)
IN_BRACKETS = re.compile(r"\[[^\]]*\]|<[^>]*>|\([^)]*\)")


@dataclass
class Texts:
    """The texts of one language by key, and what was odd about the list."""

    by_key: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def find(self, key: str) -> str:
        """Give the text of a prompt, "" if there is none; a key that differs in case only is taken."""
        if key in self.by_key:
            return self.by_key[key]
        return next((text for name, text in self.by_key.items() if name.casefold() == key.casefold()), "")


def parse_texts(content: bytes, name: str) -> Texts:
    """Read a list; of a key given twice the first text stands, and the second is named in `problems`."""
    texts = Texts()
    for number, line in enumerate(content.decode("utf-8-sig").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith(";"):
            continue
        key, colon, text = line.partition(":")
        key = key.strip()
        if not colon or not key:
            texts.problems.append(f"{name}:{number}: no key before a colon: {line.strip()[:60]}")
        elif key in texts.by_key:
            texts.problems.append(f"{name}:{number}: {key} has a text already; not used: {text.strip()[:60]}")
        else:
            texts.by_key[key] = spoken_text(key, text)
            if not texts.by_key[key] and not NOT_SPEECH.fullmatch(key):
                texts.problems.append(f"{name}:{number}: {key} has no words: {text.strip()[:60]!r}")
    return texts


def spoken_text(key: str, text: str) -> str:
    """Give the words of a prompt, without remarks and symbols; "" where it only describes a sound."""
    for remark in REMARKS:
        text = text.replace(remark, "")
    text = " ".join(text.split())
    if IN_BRACKETS.fullmatch(text):
        return ""
    if key.startswith("letters/"):
        text = " ".join(re.sub(r"\[[^\]]*\]", " ", text).split())
    return re.sub(r"\[([^\]]*)\]", r"\1", text)
