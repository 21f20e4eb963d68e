"""One of two fine-tunings that run side by side: number 1 adapts a model, number 2 is its control.

The control has the same parts, settings and number of updates, and hears wideband instead: what it gains came
from training longer, not from telephone speech.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from verbs import begin, run_verb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, choices=(1, 2), required=True)
    parser.add_argument("--part", required=True, help="encoder, adaptor or lora")
    parser.add_argument("--config", required=True)
    parser.add_argument("--models", nargs=2, type=Path, required=True, metavar=("ADAPTED", "CONTROL"))
    parser.add_argument("--train", nargs=2, required=True, metavar=("ADAPTED", "CONTROL"))
    parser.add_argument("--valid", nargs=2, required=True, metavar=("ADAPTED", "CONTROL"))
    parser.add_argument("--out", nargs=2, type=Path, required=True, metavar=("ADAPTED", "CONTROL"))
    parser.add_argument("settings", nargs="*", metavar="++KEY=VALUE")
    arguments = parser.parse_intermixed_args()
    i = arguments.number - 1
    model, train, out = arguments.models[i], arguments.train[i], arguments.out[i]
    words = ["--part", arguments.part, "--config", arguments.config, "--model", model]
    words += ["--train", train, "--valid", arguments.valid[i], "--out", out, *arguments.settings]
    begin(out, words, [arguments.config, model / "model.pt", train])
    run_verb("finetune", *words)


if __name__ == "__main__":
    main()
