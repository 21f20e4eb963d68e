"""Make the labelled manifests of run_ctc.sh: English prompts with text, held out by prompt key.

The split is that of the pre-training's manifests (same shares and seed), so a held-out prompt was not heard
there either, in any language; checked where the model says which manifests it was trained on.  Writes
train.jsonl, dev.jsonl and heldout_{wideband,gsm}.jsonl (dev and test), and labels.json with the counts.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from labels import add_split_options, usable_rows, write_sets

from nest_ssl.bin.terminal import run
from nest_ssl.files.manifest import read_rows
from nest_ssl.files.rows import split_of, split_position

SOURCES = {"wideband": "prompts.jsonl", "gsm": "prompts_gsm.jsonl", "telephone": "telephone.jsonl"}
LABEL_SEED = 0  # of the draw of --label-share: a larger share has all of a smaller one


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    dropped: Counter[str] = Counter()
    versions = dict.fromkeys((*arguments.train_audio, "wideband", "gsm"))
    rows = {name: labelled(arguments, name, dropped) for name in versions}
    sets = {
        "train": [
            row
            for name in arguments.train_audio
            for row in of_split(rows[name], arguments, "train")
            if split_position(row["key"], LABEL_SEED) / 2**64 < arguments.label_share
        ],
        "dev": of_split(rows["wideband"], arguments, "dev"),
        "heldout_wideband": of_split(rows["wideband"], arguments, "dev", "test"),
        "heldout_gsm": of_split(rows["gsm"], arguments, "dev", "test"),
    }
    refuse_heard(arguments.pretrain, {row["key"] for row in sets["heldout_wideband"]})
    write_sets(sets, dropped, arguments.out / "labels.json", "raise --dev, --test or --label-share")
    return 0


def labelled(arguments: argparse.Namespace, name: str, dropped: Counter[str]) -> list[dict]:
    """The rows of one version of the prompts that can be trained on or scored."""
    kept = ("audio_filepath", "duration", "text", "lang", "key", "id")
    rows = usable_rows(arguments.data / SOURCES[name], arguments, name, dropped)
    return [{key: row[key] for key in kept if key in row} for row in rows]


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
    add_split_options(parser)
    parser.add_argument("--train-audio", nargs="+", choices=sorted(SOURCES), default=["wideband"])
    parser.add_argument("--label-share", type=float, default=1.0)
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
