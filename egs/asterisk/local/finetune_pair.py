"""One of two fine-tunings that run side by side: number 1 adapts a model, number 2 is its control.

The control has the same parts, settings and number of updates, and hears wideband instead: what it gains came
from training longer, not from telephone speech.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from nest_ssl.files.atomic import replaced
from nest_ssl.files.digests import file_digest


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
    model, out = arguments.models[i], arguments.out[i]
    words = ["--part", arguments.part, "--config", arguments.config, "--model", model]
    words += ["--train", arguments.train[i], "--valid", arguments.valid[i], "--out", out, *arguments.settings]
    begin(out, [str(word) for word in words], [arguments.config, model / "model.pt", arguments.train[i]])
    command = [sys.executable, "-m", "nest_ssl.bin.finetune", *map(str, words)]
    sys.exit(subprocess.run(command, check=False).returncode)


def begin(out: Path, words: list[str], files: Sequence[str | Path]) -> None:
    """A run goes on where it stopped, if it was begun with these words and contents of files; else anew."""
    lines = [*words, *(f"{file} {file_digest(Path(file))}" for file in files)]
    path, text = out / "settings.txt", "\n".join(lines) + "\n"
    if out.is_dir() and (not path.is_file() or path.read_text(encoding="utf-8") != text):
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
