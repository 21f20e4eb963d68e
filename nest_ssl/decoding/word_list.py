"""A list of words that a decoder is held to, or that it favours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nest_ssl.text.tokenizer import SPACE


@dataclass(frozen=True)
class WordState:
    """Where a hypothesis stands: the word being spelled, and how many words of the list came before it."""

    word: str = ""
    found: int = 0


class WordList:
    """Words (without spaces in them), and what pieces of a tokenizer may follow.

    bonus: None holds every word to the list; otherwise any word may be said, and one of the list gains
    `bonus` nats.  pieces: the tokenizer's pieces by id, spelled with SentencePiece's sign for a gap.
    """

    def __init__(self, words: Iterable[str], pieces: Sequence[str], bonus: float | None = None) -> None:
        self.words = frozenset(word for word in words if word)
        if not self.words:
            raise ValueError("the word list is empty")
        spaced = sorted(word for word in self.words if len(word.split()) != 1)
        if spaced:
            raise ValueError(
                f"the word list has an entry of several words: {spaced[0]!r}; give them one by one"
            )
        self.bonus = bonus
        self._pieces = list(pieces)
        self._beginnings = {word[:n] for word in self.words for n in range(1, len(word) + 1)}

    def start(self) -> WordState:
        return WordState()

    def extend(self, state: WordState, label: int) -> WordState | None:
        """Give the state after another piece, None where the list forbids it."""
        word, found = state.word, state.found
        for character in self._pieces[label]:
            if character != SPACE:
                word += character
                continue
            if word in self.words:
                found += 1
            elif word and self.bonus is None:
                return None
            word = ""
        if self.bonus is None and word and word not in self._beginnings:
            return None
        return WordState(word, found)

    def score(self, state: WordState) -> float:
        """Give the nats gained by the words that are complete."""
        return 0.0 if self.bonus is None else self.bonus * state.found

    def final(self, state: WordState) -> float | None:
        """Give the nats gained if nothing follows; None if the last word is not of the list."""
        if state.word and state.word not in self.words:
            return None if self.bonus is None else self.score(state)
        return self.score(WordState("", state.found + bool(state.word)))


def read_words(path: Path, normalize: Callable[[str], str]) -> list[str]:
    """Give the words of a text file, separated by spaces or lines, normalised, without doubles."""
    if not path.is_file():
        raise FileNotFoundError(f"word list {path} does not exist")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"word list {path} is not UTF-8 text: {error.reason}") from error
    words = [word for line in text.splitlines() for word in normalize(line).split()]
    if not words:
        raise ValueError(f"word list {path} holds no word")
    return list(dict.fromkeys(words))
