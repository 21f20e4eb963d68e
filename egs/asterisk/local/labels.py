"""What the makers of labelled manifests share: the usable rows, and writing sets with their sizes."""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from nest_ssl.files.atomic import replaced
from nest_ssl.files.manifest import read_rows, write_rows
from nest_ssl.files.rows import audio_path


def add_split_options(parser: argparse.ArgumentParser) -> None:
    """Add --lang, the durations, and the split, which must be that of the pre-training's manifests."""
    parser.add_argument("--lang", default="en")
    parser.add_argument("--dev", type=float, required=True, help="share of the prompts")
    parser.add_argument("--test", type=float, required=True, help="share of the prompts")
    parser.add_argument("--split-seed", type=int, required=True)
    parser.add_argument("--min-duration", type=float, default=0.5, help="seconds [%(default)s]")
    parser.add_argument("--max-duration", type=float, default=20.0, help="seconds [%(default)s]")


def usable_rows(
    manifest: Path,
    arguments: argparse.Namespace,
    version: str,
    dropped: Counter[str],
    wording: Callable[[str], str] = str,
) -> Iterator[dict]:
    """The rows of the language that have a text and a duration within the limits; the others are counted.

    `text` is what `wording` makes of it, and the path of the audio is relative to --out.
    """
    for _, row in read_rows(manifest):
        if row.get("lang") != arguments.lang:
            continue
        text = wording(row.get("text") or "")
        if not text:
            dropped[f"{version}: without text"] += 1
        elif not arguments.min_duration <= row["duration"] <= arguments.max_duration:
            dropped[f"{version}: shorter or longer than wanted"] += 1
        else:
            path = os.path.relpath(audio_path(row, manifest), arguments.out)
            yield row | {"audio_filepath": path, "text": text}


def write_sets(sets: Mapping[str, list[dict]], dropped: Counter[str], report: Path, way_out: str) -> None:
    """Write NAME.jsonl of every set and the report beside them; ValueError where a set is empty."""
    for name, rows in sets.items():
        if not rows:
            raise ValueError(f"no prompt is in {name}; {way_out}")
    report.parent.mkdir(parents=True, exist_ok=True)
    sizes: dict[str, dict] = {}
    for name, rows in sets.items():
        write_rows(report.parent / f"{name}.jsonl", rows)
        sizes[name] = {
            "prompts": len(rows),
            "minutes": round(sum(row["duration"] for row in rows) / 60, 2),
            "characters": sum(len(row["text"]) for row in rows),
        }
        print(name, *(f"{key} {value}" for key, value in sizes[name].items()))
    sizes["dropped"] = dict(dropped)
    print("dropped", sizes["dropped"])
    with replaced(report) as temporary:
        temporary.write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")
