"""Keyword counts once more, slow and plain, straight from keywords.DEFINITION, sharing no code with it."""

from __future__ import annotations

import unicodedata
from collections import Counter

HAN_OR_KANA = ((0x3005, 0x3005), (0x3007, 0x3007), (0x3041, 0x30FA), (0x30FC, 0x30FF), (0x3400, 0x9FFF))
RARE_HAN = (0x20000, 0x3FFFF)


def stands_alone(character: str) -> bool:
    return any(low <= ord(character) <= high for low, high in (*HAN_OR_KANA, RARE_HAN))


def word_ends(text: str) -> set[int]:
    """The places between words: both ends of the text, beside each space and each Chinese character."""
    ends = {0, len(text)}
    for place in range(1, len(text)):
        if unicodedata.category(text[place])[0] == "M":
            continue
        for character in text[place - 1 : place + 1]:
            known = unicodedata.category(character)[0] in "LNM" or character == "'"
            if stands_alone(character) or not known:
                ends.add(place)
    return ends


def occurrences(keywords: list[str], text: str) -> list[tuple[int, str]]:
    ends = word_ends(text)
    return [
        (start, keyword)
        for start in range(len(text))
        for keyword in keywords
        if text.startswith(keyword, start) and start in ends and start + len(keyword) in ends
    ]


def marked(found: list[tuple[int, str]], size: int) -> list[bool]:
    return [any(start <= place < start + len(word) for start, word in found) for place in range(size)]


def fewest(
    reference: list[str], hypothesis: list[str], on: list[bool], inside: list[bool]
) -> tuple[int, int]:
    """(errors, those of them on keywords), the fewest by the first and then by the second, over all ways to
    turn one into the other: plain dynamic programming, cell by cell.  inside[i]: the gap before i is."""
    table: dict[tuple[int, int], tuple[int, int]] = {}
    for i in range(len(reference) + 1):
        for j in range(len(hypothesis) + 1):
            ways = [(0, 0)] if i == j == 0 else []
            if i and j:
                same = reference[i - 1] == hypothesis[j - 1]
                errors, keyword = table[i - 1, j - 1]
                ways.append((errors, keyword) if same else (errors + 1, keyword + on[i - 1]))
            if i:
                errors, keyword = table[i - 1, j]
                ways.append((errors + 1, keyword + on[i - 1]))
            if j:
                errors, keyword = table[i, j - 1]
                ways.append((errors + 1, keyword + inside[i]))
            table[i, j] = min(ways)
    return table[len(reference), len(hypothesis)]


def distance(reference: list[str], hypothesis: list[str]) -> int:
    nothing = [False] * (len(reference) + 1)
    return fewest(reference, hypothesis, nothing, nothing)[0]


def counts(keywords: list[str], reference: str, hypothesis: str) -> dict[str, int]:
    """What keyword_counts counts, by the names of KeywordCounts."""
    said, heard = occurrences(keywords, reference), occurrences(keywords, hypothesis)
    on = marked(said, len(reference))
    inside = [any(s < place < s + len(w) for s, w in said) for place in range(len(reference) + 1)]
    errors, on_keywords = fewest(list(reference), list(hypothesis), on, inside)
    times_said, times_heard = Counter(w for _, w in said), Counter(w for _, w in heard)
    recalled = sum(min(times_said[w], times_heard[w]) for w in times_said)
    taken: Counter[str] = Counter()
    false = []
    for start, word in heard:  # the first ones are those that were said
        taken[word] += 1
        if taken[word] > times_said[word]:
            false.append((start, word))
    return {
        "errors": max(on_keywords, int(recalled < len(said))) + sum(marked(false, len(hypothesis))),
        "characters": sum(on),
        "expected": len(said),
        "heard": len(heard),
        "recalled": recalled,
        "false": len(false),
        "outside_errors": errors - on_keywords,
        "outside_characters": len(reference) - sum(on),
    }
