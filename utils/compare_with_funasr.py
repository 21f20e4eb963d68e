#!/usr/bin/env python3
"""Compare this code with FunASR itself on a Fun-ASR-Nano directory: weights, batches, modules, losses, text.

Run it with the Python of an environment that has FunASR (1.4) and what this package needs, for example:
  PYTHONPATH=. OMP_NUM_THREADS=1 /path/to/funasr/bin/python utils/compare_with_funasr.py MODEL_DIR DATA.jsonl
  ... utils/compare_with_funasr.py MODEL_DIR DATA.jsonl --rows 20 --parts weights,batch,text

DATA.jsonl has FunASR's training lines.  Both sides read MODEL_DIR, without dither, on the CPU in fp32; what
prompts draw at random (hotwords) is switched off.  Every line of the table is one comparison.  Exit status 0:
nothing differs; 1: something does; 2: FunASR is not there.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

UTILS = Path(__file__).resolve().parent
sys.path[:0] = [str(UTILS), str(UTILS.parent)]

from funasr_comparison.comparisons import PARTS  # noqa: E402  (the checkout need not be installed)
from funasr_comparison.peers import FunASRMissing, Peers  # noqa: E402
from nemo_comparison.table import Table  # noqa: E402

from nest_ssl.bin.terminal import run  # noqa: E402

MISSING = 2  # exit status


def main(argv: list[str]) -> int:
    """Print the table that `argv` asks for; gives 1 if anything differs, 2 without FunASR."""
    arguments = parse(argv)
    parts = [part.strip() for part in arguments.parts.split(",")]
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f"--parts: {unknown[0]!r} is not one of {', '.join(PARTS)}")
    if arguments.rows < 1:
        raise ValueError(f"--rows: at least 1 is needed, not {arguments.rows}")
    for path in (arguments.model, arguments.data):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
    warnings.simplefilter("ignore")
    try:
        peers = Peers(arguments.model, arguments.data, arguments.rows)
    except FunASRMissing as missing:
        print(f"compare_with_funasr: {missing}", file=sys.stderr)
        return MISSING
    print(peers.told())
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
    parser.add_argument("model", type=Path, metavar="MODEL_DIR", help="directory in FunASR's layout")
    parser.add_argument("data", type=Path, metavar="DATA.jsonl", help="FunASR's training lines")
    parser.add_argument("--rows", type=int, default=8, help="lines compared at most (default: %(default)s)")
    parser.add_argument(
        "--parts", default=",".join(PARTS), help="what to compare, separated by commas [%(default)s]"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
