"""A list of keywords where nobody has given one: the frequent terms of the training texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nest_ssl.text.scored_text import scored_characters, scored_words
from nest_ssl.text.scripts import UNSPACED

TOP = 100
LEAST_UTTERANCES = 3  # a term in fewer texts is chance
LEAST_LETTERS = 4
LONGEST_TERM = 4  # characters, of scripts without spaces
ABSORBED = 0.8  # a term that stands inside a longer one so often is a part of it

# English words of four letters and more that carry no topic, and characters that no Chinese term begins, ends
# or continues with.
FUNCTION_WORDS = frozenset(
    """
    about above after again against also although always among another around because been before being
    below between both cannot could does doing done down during each either else even ever every from
    have having here however into itself just less like made make many might more most much must neither
    never none once only onto other others ought ourselves over please quite rather really same shall
    should since some such than that their theirs them themselves then there therefore these they this
    those though through thus together under until unto upon very well were what whatever when whenever
    where whether which while whom whose will with within without would your yours yourself you're
    you've you'll don't can't won't isn't doesn't it's that's
    """.split()  # noqa: SIM905 - a list of quoted words is no easier to read
)
FUNCTION_CHARACTERS = frozenset(
    "的了是我你您他她它们这那在有不就也都和与跟吗吧呢啊哦嗯呀嘛么个一二三四五六七八九十零两几很太还没"
    "又把被让给对从到向于以为而但或因所之其说要会能可去来上下里中着过得地等什怎哪多少好"
)


def frequent_terms(texts: Sequence[str], top: int = TOP) -> list[str]:
    """Give up to `top` terms by the number of texts that have them, most frequent first, ties by spelling.

    Terms: words of at least 4 letters that are no English function word; in Chinese and Japanese, which
    have no spaces, runs of 2 to 4 characters without a function character, unless at least 80 % of their
    texts have them inside one longer run.  All are in at least 3 texts; [] where none is.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_terms(text))
    counts = Counter({term: n for term, n in counts.items() if n >= LEAST_UTTERANCES})
    for term, number in list(counts.items()):
        for part in (term[1:], term[:-1]):
            if UNSPACED.match(term) and counts.get(part, 0) and number >= ABSORBED * counts[part]:
                counts[part] = -abs(counts[part])  # still there for its own parts to be compared with
    ranked = sorted((term for term in counts if counts[term] > 0), key=lambda term: (-counts[term], term))
    return ranked[:top]


def _terms(text: str) -> set[str]:
    found: set[str] = set()
    for word in scored_words(text).split():
        if len(word) >= LEAST_LETTERS and word not in FUNCTION_WORDS and any(map(str.isalpha, word)):
            found.add(word)
    run = ""
    for character in [*scored_characters(text), " "]:
        if UNSPACED.match(character) and character not in FUNCTION_CHARACTERS:
            run += character
            for length in range(2, min(LONGEST_TERM, len(run)) + 1):
                found.add(run[-length:])
        else:
            run = ""
    return found
