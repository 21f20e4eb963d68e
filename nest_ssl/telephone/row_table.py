"""One pass over a manifest before its audio is made: ids told apart, talkers placed, folders kept small."""

from __future__ import annotations

import hashlib
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from nest_ssl.files.index import ManifestIndex
from nest_ssl.files.rows import row_identity, text_digest
from nest_ssl.telephone.noise import TalkerPool, prompt_key
from nest_ssl.telephone.seed import key_bucket

FILES_IN_A_FOLDER = 4096


@dataclass(frozen=True)
class RowTable:
    """names: (rows,) uint64, `text_digest` of the utterance ids.  crowded: `text_digest` of the folder of ids
    (what is before their last slash) -> hexadecimal digits of the level that splits it; only folders of
    more than FILES_IN_A_FOLDER ids are in it."""

    names: np.ndarray
    crowded: Mapping[int, int]

    def audio_name(self, utterance: str, suffix: str) -> str:
        """Give the relative path, with /, of an utterance's audio; different ids never share one."""
        folder, _, last = utterance.rpartition("/")
        parts = [file_name(part) for part in utterance.split("/")]
        digits = self.crowded.get(text_digest(folder), 0) if self.crowded else 0
        # "%-" begins no name that file_name gives, so that no id's own folder is taken for a level
        level = [f"%-{text_digest(last):016x}"[: digits + 2]] if digits else []
        return "/".join([*parts[:-1], *level, parts[-1] + suffix])


def scan_rows(
    index: ManifestIndex,
    visit: Callable[[int, Mapping[str, Any]], Any] = lambda number, row: None,
    distinct: bool = True,
) -> RowTable:
    """Read every row once and show it to `visit`; holds 16 bytes per row.

    With `distinct`, raises ValueError naming the lines of two rows of one utterance id: their outputs would
    be one file.
    """
    names = np.empty(len(index), np.uint64)
    folders = np.empty(len(index), np.uint64)
    last_folder, last_digest = "", text_digest("")
    for number in range(len(index)):
        row = index.row(number)
        utterance = row_identity(row)
        names[number] = text_digest(utterance)
        folder = utterance.rpartition("/")[0]
        if folder != last_folder:
            last_folder, last_digest = folder, text_digest(folder)
        folders[number] = last_digest
        visit(number, row)
    order = np.argsort(names, kind="stable")
    twice = np.flatnonzero(names[order][1:] == names[order][:-1])
    if distinct and len(twice):
        first, second = (int(order[twice[0] + i]) for i in (0, 1))
        raise ValueError(
            f"{index.path}:{index.line(second)}: the utterance id {row_identity(index.row(second))!r} "
            f"is that of line {index.line(first)}; ids (or audio files, where there are no ids) must differ"
        )
    crowded = {}
    if len(index) > FILES_IN_A_FOLDER:
        values, counts = np.unique(folders, return_counts=True)
        many = counts > FILES_IN_A_FOLDER
        for value, count in zip(values[many].tolist(), counts[many].tolist(), strict=True):
            digits = 1
            while count > 16**digits * FILES_IN_A_FOLDER // 4:  # a quarter: hashes spread unevenly
                digits += 1
            crowded[value] = digits
    return RowTable(names, crowded)


def scan_talkers(
    index: ManifestIndex, split_seed: int = 0, distinct: bool = True
) -> tuple[RowTable, TalkerPool]:
    """Read every row once, as `scan_rows`; gives also the rows as the talkers that babble is made of.

    Which of them are drawn depends on their ids and keys alone, not on the order of the manifest.
    """
    buckets = np.empty(len(index), np.uint8)

    def visit(number: int, row: Mapping[str, Any]) -> None:
        buckets[number] = key_bucket(prompt_key(row), split_seed)

    table = scan_rows(index, visit, distinct)
    rows = RowsByName(index, table)
    return table, TalkerPool(cast(ManifestIndex, rows), buckets[rows.order], split_seed)


def file_name(part: str) -> str:
    """Give a part of an id as a file name; safe on any file system and different for different parts."""
    name = urllib.parse.quote(part, safe=" +=@,")
    if name in ("", ".", "..") or name.startswith("."):
        name = "%2E" + name[1:] if name else "%00"
    if len(name) > 180:
        name = name[:120] + "%" + hashlib.sha256(part.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return name


class RowsByName:
    """The rows of a manifest in an order that their ids alone decide: shuffling the manifest changes nothing.

    Stands in for a ManifestIndex where rows are drawn at random.
    """

    def __init__(self, index: ManifestIndex, table: RowTable) -> None:
        self.path = index.path
        self.order = np.argsort(table.names, kind="stable").astype(np.uint32)
        self._index = index

    def row(self, i: int) -> dict[str, Any]:
        """Read the row that comes i-th (from 0) by its id."""
        return self._index.row(int(self.order[i]))

    def __len__(self) -> int:
        return len(self._index)
