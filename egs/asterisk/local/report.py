"""Put the page of a run together: the scores, whether the aims were met, the data."""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path

from nest_ssl.bin.terminal import run
from nest_ssl.files.atomic import replaced
from nest_ssl.text.scoring import HEADLINE

AIM_RELATIVE, AIM_ABSOLUTE = 0.25, 0.40
CHANCE = 0.05  # p from which a difference is taken for one


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exp", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with finetune/report.json")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    exp = arguments.exp
    scores = json.loads((exp / "scores.json").read_text(encoding="utf-8"))
    counts = json.loads((arguments.data / "finetune" / "report.json").read_text(encoding="utf-8"))
    lines = (exp / "SCORES.md").read_text(encoding="utf-8").rstrip().splitlines()
    lines += ["", "## Aims", "", *verdict(scores)]
    lines += ["", "## Weight of CTC in the joint output, chosen on the dev prompts", "", *weights(exp)]
    lines += [
        "",
        "## Data of fine-tuning",
        "",
        "| set | prompts | minutes | characters |",
        "|---|---|---|---|",
    ]
    for name, count in counts.items():
        if name != "dropped":
            lines.append(f"| {name} | {count['prompts']} | {count['minutes']} | {count['characters']} |")
    with replaced(arguments.out) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(*verdict(scores), arguments.out, sep="\n")
    return 0


def verdict(scores: dict) -> list[str]:
    """Say in words what the joint output of the last stage gained, whatever it is."""
    rows = {row["system"]: row for row in scores["rows"] if row["field"] == HEADLINE}
    rates = {name: row["cer"]["rate"] for name, row in rows.items()}
    baseline = min(("base", "control"), key=lambda name: rates[name])
    last, gain = rates["lora"], 1.0 - rates["lora"] / rates[baseline] if rates[baseline] else 0.0
    lines = [
        f"* CER {rates[baseline]:.3f} ({baseline}, the better of base and control) -> {last:.3f} (lora): "
        f"{gain:.1%} relative; the aim is {AIM_RELATIVE:.0%}: {'met' if gain >= AIM_RELATIVE else 'not met'}",
        f"* CER {last:.3f}; the aim is {AIM_ABSOLUTE:.2f}: {'met' if last <= AIM_ABSOLUTE else 'not met'}",
    ]
    order = ("base", "encoder", "adaptor", "lora")
    for before, after in pairwise(order):
        change = rates[after] - rates[before]
        word = "helps" if change < 0 else "does not help"
        chance = (rows[after]["step"] or {}).get("p_value", 1.0)
        certainty = "" if chance < CHANCE else ", within what chance may do"
        word += f" (p {chance:.2g}{certainty})"
        lines.append(f"* {after}: {rates[before]:.3f} -> {rates[after]:.3f}, the stage {word}")
    return lines


def weights(exp: Path) -> list[str]:
    found = []
    for name in ("base", "control", "encoder", "adaptor", "lora"):
        path = exp / "decode" / f"{name}.weight.json"
        chosen = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        told = ", ".join(
            f"{key} {value:g}" for key, value in chosen.items() if isinstance(value, int | float)
        )
        found.append(f"* {name}: {told or 'not chosen'}")
    return found


if __name__ == "__main__":
    run(main)
