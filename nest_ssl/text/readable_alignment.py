"""Of all alignments with the fewest errors, one in which a reader sees what became of what."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from nest_ssl.text.error_rates import Edit, alignments

LARGEST = 4_000_000  # pairs of words; a longer text (more than 2000 words) has jiwer's alignment
_GRADES = 1000  # of how much two words differ


def readable_edits(reference: str, hypothesis: str) -> list[Edit]:
    """Align two texts by words with as many errors as jiwer counts, and among these alignments with the most
    equal words, and then with substitutions between words that look alike.

    jiwer's "please hold" / "please i told" may pair hold with i and insert told; this pairs hold with told.
    """
    said, heard = reference.split(), hypothesis.split()
    if said == heard or not said or not heard or len(said) * len(heard) > LARGEST:
        return alignments([reference], [hypothesis], "words")[0]
    # what both end with is equal in the alignment that the way back finds
    i, j = len(said), len(heard)
    while i and j and said[i - 1] == heard[j - 1]:
        i, j = i - 1, j - 1
    kinds = ["equal"] * (len(said) - i)
    if i and j and said[: i - 1] == heard[: j - 1]:  # one word is another: there is one way
        kinds.append("substitute")
        i, j = i - 1, j - 1
    elif i and said[: i - 1] == heard[:j]:
        kinds.append("delete")
        i -= 1
    elif j and said[:i] == heard[: j - 1]:
        kinds.append("insert")
        j -= 1
    if said[:i] == heard[:j]:
        return _runs(["equal"] * i + kinds[::-1])
    rows, unit, replaced = _costs(said[:i], heard[:j])
    while i or j:
        cost = rows[i][j]
        if i and j and cost == rows[i - 1][j - 1] + replaced[i - 1, j - 1]:
            i, j = i - 1, j - 1
            kinds.append("substitute" if replaced[i, j] else "equal")
        elif i and cost == rows[i - 1][j] + unit:
            i -= 1
            kinds.append("delete")
        else:
            j -= 1
            kinds.append("insert")
    return _runs(kinds[::-1])


def _costs(said: Sequence[str], heard: Sequence[str]) -> tuple[list[np.ndarray], int, np.ndarray]:
    """Give the costs of all pairs of prefixes, the cost of a deletion or insertion, and those of each pair.

    For a given number of errors, most equal words are fewest substitutions: each costs something more.
    """
    from rapidfuzz.distance import Levenshtein

    unit = 2 * _GRADES * (len(said) + len(heard))  # more than all substitutions together cost more
    numbers: dict[str, int] = {}
    said_numbers, heard_numbers = (
        np.array([numbers.setdefault(word, len(numbers)) for word in words]) for words in (said, heard)
    )
    unlike = unit + 2 * _GRADES - 1
    replaced = np.where(said_numbers[:, None] == heard_numbers, 0, unlike)
    known: dict[tuple[str, str], int] = {}
    longer = [j for j, word in enumerate(heard) if len(word) > 1]  # single characters are never alike
    for i, word in enumerate(said):
        for j in longer if len(word) > 1 else ():
            other = heard[j]
            if word != other:
                cost = known.get((word, other))
                if cost is None:
                    cost = unlike - int(_GRADES * Levenshtein.normalized_similarity(word, other))
                    known[word, other] = cost
                replaced[i, j] = cost
    inserted = np.arange(len(heard) + 1) * unit
    rows = [inserted]
    for i in range(len(said)):
        best = rows[-1] + unit
        np.minimum(best[1:], rows[-1][:-1] + replaced[i], out=best[1:])
        rows.append(np.minimum.accumulate(best - inserted) + inserted)
    return rows, unit, replaced


def _runs(kinds: Sequence[str]) -> list[Edit]:
    edits = []
    i = j = 0
    for kind, run in groupby(kinds):
        length = len(list(run))
        from_i, from_j = i, j
        i += length if kind != "insert" else 0
        j += length if kind != "delete" else 0
        edits.append(Edit(kind, from_i, i, from_j, j))
    return edits
