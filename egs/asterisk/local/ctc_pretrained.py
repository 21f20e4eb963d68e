"""Say which pre-trained model run_ctc.sh starts from, and whether its pre-training got off the ground."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

from nest_ssl.bin.terminal import run
from nest_ssl.checkpoints.source import read_source
from nest_ssl.files.atomic import replaced
from nest_ssl.files.manifest import read_rows

GATE_NATS = 1.0


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help=".nemo, checkpoint or run directory")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    facts = {"model": str(arguments.model), "step": None, "hours_seen": None, "gain_nats": None}
    source = read_source(arguments.model)
    facts |= {key: source.facts[key] for key in ("step", "hours_seen") if source.facts.get(key) is not None}
    facts["gain_nats"] = (source.facts.get("metrics") or {}).get("val_gain_nats")
    facts["train_manifests"] = manifests_of(source.config)
    log = next((p / "metrics.jsonl" for p in near(arguments.model) if (p / "metrics.jsonl").is_file()), None)
    if log is not None:
        facts |= last_of(log, facts["step"])
    if facts["hours_seen"] is not None:
        facts["hours_seen"] = round(facts["hours_seen"], 2)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with replaced(arguments.out) as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(*(f"{key} {value}" for key, value in facts.items()))
    gain = facts["gain_nats"]
    if gain is not None and gain < GATE_NATS:
        print(
            f"WARNING gain_nats {gain:.2f} is below {GATE_NATS:g}: the encoder may be a worse start than "
            "random weights; pre-train longer"
        )
    return 0


def manifests_of(config: dict | None) -> list[str]:
    """Manifests that a `model:` section trains on, as they are written there; none where it does not say."""
    named = ((config or {}).get("train_ds") or {}).get("manifest_filepath")
    if isinstance(named, str):
        named = [part.strip() for part in named.split(",")]
    return [name for name in named or () if isinstance(name, str) and name not in ("", "???")]


def near(model: Path) -> list[Path]:
    return [model, *model.parents[:3]] if model.is_dir() else list(model.parents[:3])


def last_of(log: Path, step: int | None) -> dict:
    """The newest figures of a run's metrics.jsonl, up to `step`."""
    found: dict = {}
    for _, row in read_rows(log):
        if step is not None and row["step"] > step:
            break
        if row["kind"] == "validation" and row.get("val_gain_nats") is not None:
            found |= {"gain_nats": row["val_gain_nats"], "step": row["step"]}
        elif row["kind"] == "train" and math.isfinite(row["hours_seen"]):
            found["hours_seen"] = row["hours_seen"]
    return found


if __name__ == "__main__":
    run(main)
