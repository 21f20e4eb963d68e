"""Step 4: train and dev, with nothing of one recording (speaker, key) on both sides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nest_ssl.data.sources.text_table import text_lines
from nest_ssl.data.stage0.rows import Row, rows_in
from nest_ssl.data.stage0.settings import SplitSettings
from nest_ssl.files.rows import split_position


class Groups:
    """Rows that share a value belong together, also through others: sets joined by union-find."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        self._fields = fields
        self._parent: dict[str, str] = {}

    def values(self, row: Row) -> list[str]:
        """The row's values of the fields, each named with its field; a field that it lacks joins nothing."""
        found = [f"{name}\x1f{row[name]}" for name in self._fields if row.get(name) not in (None, "")]
        return found or [f"id\x1f{row['id']}"]

    def add(self, row: Row) -> None:
        """Join what the row's values belong to; the root is the smallest value, whatever the order."""
        first, *others = (self._root(value) for value in self.values(row))
        for other in others:
            low, high = sorted((self._root(first), self._root(other)))
            if low != high:
                self._parent[high] = low

    def of(self, row: Row) -> str:
        """The name of the row's group, once all rows were added."""
        return self._root(self.values(row)[0])

    def _root(self, value: str) -> str:
        root = value
        while (above := self._parent.setdefault(root, root)) != root:
            root = above
        while self._parent[value] != root:
            self._parent[value], value = root, self._parent[value]
        return root


@dataclass
class Division:
    """Which groups are for dev; `note` says what else happened, or is empty."""

    groups: Groups
    dev: set[str]
    num_groups: int
    note: str

    def side(self, row: Row) -> str:
        """Give train or dev."""
        return "dev" if self.groups.of(row) in self.dev else "train"


def divide(rows: Path, settings: SplitSettings, seed: int, name: str, roots: Sequence[str] = ()) -> Division:
    """Choose the groups of the rows of a file that are for dev.

    By the list or the subsets where they are given, else by a hash of the group and the seed, so that a
    group stays where it is as data are added.  roots: folders of the sources; a recording is named by its
    path within them, so that a moved corpus is divided alike.  Raises ValueError if one side would be empty.
    """
    groups = Groups(settings.by)
    for row in rows_in(rows):
        groups.add(row)
    names = sorted({groups.of(row) for row in rows_in(rows)})
    note = ""
    if settings.dev_list or settings.dev_subsets:
        dev, note = _listed(rows, groups, settings)
        how = f"dev_list {settings.dev_list}" if settings.dev_list else f"dev_subsets {settings.dev_subsets}"
    else:
        positions = {group: split_position(_within(group, roots), seed) / 2**64 for group in names}
        dev = {group for group, position in positions.items() if position < settings.dev}
        how = f"dev {settings.dev}"
        if len(names) > 1 and len(dev) in (0, len(names)):
            # few groups: the share is missed, but neither side stays empty
            by_position = sorted(names, key=lambda group: positions[group])
            dev = set(by_position[:1] if not dev else by_position[:-1])
            note = f"only {len(names)} groups: {len(dev)} of them went to dev"
    if not dev or len(dev) == len(names):
        empty = "train" if dev else "dev"
        by = ", ".join(settings.by)
        raise ValueError(
            f"{name}: {empty} is empty with {how}: the rows make {len(names)} group(s) of equal {by}. "
            f"Give more data, or change split.by (a speaker who is in all recordings joins them all)"
        )
    return Division(groups, dev, len(names), note)


def _within(group: str, roots: Sequence[str]) -> str:
    """A group's name without the folder of its source."""
    for root in roots:
        group = group.replace(f"\x1f{root}/", "\x1f")
    return group


def _listed(rows: Path, groups: Groups, settings: SplitSettings) -> tuple[set[str], str]:
    """The groups of the rows that the list names by id, recording, speaker or key, or of the subsets; and a
    note on names that no row has."""
    wanted: set[str] = set()
    if settings.dev_list:
        wanted = {line.split()[0] for _, line in text_lines(settings.dev_list)}
    used: set[str] = set()
    dev: set[str] = set()
    for row in rows_in(rows):
        names = _names(row)
        if names & wanted or set(row.get("subset") or ()) & set(settings.dev_subsets):
            used |= names & wanted
            dev.add(groups.of(row))
    unknown = wanted - used
    if unknown and not used:
        raise ValueError(
            f"{settings.dev_list}: none of its {len(unknown)} names (the first is {min(unknown)}) is the id, "
            f"recording, speaker or key of a row that is left"
        )
    note = f"{len(unknown)} of {len(wanted)} names of dev_list are of no row that is left" if unknown else ""
    return dev, note


def _names(row: Row) -> set[str]:
    named: Iterable[Any] = (row.get(field) for field in ("id", "recording", "speaker", "key"))
    names = {str(value) for value in named if value not in (None, "")}
    return names | {Path(name).stem for name in names if "/" in name}
