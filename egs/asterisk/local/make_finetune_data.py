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
import json
import os
from collections import Counter
from pathlib import Path

from nest_ssl.bin.terminal import run
from nest_ssl.files.atomic import replaced
from nest_ssl.files.manifest import read_rows, write_rows
from nest_ssl.files.rows import audio_path, split_of
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
    report: dict = {}
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, chosen in sets.items():
        if not chosen:
            raise ValueError(f"no prompt is in {name}; raise --dev or --test, or lower them for train")
        if not name.startswith("test"):
            refuse_heard({row["key"] for row in chosen}, held_out, name)
        write_rows(arguments.out / f"{name}.jsonl", chosen)
        report[name] = {
            "prompts": len(chosen),
            "minutes": round(sum(row["duration"] for row in chosen) / 60, 2),
            "characters": sum(len(row["text"]) for row in chosen),
        }
        print(name, *(f"{key} {value}" for key, value in report[name].items()))
    report["dropped"] = dict(dropped)
    print("dropped", dict(dropped))
    with replaced(arguments.out / "report.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def labelled(
    manifest: Path, arguments: argparse.Namespace, version: str, dropped: Counter[str]
) -> list[dict]:
    """The rows of one manifest that can be trained on or scored; paths relative to --out."""
    normalize = TextNormalizer()
    found = []
    for _, row in read_rows(manifest):
        if row.get("lang") != arguments.lang:
            continue
        text = normalize(row.get("text") or "")
        if not text:
            dropped[f"{version}: without text"] += 1
        elif not arguments.min_duration <= row["duration"] <= arguments.max_duration:
            dropped[f"{version}: shorter or longer than wanted"] += 1
        else:
            path = os.path.relpath(audio_path(row, manifest), arguments.out)
            identity = f"{manifest.stem}/{row['id']}"  # two channels of a prompt have the same id
            kept = {key: row[key] for key in KEPT if key in row}
            found.append({"audio_filepath": path, "text": text, **kept, "id": identity})
    return found


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
    parser.add_argument("--lang", default="en")
    parser.add_argument("--dev", type=float, required=True)
    parser.add_argument("--test", type=float, required=True)
    parser.add_argument("--split-seed", type=int, required=True)
    parser.add_argument("--min-duration", type=float, default=0.5)
    parser.add_argument("--max-duration", type=float, default=20.0)
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
