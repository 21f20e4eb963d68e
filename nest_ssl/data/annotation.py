"""Annotation errors of transcribed speech: named rules over a row, its audio, and the whole corpus.

    rules = AnnotationRules.from_config(config["annotation"], "annotation")
    corpus = CorpusCheck(rules)
    for row, facts in rows: corpus.see(row, facts)          # first pass: rates, doubles
    for row, facts in rows: found = corpus.check(row, facts)  # second pass, same order: {rule: detail}
    if found: dropped_by = next(iter(found))                # the first rule in the order of RULES

Rows are never changed here; `facts` come from audio_facts.audio_facts (None where audio was not measured:
rules that need it then find nothing).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import log
from typing import Any

import numpy as np

from nest_ssl.data.annotation_rules import RULES, AnnotationRules
from nest_ssl.files.rows import audio_field, row_id, row_identity, text_digest
from nest_ssl.text.scripts import TextLength, text_length
from nest_ssl.text.transcript_faults import bad_encoding, markup_left, nothing_to_say, silence_word

__all__ = ["RULES", "AnnotationRules", "CorpusCheck", "annotate", "check_annotation", "find_duplicates"]

Row = Mapping[str, Any]
Facts = Mapping[str, Any] | None
LANGUAGE_FIELDS = ("language", "lang")
ALLOWANCE_SYLLABLES, ALLOWANCE_S = 1.0, 0.5
SMALLEST_SPREAD = 0.05  # of log(syllables / s): a corpus of equal rates has no outlier within 5 %
MAD_TO_SIGMA = 1.4826  # of a normal distribution


def check_annotation(row: Row, audio_facts: Facts, rules: AnnotationRules) -> dict[str, str]:
    """Give {rule: what was found} of the rules that need this row alone, in the order of RULES; {} if clean.

    `list(...)` of it are the reasons.  Left to CorpusCheck: duplicate, text_duration_outlier.
    """
    found = dict(_found(row, audio_facts, rules))
    return {rule: found[rule] for rule in RULES if rule in found}


class CorpusCheck:
    """All rules over a corpus in two passes; about 40 bytes per row are kept between them."""

    def __init__(self, rules: AnnotationRules):
        self.rules = rules
        same = rules.of("duplicate")["same"] if rules.enabled("duplicate") else ()
        self._kinds: tuple[str, ...] = tuple(same)
        self._digests: dict[str, array] = {kind: array("Q") for kind in self._kinds}
        self._rates: dict[str, array] = {}
        self._doubles: dict[str, set[int]] | None = None
        self._limits: dict[str, tuple[float, float, int]] = {}
        self._first: dict[tuple[str, str], str] = {}
        self._row = 0

    def see(self, row: Row, facts: Facts) -> None:
        """Take note of a row (first pass, every row, in order)."""
        if self._doubles is not None:
            raise RuntimeError("see() belongs to the first pass; check() has already been called")
        for kind, identity in _identities(row, facts, self._kinds):
            self._digests[kind].append(text_digest(identity))
        if self.rules.enabled("text_duration_outlier"):
            rate = _log_rate(row, facts)
            if rate is not None:
                self._rates.setdefault(self._group(row), array("d")).append(rate)

    def check(self, row: Row, facts: Facts, place: str = "") -> dict[str, str]:
        """Give {rule: detail} of a row in the order of RULES (second pass, the same rows in the same order).

        Of rows that are doubles of each other the first is kept.  `place`, such as FILE:LINE, names a row in
        the detail of its doubles; without it, "row N".
        """
        doubles = self._finish()
        self._row += 1
        found = dict(_found(row, facts, self.rules))
        for kind, identity in _identities(row, facts, self._kinds):
            if text_digest(identity) in doubles[kind]:
                here = place or f"row {self._row}"
                first = self._first.setdefault((kind, identity), here)
                if first != here and "duplicate" not in found:
                    found["duplicate"] = f"same {_KIND_WORDS[kind]} as {first}"
        outlier = self._outlier(row, facts)
        if outlier:
            found["text_duration_outlier"] = outlier
        return {rule: found[rule] for rule in RULES if rule in found}

    def rates(self) -> dict[str, dict[str, float]]:
        """Give per group of rows: rows, median, min and max, the last three in syllables per second.

        Groups of fewer than min_rows rows have no min and max: their rows are not judged.
        """
        self._finish()
        limits = self.rules.of("text_duration_outlier")
        table = {}
        for group, (median, spread, count) in sorted(self._limits.items()):
            table[group] = {"rows": count, "median": round(float(np.exp(median)), 3)}
            if count >= limits["min_rows"]:
                for end, side in (("min", -1), ("max", 1)):
                    table[group][end] = round(float(np.exp(median + side * limits["max_z"] * spread)), 3)
        return table

    def _finish(self) -> dict[str, set[int]]:
        if self._doubles is None:
            self._doubles = {kind: _doubles(digests) for kind, digests in self._digests.items()}
            self._digests = {}
            for group, rates in self._rates.items():
                values = np.frombuffer(rates, np.float64)
                median = float(np.median(values))
                spread = MAD_TO_SIGMA * float(np.median(np.abs(values - median)))
                self._limits[group] = (median, max(spread, SMALLEST_SPREAD), len(values))
        return self._doubles

    def _group(self, row: Row) -> str:
        """Give the group that a row's rate is compared in; without a language, its script stands for it."""
        parts = []
        for key in self.rules.of("text_duration_outlier")["group_by"]:
            if key == "language":
                stated = next((row[name] for name in LANGUAGE_FIELDS if row.get(name)), None)
                parts.append(str(stated or text_length(_text(row)).script))
            elif row.get(key) not in (None, ""):
                parts.append(str(row[key]))
        return "/".join(parts) or "all"

    def _outlier(self, row: Row, facts: Facts) -> str | None:
        rate = _log_rate(row, facts) if self.rules.enabled("text_duration_outlier") else None
        if rate is None:
            return None
        limits = self.rules.of("text_duration_outlier")
        group = self._group(row)
        median, spread, count = self._limits[group]
        z = (rate - median) / spread
        if count < limits["min_rows"] or abs(z) <= limits["max_z"]:
            return None
        return (
            f"{np.exp(rate):.2f} syllables/s, the median of {count} rows of {group} is {np.exp(median):.2f} "
            f"(z {z:+.1f})"
        )


