"""What the scripts of the trainings share: calling a verb, and beginning anew where settings changed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from nest_ssl.files.atomic import replaced
from nest_ssl.files.digests import file_digest


def run_verb(name: str, *words: object, accepted: tuple[int, ...] = (0,)) -> int:
    """Run a verb; ends this program with its status unless that is an accepted one, which it gives."""
    command = [sys.executable, "-m", f"nest_ssl.bin.{name}", *map(str, words)]
    status = subprocess.run(command, check=False).returncode
    if status not in accepted:
        sys.exit(status)
    return status


def begin(out: Path, words: Iterable[object], files: Iterable[str | Path]) -> None:
    """A run goes on where it stopped, if it was begun with these words and contents of files; else anew."""
    lines = [*map(str, words), *(f"{file} {file_digest(Path(file))}" for file in files)]
    path, text = out / "settings.txt", "\n".join(lines) + "\n"
    if out.is_dir() and (not path.is_file() or path.read_text(encoding="utf-8") != text):
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
