"""What the tests of the sources share."""

from pathlib import Path
from typing import Any

import numpy as np

from nest_ssl.files.manifest import read_rows


def noise(count: int, seed: int = 0) -> np.ndarray:
    """(count,) int16."""
    return (np.random.default_rng(seed).standard_normal(count) * 3000).astype(np.int16)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """All rows of a manifest."""
    return [row for _, row in read_rows(path)]


def text_files(folder: Path, **contents: str) -> None:
    """Write text files by their names."""
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
