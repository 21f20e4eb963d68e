"""One trial of run_ctc.sh: fine-tune one kind of start with one seed, then transcribe the held-out prompts.

Trial NUMBER (from 1) is one of the seeds times the starts; the starts of a seed are neighbours, so that both
meet the same load of the machine.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from verbs import run_verb

from nest_ssl.files.atomic import replaced

STARTS = ("random", "nest")
HELD_OUT = ("wideband", "gsm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--seeds", required=True, help="separated by spaces")
    parser.add_argument("--nest", required=True, help="pre-trained model")
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("--nest-settings", default="", help="KEY=VALUE words for the NEST start only")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    arguments = parser.parse_intermixed_args()
    seed, start = trials(arguments.seeds)[arguments.number - 1]
    out = arguments.out / f"{start}-{seed}"
    settings = [
        f"exp_manager.explicit_log_dir={out}",
        f"trainer.seed={seed}",
        # The same architecture either way.
        f"{'init_from_nemo_model' if start == 'nest' else 'init_config_from'}={arguments.nest}",
        *arguments.settings,
        *(arguments.nest_settings.split() if start == "nest" else []),
    ]
    refuse_other_settings(out, settings)
    run_verb("finetune_ctc", "--config", arguments.config, *settings)
    for kind in HELD_OUT:
        what = ["--manifest", arguments.labels / f"heldout_{kind}.jsonl", "--out", out / f"{kind}.jsonl"]
        run_verb("transcribe", "--model", out / "final.nemo", *what, "--summary", out / f"{kind}.json")


def refuse_other_settings(out: Path, settings: list[str]) -> None:
    """A trial goes on where it stopped, so what it was begun with must still hold."""
    path, text = out / "settings.txt", "\n".join(settings) + "\n"
    if not path.is_file():
        out.mkdir(parents=True, exist_ok=True)
        with replaced(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != text:
        sys.exit(f"{out} was begun with other settings: add --fresh finetune, or take another --tag")


def trials(seeds: str) -> list[tuple[int, str]]:
    return [(int(seed), start) for seed in seeds.split() for start in STARTS]


if __name__ == "__main__":
    main()
