"""Make the labelled manifests of run_ctc.sh: English prompts with text, held out by prompt key.

The split is that of the pre-training's manifests (same shares and seed), so a held-out prompt was not heard
there either, in any language; checked where the model says which manifests it was trained on.  Writes
train.jsonl, dev.jsonl and heldout_{wideband,gsm}.jsonl (dev and test), and labels.json with the counts.
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
from nest_ssl.files.rows import audio_path, split_of, split_position

SOURCES = {"wideband": "prompts.jsonl", "gsm": "prompts_gsm.jsonl", "telephone": "telephone.jsonl"}


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    dropped: Counter[str] = Counter()
    rows = {name: labelled(arguments, name, dropped) for name in {*arguments.train_audio, "wideband", "gsm"}}
    out = arguments.out
    sets = {
        "train": [
            row
            for name in arguments.train_audio
            for row in of_split(rows[name], arguments, "train")
            if split_position(row["key"], arguments.label_seed) / 2**64 < arguments.label_share
        ],
        "dev": of_split(rows["wideband"], arguments, "dev"),
        "heldout_wideband": of_split(rows["wideband"], arguments, "dev", "test"),
        "heldout_gsm": of_split(rows["gsm"], arguments, "dev", "test"),
    }
    refuse_heard(arguments.pretrain, {row["key"] for row in sets["heldout_wideband"]})
    out.mkdir(parents=True, exist_ok=True)
    report = {}
    for name, chosen in sets.items():
        if not chosen:
            raise ValueError(f"no prompt is in {name}; raise --dev, --test or --label-share")
        write_rows(out / f"{name}.jsonl", chosen)
        report[name] = {
            "prompts": len(chosen),
            "minutes": round(sum(row["duration"] for row in chosen) / 60, 2),
            "characters": sum(len(row["text"]) for row in chosen),
        }
        print(name, *(f"{key} {value}" for key, value in report[name].items()))
    report["dropped"] = dict(dropped)
    print("dropped", dict(dropped))
    with replaced(out / "labels.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def labelled(arguments: argparse.Namespace, name: str, dropped: Counter[str]) -> list[dict]:
    """The rows of one version of the prompts that can be trained on or scored; paths relative to --out."""
    manifest = arguments.data / SOURCES[name]
    found = []
    for _, row in read_rows(manifest):
        if row.get("lang") != arguments.lang:
            continue
        if not row.get("text"):
            dropped[f"{name}: without text"] += 1
        elif not arguments.min_duration <= row["duration"] <= arguments.max_duration:
            dropped[f"{name}: shorter or longer than wanted"] += 1
        else:
            path = audio_path(row, manifest)
            kept = {key: row[key] for key in ("duration", "text", "lang", "key", "id") if key in row}
            found.append({"audio_filepath": os.path.relpath(path, arguments.out), **kept})
    return found


def refuse_heard(pretrain: Path, held_out: set[str]) -> None:
    """Raise ValueError if the model of nest.json was pre-trained on prompts that are held out here."""
    facts = json.loads(pretrain.read_text(encoding="utf-8"))
    model, manifests = facts["model"], [Path(name) for name in facts["train_manifests"]]
    if not all(manifest.is_file() for manifest in manifests) or not manifests:
        print(f"WARNING manifests that {model} was trained on are not here: held-out prompts may be in them")
    for manifest in filter(Path.is_file, manifests):
        heard = held_out & {row.get("key") for _, row in read_rows(manifest)}
        if heard:
            raise ValueError(
                f"{manifest}, on which {model} was pre-trained, has {len(heard)} of the {len(held_out)} "
                f"held-out prompts ({min(heard)!r} is one); give its --dev, --test and --split-seed"
            )


def of_split(rows: list[dict], arguments: argparse.Namespace, *splits: str) -> list[dict]:
    return [
        row
        for row in rows
        if split_of(row["key"], arguments.dev, arguments.test, arguments.split_seed) in splits
    ]


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the prompts' manifests")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pretrain", type=Path, required=True, help="nest.json of the pre-trained model")
    parser.add_argument("--lang", default="en")
    parser.add_argument("--dev", type=float, required=True)
    parser.add_argument("--test", type=float, required=True)
    parser.add_argument("--split-seed", type=int, required=True)
    parser.add_argument("--min-duration", type=float, default=0.5)
    parser.add_argument("--max-duration", type=float, default=20.0)
    parser.add_argument("--train-audio", nargs="+", choices=sorted(SOURCES), default=["wideband"])
    parser.add_argument("--label-share", type=float, default=1.0)
    parser.add_argument("--label-seed", type=int, default=0)
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
