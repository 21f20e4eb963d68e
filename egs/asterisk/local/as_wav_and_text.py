"""Write recordings of a manifest as plain NAME.wav and NAME.txt: what data of one's own often look like.

Example:
  python3 egs/asterisk/local/as_wav_and_text.py egs/asterisk/data/prompts_en.jsonl my_speech --rows 200
"""

from __future__ import annotations

import argparse
from pathlib import Path

import soundfile

from nest_ssl.bin.arguments import Parser
from nest_ssl.bin.terminal import run
from nest_ssl.files.manifest import read_rows
from nest_ssl.files.rows import audio_path


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    rows = [row for _, row in read_rows(arguments.manifest)][: arguments.rows]
    for row in rows:
        path = arguments.out / f"{row['key']}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples, rate = soundfile.read(audio_path(row, arguments.manifest), dtype="int16")
        soundfile.write(path, samples, rate)
        path.with_suffix(".txt").write_text(f"{row['text']}\n", encoding="utf-8")
    print(f"{arguments.out}: {len(rows)} recordings, each with its text beside it")
    return 0


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(prog="as_wav_and_text.py", description=__doc__)
    parser.add_argument("manifest", type=Path, metavar="MANIFEST", help="rows with key and text")
    parser.add_argument("out", type=Path, metavar="DIR", help="folder to write to")
    parser.add_argument("--rows", type=int, metavar="N", help="the first of them only [all]")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
