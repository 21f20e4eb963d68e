"""Write the rows of a manifest that are in some languages, with paths that hold from the new manifest."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from nest_ssl.bin.terminal import run
from nest_ssl.files.manifest import read_rows, write_rows
from nest_ssl.files.rows import audio_path


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in", dest="source", type=Path, required=True)
    parser.add_argument("--lang", nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    chosen = [
        row | {"audio_filepath": os.path.relpath(audio_path(row, arguments.source), arguments.out.parent)}
        for _, row in read_rows(arguments.source)
        if row.get("lang") in arguments.lang
    ]
    if not chosen:
        raise ValueError(f"{arguments.source}: no row is in {' or '.join(arguments.lang)}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_rows(arguments.out, chosen)
    print(f"{arguments.out}: {len(chosen)} rows in {' '.join(arguments.lang)}")
    return 0


if __name__ == "__main__":
    run(main)
