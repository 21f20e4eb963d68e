"""Divide the dev lines of stage 0 into dev, on which weights are chosen, and test, on which nothing is.

Whole recordings go to one side by a hash of their names, about half of the lines to each.  tune.jsonl is a
part of dev, by a hash of the keys: the weight of the joint decoding is chosen on it.  test_metadata.jsonl
has what lines of messages have no room for, channel and duration above all: scores are broken down by it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from nest_ssl.bin.terminal import run
from nest_ssl.files.manifest import read_rows, write_rows
from nest_ssl.files.rows import row_identity, split_position


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", type=Path, required=True, help="a set of stage 0, with dev.jsonl and audio/")
    parser.add_argument("--out", type=Path, required=True, help="folder for dev, test and tune.jsonl")
    parser.add_argument("--tune", type=int, default=500, help="lines of tune.jsonl at most")
    parser.add_argument("--seed", type=int, default=17)
    arguments = parser.parse_args(argv)
    lines = {row["key"]: row for _, row in read_rows(arguments.set / "dev.jsonl")}
    recordings = recordings_of(arguments.set / "audio" / "dev.jsonl")
    if unknown := [key for key in lines if key not in recordings]:
        raise ValueError(
            f"{arguments.set}: {len(unknown)} lines of dev.jsonl have no row in audio/dev.jsonl, such as "
            f"{unknown[0]!r}; make the data again with --stage 0"
        )
    groups = {key: recordings[key] for key in lines}
    if len(set(groups.values())) < 2:
        print(f"WARNING: all of {arguments.set}/dev.jsonl is of one recording, so dev and test share it")
        groups = {key: key for key in lines}
    test = test_groups(groups, arguments.seed)
    if not test or test == set(groups.values()):
        raise ValueError(
            f"{arguments.set}/dev.jsonl has {len(lines)} line(s), which cannot be divided into dev and test; "
            f"give more data, or a larger dev share with --settings sets.{arguments.set.name}.split.dev=0.2"
        )
    sides: dict[str, list[dict[str, Any]]] = {"dev": [], "test": []}
    for key, line in lines.items():
        sides["test" if groups[key] in test else "dev"].append(line)
    for name, rows in sides.items():
        write_rows(arguments.out / f"{name}.jsonl", rows)
    stated = (
        {**row, "key": row_identity(row)} for _, row in read_rows(arguments.set / "audio" / "dev.jsonl")
    )
    tested = {row["key"] for row in sides["test"]}
    write_rows(arguments.out / "test_metadata.jsonl", [row for row in stated if row["key"] in tested])
    drawn = sorted(sides["dev"], key=lambda row: split_position(row["key"], arguments.seed))
    write_rows(arguments.out / "tune.jsonl", drawn[: arguments.tune])
    print(
        f"{arguments.out}: dev {len(sides['dev'])} lines (tune {min(len(drawn), arguments.tune)}), "
        f"test {len(sides['test'])} lines of {len(test)} of {len(set(groups.values()))} groups"
    )
    return 0


def recordings_of(manifest: Path) -> dict[str, str]:
    """Give the recording of each utterance; one that states none is a recording of its own."""
    rows = ((row_identity(row), row) for _, row in read_rows(manifest))
    return {key: str(row.get("recording") or key) for key, row in rows}


def test_groups(groups: dict[str, str], seed: int) -> set[str]:
    """Give the groups of the test side: in the order of a hash, until half of the lines are reached."""
    sizes = Counter(groups.values())
    names = sorted(sizes, key=lambda name: split_position(Path(name).name, seed))
    chosen: set[str] = set()
    count = 0
    for name in names[: len(names) - 1]:
        if 2 * count >= len(groups):
            break
        chosen.add(name)
        count += sizes[name]
    return chosen


if __name__ == "__main__":
    run(main)
