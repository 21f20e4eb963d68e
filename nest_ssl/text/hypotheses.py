"""What systems wrote for a test set, joined with what was said there."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from nest_ssl.files.manifest import read_rows
from nest_ssl.files.rows import resolve_audio_path, row_identity
from nest_ssl.text.conditions import FACTS
from nest_ssl.text.scored_text import scored_characters
from nest_ssl.text.transcript_files import Format, read_texts, told_format

NAMED = 5  # keys that a message lists


@dataclass(frozen=True)
class System:
    """The rows that one system wrote, by the key of the utterance."""

    name: str
    path: Path
    rows: dict[str, dict[str, Any]]
    format: Format = "jsonl"


@dataclass(frozen=True)
class Utterance:
    """What was said: text as written, seconds of audio (None where no row states them).

    facts: what is known of the recording: channel, lang and speaker of its rows; audio_filepath.
    """

    text: str
    duration_s: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def language(self) -> str | None:
        """The language that a row states, which some rules of scoring depend on."""
        stated = self.facts.get("lang")
        return stated if isinstance(stated, str) and stated.strip() else None


@dataclass(frozen=True)
class Outputs:
    """The texts of one field of a system for all utterances, in their order, and how they came about.

    failed: rows with an error; missing: utterances without a row; absent: other rows without the field.
    All three count as empty texts, so that each of their characters is a deletion.
    """

    texts: list[str]
    failed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)  # of those that failed, in their own words


def read_system(name: str, path: Path, form: Format = "auto") -> System:
    """Read hypotheses; ValueError names the line of a row without a key or with one that comes twice.

    Raises ValueError too for a file without a row, and for one in which every row is an error.
    """
    form = told_format(path, form)
    rows: dict[str, dict[str, Any]] = {}
    lines: dict[str, int] = {}
    for line, row in read_texts(path, form):
        key = _key(row, path, line)
        if key in rows:
            raise ValueError(
                f"{path}:{line}: the key {key!r} stood on line {lines[key]} before; each utterance is scored "
                f"once, so remove one of the two (were two decodings written to one file?){_keys(form)}"
            )
        rows[key], lines[key] = row, line
    if not rows:
        raise ValueError(f"{path} has no row; did the decoding of {name} end well?")
    if all(row.get("error") for row in rows.values()):
        key, row = next(iter(rows.items()))
        raise ValueError(
            f"{path} ({name}): all {len(rows)} rows failed, so there is nothing to score; "
            f"the first, {key!r}: {str(row['error'])[:200]}"
        )
    return System(name, path, rows, form)


def check_lines(system: System, references: Mapping[str, Utterance]) -> None:
    """Raise ValueError where line N of the hypotheses cannot belong to line N of the references."""
    if system.format == "lines" and len(system.rows) != len(references):
        raise ValueError(
            f"{system.path} ({system.name}) has {len(system.rows)} lines, the references {len(references)}: "
            "line N belongs to line N (--format lines), so that an empty text needs an empty line"
        )


def read_references(paths: Sequence[Path], form: Format = "auto") -> dict[str, Utterance]:
    """Read what was said, by key, from manifests, messages lines or texts; ValueError for a key that comes
    twice."""
    found: dict[str, Utterance] = {}
    for path in paths:
        for line, row in read_texts(path, form):
            key = _key(row, path, line)
            text = _said(row)
            if text is None:
                raise ValueError(f"{path}:{line}: {key} has no text to score against")
            if key in found:
                hint = _keys(told_format(path, form))
                raise ValueError(f"{path}:{line}: the key {key!r} comes twice among the references{hint}")
            facts = _facts(row)
            if isinstance(audio := facts.get("audio_filepath"), str):
                facts["audio_filepath"] = str(resolve_audio_path(audio, path))
            found[key] = Utterance(text, _seconds(row), facts)
    if not found:
        raise ValueError(f"{', '.join(map(str, paths))}: no row to score against")
    return found


def outputs_as_references(
    systems: Sequence[System], references: Sequence[Path], outputs: Collection[str], form: Format = "auto"
) -> Path | None:
    """Give the first file of references whose rows have `outputs` of decoding, while no system's have any.

    The two were then given for one another, maybe.  Texts without such fields cannot be told apart.
    """
    if any(not row.keys().isdisjoint(outputs) for system in systems for row in system.rows.values()):
        return None
    for path in references:
        if any(not row.keys().isdisjoint(outputs) for _, row in islice(read_texts(path, form), 1)):
            return path
    return None


def joined_references(
    systems: Sequence[System], references: Mapping[str, Utterance] | None
) -> dict[str, Utterance]:
    """Give every utterance to be scored, by key: those of `references`, else all that any system has.

    What the rows of systems say of channel, language, speaker and duration is added where it is not known.

    ValueError where a system has utterances that the references lack, where two rows state different
    references for one key, where a file shares no utterance with those before it, or none states a reference.
    """
    found: dict[str, Utterance] = dict(references or {})
    for system in systems:
        if references is not None:
            foreign = [key for key in system.rows if key not in references]
            if foreign:
                raise ValueError(
                    f"{system.path} ({system.name}) has {len(foreign)} utterances that are not among the "
                    f"references: {_list(foreign)} (these have {next(iter(references))!r}); are these "
                    f"hypotheses of another set?{_keys(system.format)}"
                )
        elif found and not system.rows.keys() & found.keys():
            raise ValueError(
                f"{system.path} ({system.name}) shares no utterance with the files before it, "
                f"such as {next(iter(found))!r}, but has {next(iter(system.rows))!r}: hypotheses of another "
                f"set, or of the same set as manifest rows here and as messages lines there"
            )
        _add(system, found, references is not None)
    if references is None:
        without = [key for s in systems for key in s.rows if key not in found]
        if without:
            raise ValueError(
                f"{len(set(without))} utterances have a reference in no file: {_list(without)}; "
                "give the manifest of the set with --references"
            )
    return found


def _add(system: System, found: dict[str, Utterance], only_known: bool) -> None:
    for key, row in system.rows.items():
        stated = row.get("reference")
        if not isinstance(stated, str):
            if key in found:
                found[key] = _with(found[key], row)
            continue
        known = found.get(key)
        if known is None:
            if not only_known:
                found[key] = Utterance(stated, _seconds(row), _facts(row))
            continue
        if known.text != stated and scored_characters(known.text) != scored_characters(stated):
            raise ValueError(
                f"{system.path} ({system.name}): {key} has the reference {stated!r}, elsewhere "
                f"{known.text!r}; decode all systems on the same manifest"
            )
        found[key] = _with(known, row)


def with_metadata(references: Mapping[str, Utterance], paths: Sequence[Path]) -> dict[str, Utterance]:
    """Add channel, language, speaker and duration from manifests, by key, where they are not stated yet.

    Rows of other utterances are passed over; ValueError for a file that has none of the references.
    """
    found = dict(references)
    for path in paths:
        known = 0
        for line, row in read_rows(path):
            key = _key(row, path, line)
            if key in found:
                found[key] = _with(found[key], row)
                known += 1
        if not known:
            raise ValueError(
                f"{path} has a row for none of the {len(found)} utterances, such as {next(iter(found))!r}: "
                f"is it the manifest of another set, or of the same set with other ids?"
            )
    return found


def present_everywhere(
    systems: Sequence[System], references: Mapping[str, Utterance]
) -> dict[str, Utterance]:
    """Give the utterances that every system has a row of; ValueError where there is none."""
    found = {key: said for key, said in references.items() if all(key in s.rows for s in systems)}
    if not found:
        names = ", ".join(system.name for system in systems)
        raise ValueError(f"no utterance has a row in all of {names}: nothing to score that all have")
    return found


def outputs_of(system: System, keys: Sequence[str], name: str) -> Outputs | None:
    """Give the texts of field `name` for all keys; None where no row that went well has the field."""
    good = [row for row in system.rows.values() if not row.get("error")]
    if good and not any(isinstance(row.get(name), str) for row in good):
        return None
    found = Outputs([])
    for key in keys:
        row = system.rows.get(key)
        text = None if row is None or row.get("error") else row.get(name)
        if row is None:
            found.missing.append(key)
        elif row.get("error"):
            found.failed.append(key)
            found.errors[key] = str(row["error"])
        elif not isinstance(text, str):
            found.absent.append(key)
        found.texts.append(text if isinstance(text, str) else "")
    return found


def _key(row: Mapping[str, Any], path: Path, line: int) -> str:
    key = row.get("key")
    if key not in (None, ""):
        return str(key)
    if row.get("audio_filepath") is None and not any(row.get(name) for name in ("id", "utt", "utterance_id")):
        raise ValueError(f"{path}:{line}: the row has no key, so it is not known which utterance it is of")
    return row_identity(row)


def _keys(form: Format) -> str:
    """Say what is taken for keys where lines may have none."""
    if form != "kaldi":
        return ""
    return " (the first word of each line is taken for its key; --format lines reads files without keys)"


def _said(row: Mapping[str, Any]) -> str | None:
    messages = row.get("messages")
    if isinstance(messages, list):
        said = [m.get("content") for m in messages if isinstance(m, dict) and m.get("role") == "assistant"]
        texts = [text for text in said if isinstance(text, str)]
        return " ".join(texts) if said and len(texts) == len(said) else None
    for name in ("reference", "text"):
        if isinstance(row.get(name), str):
            return str(row[name])
    return None


def _facts(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: row[name] for name in (*FACTS, "audio_filepath", "offset") if row.get(name) not in (None, "")
    }


def _with(known: Utterance, row: Mapping[str, Any]) -> Utterance:
    """Add what a row states and nothing stated before; a channel's record goes before a channel's name."""
    facts, stated = dict(known.facts), _facts(row)
    for name, value in stated.items():
        if name not in facts or (isinstance(value, Mapping) and not isinstance(facts[name], Mapping)):
            facts[name] = value
    seconds = _seconds(row) if known.duration_s is None else known.duration_s
    if facts == known.facts and seconds == known.duration_s:
        return known
    return Utterance(known.text, seconds, facts)


def _seconds(row: Mapping[str, Any]) -> float | None:
    value = row.get("duration")
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    frames = row.get("speech_length")  # of messages lines: frames of 25 ms every 10 ms
    if isinstance(frames, int) and not isinstance(frames, bool):
        return frames / 100 + 0.015
    return None


def _list(keys: Sequence[str]) -> str:
    return ", ".join(map(repr, keys[:NAMED])) + (", ..." if len(keys) > NAMED else "")
