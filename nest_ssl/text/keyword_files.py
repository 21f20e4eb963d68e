"""Lists of keywords from files: one a line, by domain where there are `[domain]` headings.

# comments and blank lines are left out
[billing]
信用卡
credit card   # so is what follows a space and #
[greetings]
您好
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nest_ssl.files.manifest import BYTE_ORDER_MARK
from nest_ssl.text.keywords import ALL, KeywordLists, Keywords
from nest_ssl.text.scored_text import scored_characters
from nest_ssl.text.transcript_files import check_is_text_file

log = logging.getLogger(__name__)

_COMMENT = re.compile(r"(?:^|\s)#.*")
_NAMED = re.compile(r"([^=/\\]+)=(.+)")
_JOINERS = "\u200c\u200d"  # spelling needs them, in Persian or Hindi


def read_keyword_lists(sources: Sequence[str | Path], *characters: Callable[[str], str]) -> KeywordLists:
    """Read keywords by domain; each source is a file or, as a string, NAME=FILE.

    characters: rules of scoring, one for each language that the texts are in; a keyword is found in the
    spelling of each.  Without one, the default rules by the script of the keyword.

    A file is UTF-8 (with or without byte order mark, any line ends) with one keyword a line.  Its domains are
    its `[domain]` headings; without these it is one domain: NAME, else "all" for a single file, else the
    file's name without suffix.  A keyword that stands twice in one domain (as `characters` write it) is one,
    which is logged; one in several domains counts in each, and once in all.
    Raises FileNotFoundError, and ValueError with file and line for text that is not UTF-8, invisible
    characters, columns, words before the first heading, domains that are empty, named twice or named "all",
    and keywords of which `characters` leave nothing.
    """
    if not sources:
        raise ValueError("there is no list of keywords")
    characters = characters or (scored_characters,)
    domains: dict[str, Keywords] = {}
    places: dict[str, str] = {}
    for source in sources:
        name, path = _name_and_path(source)
        stated = name if name is not None else path.stem if len(sources) > 1 else None
        for place, domain, words in _sections(path, stated, name is not None):
            if domain in places:
                raise ValueError(f"{place}: the domain {domain!r} is also at {places[domain]}; join the two")
            domains[domain], places[domain] = _keywords(domain, words, characters), place
    return KeywordLists(domains)


def _name_and_path(source: str | Path) -> tuple[str | None, Path]:
    matched = _NAMED.fullmatch(source) if isinstance(source, str) and not Path(source).is_file() else None
    if matched is None:
        return None, Path(source)
    name = matched[1].strip()
    if not name or name.lower() == ALL:
        raise ValueError(f"{source!r}: a domain needs a name, other than {ALL!r} (all domains together)")
    return name, Path(matched[2])


def _sections(
    path: Path, name: str | None, explicit: bool
) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """Give (place, domain, [(place, word)]) one after another; place: file:line, of a whole file the file."""
    heading = None  # (place, domain)
    words: list[tuple[str, str]] = []
    for number, line in _lines(path):
        place = f"{path}:{number}"
        if not line.startswith("["):
            words.append((place, line))
            continue
        domain = line[1:-1].strip()
        if not line.endswith("]") or not domain or domain.lower() == ALL:
            raise ValueError(
                f"{place}: {line!r} is no heading: write [domain], with a name other than {ALL!r} "
                "(all domains together); a keyword begins with no bracket"
            )
        if explicit:
            raise ValueError(f"{place}: {line!r}: the file was named {name}; drop the heading or the name")
        if heading is None and words:
            raise ValueError(f"{words[0][0]}: {words[0][1]!r} stands before the first heading, {line}")
        if heading is not None:
            yield (*heading, _some(words, *heading))
        heading, words = (place, domain), []
    if heading is None:
        if not words:
            raise ValueError(f"{path} has no keyword; write one a line")
        heading = (str(path), name or ALL)
    yield (*heading, _some(words, *heading))


def _some(words: list[tuple[str, str]], place: str, domain: str) -> list[tuple[str, str]]:
    if not words:
        raise ValueError(f"{place}: no keyword stands under [{domain}]; write one a line or drop the heading")
    return words


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Give (number, line) without comments, outer spaces and blank lines."""
    check_is_text_file(path)
    content = path.read_bytes().removeprefix(BYTE_ORDER_MARK)
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    for number, raw in enumerate(lines, start=1):
        place = f"{path}:{number}"
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError:
            line = "\0"
        if "\0" in line:
            raise ValueError(
                f"{place}: not UTF-8 text: {raw[:20]!r}; convert it, "
                "for example: iconv -f GB18030 -t UTF-8 (or -f UTF-16)"
            )
        line = _COMMENT.sub("", line).strip()
        if "\t" in line:
            raise ValueError(f"{place}: {line!r} has columns; write one keyword a line and nothing else")
        for character in line:
            if unicodedata.category(character) in ("Cc", "Cf") and character not in _JOINERS:
                shown = f"U+{ord(character):04X}"
                raise ValueError(f"{place}: {line!r} has the invisible character {shown}; remove it")
        if line:
            yield number, line


def _keywords(
    domain: str, words: Sequence[tuple[str, str]], characters: Sequence[Callable[[str], str]]
) -> Keywords:
    seen: dict[tuple[str, ...], str] = {}
    for place, word in words:
        scored = spellings(word, characters)
        if not scored:
            raise ValueError(
                f"{place}: {word!r} is no keyword: nothing is left of it by the rules of scoring"
            )
        if scored in seen:
            log.info("%s: keyword %r of %s is the one at %s", place, word, domain, seen[scored])
        seen.setdefault(scored, place)
    return Keywords(seen, str)


def spellings(word: str, characters: Sequence[Callable[[str], str]]) -> tuple[str, ...]:
    """Give the different spellings of a keyword as scored; () where none of the rules leaves anything."""
    return tuple(dict.fromkeys(scored for score in characters if (scored := score(word))))
