"""Texts by key as other tools write them: Kaldi's `text`, NIST's .trn, or a line per utterance."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from nest_ssl.files.manifest import BYTE_ORDER_MARK, parse_row, read_lines

Format = Literal["auto", "jsonl", "kaldi", "trn", "lines"]
FORMATS: tuple[Format, ...] = ("auto", "jsonl", "kaldi", "trn", "lines")
JSON_SUFFIXES = (".json", ".jsonl")
TEXT_SUFFIXES = (*JSON_SUFFIXES, ".trn", ".txt")

_TRN = re.compile(r"^(?P<text>.*?)\s*\((?P<key>[^()\s]+)\)\s*$")
_ALTERNATIVES = re.compile(r"\{[^{}]*/[^{}]*\}")


def read_texts(path: Path, form: Format = "auto") -> Iterator[tuple[int, dict[str, Any]]]:
    """Give (line number, row) of a file of texts; rows of a file that is no JSON have `key` and `text`.

    jsonl: a JSON object per line.  kaldi: KEY, a space, the words.  trn: the words, then (KEY), as sclite
    reads them; ";;" begins a comment.  lines: words only, keys are the numbers of the lines, blank ones
    counted, so that line N of one file belongs to line N of another.  auto: by the name (.jsonl, .trn), else
    jsonl where the first line begins with "{", else kaldi.
    Raises FileNotFoundError, and ValueError with the line that is not of the format.
    """
    form = told_format(path, form)
    if form == "lines":
        yield from _numbered(path)
        return
    for number, line in read_lines(path):
        if form == "jsonl":
            yield number, parse_row(line, path, number)
            continue
        text = _decoded(line, path, number)
        if form == "kaldi":
            key, *words = text.split(maxsplit=1)
            yield number, {"key": key, "text": words[0].strip() if words else ""}
        elif not text.startswith(";;"):
            yield number, _trn(text, path, number)


def told_format(path: Path, form: Format = "auto") -> Format:
    """Give the format that a file is read in; FileNotFoundError unless it is a file."""
    check_is_text_file(path)
    if form != "auto":
        return form
    if path.suffix.lower() == ".trn":
        return "trn"
    if path.suffix.lower() in JSON_SUFFIXES:
        return "jsonl"
    first = next((line for _, line in read_lines(path)), b"{")
    return "jsonl" if first.lstrip().startswith(b"{") else "kaldi"


def check_is_text_file(path: Path) -> None:
    """Raise FileNotFoundError, for a folder with files that may have been meant, unless `path` is a file."""
    if path.is_file():
        return
    if not path.is_dir():
        raise FileNotFoundError(f"{path} does not exist")
    inside = [one for one in sorted(path.iterdir()) if one.name == "text" or one.suffix in TEXT_SUFFIXES]
    raise FileNotFoundError(
        f"{path} is a folder; name a file in it"
        + (f", such as {', '.join(map(str, inside[:3]))}" if inside else "")
    )


def _decoded(line: bytes, path: Path, number: int) -> str:
    try:
        return line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}:{number}: not UTF-8 text: {error.reason}") from error


def _trn(text: str, path: Path, number: int) -> dict[str, Any]:
    found = _TRN.match(text)
    if found is None:
        raise ValueError(
            f"{path}:{number}: a line of a .trn file ends with its key in parentheses, such as "
            f"'press one (speaker-0001)'; this one is: {text[:80]!r} (--format holds for every "
            "file; without it each is told by its name)"
        )
    if _ALTERNATIVES.search(found["text"]):
        raise ValueError(
            f"{path}:{number}: {text[:80]!r} has alternatives {{a / b}}, which are not read here; choose one"
        )
    row = {"key": found["key"], "text": found["text"]}
    speaker = re.match(r"[^-_]+(?=[-_])", found["key"])  # sclite's spu_id: what stands before - or _
    return row | ({"speaker": speaker.group()} if speaker else {})


def _numbered(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            content = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            yield number, {"key": str(number), "text": _decoded(content, path, number)}
