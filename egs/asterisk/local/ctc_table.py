"""The tables of run_ctc.sh: NEST start against random start, at equal updates and at equal wall-clock time.

Means and sample standard deviations over the seeds.  The gate of the pre-training, log-perplexity of the
targets minus the masked loss, stands above the tables.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from pathlib import Path

from nest_ssl.bin.terminal import run
from nest_ssl.files.atomic import replaced
from nest_ssl.files.manifest import read_rows

STARTS = {"random": "random weights", "nest": "NEST"}
SETS = {"wideband": "wideband", "gsm": "real GSM"}
MARKS = (0.25, 0.5, 0.75, 1.0)
GATE_NATS = 1.0


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=Path, required=True, help="folder with START-SEED folders")
    parser.add_argument("--seeds", required=True, help="separated by spaces")
    parser.add_argument("--pretrain", type=Path, required=True, help="nest.json of the pre-trained model")
    parser.add_argument("--labels", type=Path, required=True, help="labels.json")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    seeds = arguments.seeds.split()
    pretraining = json.loads(arguments.pretrain.read_text(encoding="utf-8"))
    labels = json.loads(arguments.labels.read_text(encoding="utf-8"))
    runs = {start: [Trial(arguments.trials / f"{start}-{seed}") for seed in seeds] for start in STARTS}
    lines = ["# CTC from NEST and from random weights", "", *heading(pretraining, labels, seeds, runs), ""]
    lines += [*by_updates(runs), "", *by_time(runs), ""]
    with replaced(arguments.out) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))
    return 0


class Trial:
    """What one trial left: validations as (step, training seconds, CER, WER), error rates of the held-out."""

    def __init__(self, folder: Path) -> None:
        self.scores = {
            kind: json.loads((folder / f"{kind}.json").read_text(encoding="utf-8")) for kind in SETS
        }
        rows = [row for _, row in read_rows(folder / "metrics.jsonl")]
        self.updates = max(row["step"] for row in rows)
        self.validations = training_clock(rows)


def training_clock(rows: list[dict]) -> list[tuple[int, float, float, float]]:
    """(step, seconds of training, CER, WER) of each validation; the time of validating is taken out.

    The clock starts at the first logged step, as both starts do: what came before is start-up.
    """
    began = seconds_of(rows[0]["time"])
    spent_validating = 0.0
    found = []
    for row in rows:
        if row["kind"] != "validation":
            continue
        spent_validating += row["seconds"]
        clock = seconds_of(row["time"]) - began - spent_validating
        found.append((row["step"], clock, row["val_cer"], row["val_wer"]))
    return found


def seconds_of(stamp: str) -> float:
    return time.mktime(time.strptime(stamp, "%Y-%m-%d %H:%M:%S"))


def heading(pretraining: dict, labels: dict, seeds: list[str], runs: dict[str, list[Trial]]) -> list[str]:
    train, held = labels["train"], labels["heldout_wideband"]
    gain = pretraining["gain_nats"]
    known = "unknown" if gain is None else f"{gain:.2f} nats"
    lines = [
        f"Labelled: {train['prompts']} prompts, {train['minutes']} min; held out: {held['prompts']} prompts, "
        f"{held['minutes']} min, by prompt key. {len(seeds)} seeds ({', '.join(seeds)}), "
        f"{runs['nest'][0].updates} updates each, greedy decoding, last weights.",
        f"Pre-training: {pretraining['model']}, step {pretraining['step']}, "
        f"{pretraining['hours_seen']} h of audio seen; log-perplexity less masked loss: {known}.",
    ]
    if gain is not None and gain < GATE_NATS:
        lines.append(
            f"WARNING: {gain:.2f} is below {GATE_NATS:g} nat: the pre-training has not got off the ground; "
            "its encoder may be a worse start than random weights."
        )
    return lines


def by_updates(runs: dict[str, list[Trial]]) -> list[str]:
    lines = [
        "## Equal updates",
        "",
        "| start | " + " | ".join(f"{s} CER | {s} WER" for s in SETS.values()) + " |",
    ]
    lines.append("|---" * (1 + 2 * len(SETS)) + "|")
    for start, name in STARTS.items():
        cells = [
            spread([trial.scores[kind][rate] for trial in runs[start]])
            for kind in SETS
            for rate in ("cer", "wer")
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def by_time(runs: dict[str, list[Trial]]) -> list[str]:
    """Validation CER where every trial has been trained for equally long."""
    whole = min(trial.validations[-1][1] for trials in runs.values() for trial in trials)
    marks = [share * whole for share in MARKS]
    lines = ["## Equal wall-clock time of fine-tuning (dev CER, greedy)", ""]
    lines.append("| start | " + " | ".join(f"{mark:.0f} s" for mark in marks) + " |")
    lines.append("|---" * (1 + len(marks)) + "|")
    for start, name in STARTS.items():
        cells = [spread([at(trial, mark) for trial in runs[start]]) for mark in marks]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def at(trial: Trial, mark: float) -> float:
    """CER at the last validation that was not after `mark`; NaN before the first."""
    passed = [cer for _, clock, cer, _ in trial.validations if clock <= mark]
    return passed[-1] if passed else math.nan


def spread(values: list[float]) -> str:
    values = [value for value in values if not math.isnan(value)]
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


if __name__ == "__main__":
    run(main)
