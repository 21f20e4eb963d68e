"""Make the labelled manifests of the fine-tuning stages: prompts of one language, held out by prompt key.

Writes {train,dev,test}_{wideband,simulated,gsm}.jsonl with normalised texts, adapt.jsonl (wideband and
simulated versions of the training prompts), adapt_dev.jsonl, and report.json with the counts.  Rows of
test_simulated.jsonl are each prompt once, through the first of the simulated sets, and keep the record of
their channel, by which scores are broken down; in the others `channel` is the name of the version.

The split is that of the pre-training's manifests (same shares and seed), and it is checked: a prompt that is
held out for the test is in no version and no language in any manifest of a training.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from labels import add_split_options, usable_rows, write_sets

from nest_ssl.bin.terminal import run
from nest_ssl.files.manifest import read_rows
from nest_ssl.files.rows import split_of
from nest_ssl.text.normalization import TextNormalizer

SPLITS = ("train", "dev", "test")
KEPT = ("duration", "lang", "key", "channel")


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    versions = {"wideband": [arguments.wideband], "simulated": arguments.simulated, "gsm": [arguments.gsm]}
    dropped: Counter[str] = Counter()
    sets: dict[str, list[dict]] = {}
    for version, manifests in versions.items():
        calls = [labelled(manifest, arguments, version, dropped) for manifest in manifests]
        rows = [row | {"channel": version} for each in calls for row in each]
        for split in SPLITS:
            sets[f"{split}_{version}"] = [row for row in rows if split_of_row(row, arguments) == split]
        if version == "simulated":
            sets["test_simulated"] = [row for row in calls[0] if split_of_row(row, arguments) == "test"]
    sets["adapt"] = sets["train_wideband"] + sets["train_simulated"]
    sets["adapt_dev"] = sets["dev_wideband"] + sets["dev_simulated"]
    held_out = {row["key"] for row in sets["test_wideband"]}
    for manifest in arguments.pretrain:
        refuse_heard({row.get("key") for _, row in read_rows(manifest)}, held_out, str(manifest))
    for name, rows in sets.items():
        if not name.startswith("test"):
            refuse_heard({row["key"] for row in rows}, held_out, name)
    way_out = "raise --dev or --test, or lower them for train"
    write_sets(sets, dropped, arguments.out / "report.json", way_out)
    return 0


def labelled(
    manifest: Path, arguments: argparse.Namespace, version: str, dropped: Counter[str]
) -> list[dict]:
    """The rows of one manifest that can be trained on or scored, their texts normalised."""
    return [
        {
            "audio_filepath": row["audio_filepath"],
            "text": row["text"],
            **{key: row[key] for key in KEPT if key in row},
            "id": f"{manifest.stem}/{row['id']}",  # two channels of a prompt have the same id
        }
        for row in usable_rows(manifest, arguments, version, dropped, TextNormalizer())
    ]


def split_of_row(row: dict, arguments: argparse.Namespace) -> str:
    return split_of(row["key"], arguments.dev, arguments.test, arguments.split_seed)


def refuse_heard(heard: set, held_out: set[str], name: str) -> None:
    """Raise ValueError if a training set has prompts that the test holds out."""
    if both := heard & held_out:
        raise ValueError(
            f"{name} has {len(both)} of the {len(held_out)} prompts held out for the test ({min(both)!r} is "
            "one); make it with the same --dev, --test and --split-seed"
        )


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wideband", type=Path, required=True, help="manifest of the recordings")
    parser.add_argument(
        "--simulated", type=Path, required=True, nargs="+", help="of simulated telephone calls"
    )
    parser.add_argument("--gsm", type=Path, required=True, help="of the published telephone versions")
    parser.add_argument(
        "--pretrain", type=Path, nargs="*", default=[], help="what the encoder was trained on"
    )
    parser.add_argument("--out", type=Path, required=True)
    add_split_options(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