def annotate(rows: Sequence[Row], facts: Sequence[Facts], rules: AnnotationRules) -> list[dict[str, str]]:
    """Give {rule: detail} for each row: both passes of CorpusCheck over rows that are in memory."""
    corpus = CorpusCheck(rules)
    for row, fact in zip(rows, facts, strict=True):
        corpus.see(row, fact)
    return [corpus.check(row, fact) for row, fact in zip(rows, facts, strict=True)]


def find_duplicates(rows: Iterable[Row], facts: Iterable[Facts]) -> dict[int, str]:
    """Give {row number from 0: what it repeats} of rows that come again."""
    off = {rule: rule == "duplicate" for rule in RULES}
    found = annotate(list(rows), list(facts), AnnotationRules.from_config(off))
    return {number: reasons["duplicate"] for number, reasons in enumerate(found) if reasons}


_KIND_WORDS = {"id": "id", "segment": "audio segment", "audio": "audio samples and text"}


def _identities(row: Row, facts: Facts, kinds: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Give (kind, what no other row may have)."""
    for kind in kinds:
        if kind == "id":
            stated = row_id(row)
            if stated is not None:
                yield kind, stated
        elif kind == "segment":
            if audio_field(row) is not None:
                part = (row.get("channel_selector"), _rounded(row.get("duration")))
                yield kind, f"{row_identity({**row, **_NO_ID})}|{part}"
        elif facts and facts.get("digest") and facts.get("peak"):
            yield kind, f"{facts['digest']}|{_text(row)}"


_NO_ID: dict[str, Any] = {"id": None, "utt": None, "utterance_id": None}


def _rounded(seconds: Any) -> Any:
    return round(seconds, 3) if _is_number(seconds) else seconds


def _doubles(digests: array) -> set[int]:
    values = np.sort(np.frombuffer(digests, np.uint64)) if digests else np.zeros(0, np.uint64)
    return set(values[1:][values[1:] == values[:-1]].tolist())


def _text(row: Row) -> str:
    text = row.get("text")
    return text if isinstance(text, str) else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _seconds(row: Row, facts: Facts) -> float:
    """Give the measured duration, or the one that the row states; 0.0 without either."""
    value = (facts or {}).get("duration", row.get("duration"))
    return float(value) if _is_number(value) else 0.0


def _log_rate(row: Row, facts: Facts) -> float | None:
    """Give log(syllables / s), with an allowance: no short answer is judged by the pauses around it."""
    syllables, seconds = text_length(_text(row)).syllables, _seconds(row, facts)
    if syllables <= 0 or seconds <= 0:
        return None
    return log((syllables + ALLOWANCE_SYLLABLES) / (seconds + ALLOWANCE_S))


def _found(row: Row, facts: Facts, rules: AnnotationRules) -> Iterator[tuple[str, str]]:
    """Give (rule, detail) of what the row alone shows, in any order."""
    text = _text(row)
    measured = facts is not None and facts.get("error") is None and facts.get("num_samples", 0) > 0
    on = rules.enabled
    if on("audio_unreadable") and facts is not None and facts.get("error"):
        yield "audio_unreadable", str(facts["error"])
    if on("audio_shorter_than_segment") and facts is not None and not facts.get("error"):
        missing = _missing(row, facts, rules.of("audio_shorter_than_segment")["tolerance_s"])
        if missing:
            yield "audio_shorter_than_segment", missing
    fault = bad_encoding(text, rules.of("bad_encoding")["allow"])
    if on("bad_encoding") and fault:
        yield "bad_encoding", fault
    # damaged characters are no letters either; they are bad_encoding, whether that rule is on or not
    if on("empty_text") and (not text.strip() or (not fault and nothing_to_say(text))):
        yield "empty_text", "there is no text" if "text" not in row else f"text is {row['text']!r:.60}"
    limits = rules.of("speech_labelled_as_silence")
    word = silence_word(text, limits["words"]) if text.strip() else "no text"
    if measured and word and on("speech_labelled_as_silence") and _is_speech(facts, limits):
        yield "speech_labelled_as_silence", f"{word}, but {_level_words(facts)}"
    if on("markup_left"):
        limits = rules.of("markup_left")
        markup = markup_left(text, limits["ignore"], limits["allow"])
        if markup:
            yield "markup_left", f"{markup[0]} {markup[1]!r}"
    length = text_length(text)
    if measured and on("silence_labelled_as_speech") and length.syllables and word is None:
        limits = rules.of("silence_labelled_as_speech")
        if _is_silence(facts, limits):
            yield "silence_labelled_as_speech", f"text, but {_level_words(facts)}"
    if on("impossible_rate"):
        fault = _impossible_rate(length, row, facts, rules.of("impossible_rate"))
        if fault:
            yield "impossible_rate", fault
    if on("digits") and length.digits:
        yield "digits", f"{length.digits} digits"
    if on("foreign_script"):
        limits = rules.of("foreign_script")
        parts = {"han": length.han, "kana": length.kana, "hangul": length.hangul, "latin": length.letters}
        foreign = sum(count for script, count in parts.items() if script not in limits["scripts"])
        if foreign and foreign / sum(parts.values()) > limits["max_share"]:
            yield "foreign_script", f"{foreign} of {sum(parts.values())} letters and characters"


def _missing(row: Row, facts: Mapping[str, Any], tolerance_s: float) -> str | None:
    wanted = row.get("duration")
    if not _is_number(wanted) or wanted - facts["duration"] <= tolerance_s:
        return None
    offset = row.get("offset") or 0.0
    return (
        f"the row wants {wanted:.3f} s from {offset} s on, there are {facts['duration']:.3f} s "
        f"(the file has {facts['file_duration']:.3f} s)"
    )


def _level_words(facts: Any) -> str:
    level = facts["active_level_dbov"]
    if level is None:
        return "the audio is digital silence"
    return (
        f"the audio has {facts['active_s']:.2f} s of activity at {level:.1f} dBov, "
        f"dynamics {facts['dynamics_db']} dB"
    )


def _is_speech(facts: Any, limits: Mapping[str, Any]) -> bool:
    level, dynamics = facts["active_level_dbov"], facts["dynamics_db"]
    return (
        level is not None
        and level >= limits["min_level_dbov"]
        and facts["active_s"] >= limits["min_active_s"]
        and (dynamics is None or dynamics >= limits["min_dynamics_db"])
    )


def _is_silence(facts: Any, limits: Mapping[str, Any]) -> bool:
    """True for audio that is too quiet, active too briefly, or as steady as noise or a tone."""
    level, dynamics = facts["active_level_dbov"], facts["dynamics_db"]
    return (
        level is None
        or level < limits["max_level_dbov"]
        or facts["active_s"] < limits["max_active_s"]
        or (dynamics is not None and dynamics < limits["max_dynamics_db"])
    )


def _impossible_rate(length: TextLength, row: Row, facts: Facts, limits: Mapping[str, Any]) -> str | None:
    """Find a text that cannot be said in the time there is, or that leaves most of it unexplained.

    The least and the longest time of a mixed text add up from its characters and its letters.
    """
    if not length.syllables:
        return None
    times = [("", _seconds(row, facts))]
    if facts and facts.get("num_samples") and facts.get("active_s"):
        times.append(("active ", float(facts["active_s"])))
    for kind, seconds in times:
        characters = limits["characters_per_active_s" if kind else "characters_per_s"]
        letters = limits["letters_per_active_s" if kind else "letters_per_s"]
        if seconds <= 0:
            continue
        shown = f"{length.characters} characters and {length.letters} letters in {seconds:.2f} {kind}s"
        least = length.characters / characters["max"] + length.letters / letters["max"]
        longest = length.characters / characters["min"] + length.letters / letters["min"] + limits["grace_s"]
        if least > seconds:
            return f"too fast: {shown}, they need {least:.2f} s"
        if longest < seconds:
            return f"too slow: {shown}, they take {longest:.2f} s at most"
    return None
