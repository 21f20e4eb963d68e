#!/usr/bin/env python3
"""Compare this code with NeMo itself: weights, archives, modules, tokens, training, data, odd inputs, cost.

Run it with the Python of an environment that has NeMo (2.x or 3.x) and what this package needs, for example:
  PYTHONPATH=. OMP_NUM_THREADS=1 /path/to/nemo/bin/python utils/compare_with_nemo.py
  ... utils/compare_with_nemo.py --parts layers,steps --steps 100 model.encoder.d_model=176

Both models are built from one configuration, small unless KEY=VALUE words make it larger, so that a CPU
is enough.  Every line of the table is one comparison.  Where NeMo itself fails (the note counts these) there
is nothing to compare.  Exit status 0: nothing differs; 1: something does; 2: NeMo is not there.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

UTILS = Path(__file__).resolve().parent
sys.path[:0] = [str(UTILS), str(UTILS.parent)]

from nemo_comparison.cost import compare_cost  # noqa: E402  (the checkout need not be installed)
from nemo_comparison.data import compare_data  # noqa: E402
from nemo_comparison.edges import compare_edges  # noqa: E402
from nemo_comparison.layers import compare_layers, compare_tokens  # noqa: E402
from nemo_comparison.peers import CONFIG, SMALL, NeMoMissing, Peers  # noqa: E402
from nemo_comparison.steps import compare_steps, compare_training  # noqa: E402
from nemo_comparison.table import Table  # noqa: E402
from nemo_comparison.weights import compare_archives, compare_weights  # noqa: E402

from nest_ssl.bin.terminal import run  # noqa: E402
from nest_ssl.config import load_config  # noqa: E402

PARTS: dict[str, Callable[[Peers, Table], None]] = {
    "weights": compare_weights,
    "archives": compare_archives,
    "layers": compare_layers,
    "tokens": compare_tokens,
    "training": compare_training,
    "steps": compare_steps,
    "data": compare_data,
    "edges": compare_edges,
    "cost": compare_cost,
}
MISSING = 2  # exit status


def main(argv: list[str]) -> int:
    """Print the table that `argv` asks for; gives 1 if anything differs, 2 without NeMo."""
    arguments = parse(argv)
    parts = [part.strip() for part in arguments.parts.split(",")]
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f"--parts: {unknown[0]!r} is not one of {', '.join(PARTS)}")
    for option in ("steps", "pairs", "frames"):
        if getattr(arguments, option) < 1:
            raise ValueError(f"--{option}: at least 1 is needed, not {getattr(arguments, option)}")
    load_config(arguments.config, [*SMALL, *arguments.overrides])  # a mistake shows before NeMo is loaded
    warnings.simplefilter("ignore")
    try:
        peers = Peers(arguments)
    except NeMoMissing as missing:
        print(f"compare_with_nemo: {missing}", file=sys.stderr)
        return MISSING
    print(
        f"NeMo {peers.version}, torch {torch.__version__}, threads {torch.get_num_threads()}, "
        f"settings {' '.join([*SMALL, *arguments.overrides])}"
    )
    table = Table()
    for part in parts:
        PARTS[part](peers, table)
    if table.differing:
        print(f"{len(table.differing)} comparisons differ: {'; '.join(table.differing)}")
        return 1
    print("nothing differs")
    return 0


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config", type=Path, default=CONFIG, help="YAML file of both (default: %(default)s)"
    )
    parser.add_argument(
        "--parts", default=",".join(PARTS), help="what to compare, separated by commas [%(default)s]"
    )
    for option, default, meaning in (
        ("steps", 8, "optimiser steps of `steps`"),
        ("pairs", 5, "pairs timed by `cost`"),
        ("frames", 2000, "token frames compared by `tokens`"),
        ("seed", 0, "of weights, masks and inputs"),
    ):
        parser.add_argument(
            f"--{option}", type=int, default=default, help=f"{meaning} (default: %(default)s)"
        )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="settings to change, as for pretrain"
    )
    return parser.parse_intermixed_args(argv)


if __name__ == "__main__":
    run(main)
