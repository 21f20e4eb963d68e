"""Types of options that several verbs take."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # verbs that take files alone start without it
    import torch


def device(text: str) -> torch.device:
    """A device that is there: cpu, cuda, cuda:1, mps."""
    import torch

    try:
        found = torch.device(text)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(
            f"{text!r} cannot be used ({reason}); take cpu, or cuda where there is a GPU"
        ) from error
    return found


def channel(text: str) -> int | str:
    if text != "average" and not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor average")
    return int(text) if text.isdigit() else text


def output_file(text: str) -> Path:
    """A file to be written; refused now, not when the work is done, if it is a folder."""
    if Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; name a file in it")
    return Path(text)
