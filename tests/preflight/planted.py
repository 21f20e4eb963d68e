"""A tiny sound fine-tuning, and mistakes to plant in a copy of it."""

from __future__ import annotations

import json
import shutil
import wave
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from nest_ssl.bin.preflight import parse
from nest_ssl.bin.preflight_run import context_of
from nest_ssl.preflight.report import Report
from nest_ssl.preflight.run import Context, run_checks
from tests.fun_asr_tiny import make_corpus, make_model_dir, message


@dataclass
class World:
    """A folder with model/, train/, valid/ and the words of a command that trains on them."""

    folder: Path
    part: str = "encoder"
    words: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model: Path | str = self.folder / "model"
        self.train = self.folder / "train" / "tiny.messages.jsonl"
        self.valid = self.folder / "valid" / "held.messages.jsonl"
        self.out = self.folder / "out"

    def argv(self, *more: str) -> list[str]:
        """The words for preflight; no probe, which only the tests of the probe need."""
        return [
            *("--part", self.part, "--model", str(self.model), "--train", str(self.train)),
            *(("--valid", str(self.valid)) if self.valid else ()),
            *("--out", str(self.out), "--device", "cpu", "--no-probe"),
            *(*self.words, *more),
        ]

    def report(self, *more: str) -> Report:
        """What preflight finds."""
        return run_checks(context_of(parse(self.argv(*more))))

    def report_on(self, sound: Context) -> Report:
        """What preflight finds in these data for a model that was built before."""
        inside = {"train": [self.train], "valid": [self.valid], "out": self.out}
        return run_checks(replace(sound, **inside))

    def rows(self, name: str = "train") -> list[dict[str, Any]]:
        """The lines of a set."""
        path = self.train if name == "train" else self.valid
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def write(self, rows: Iterable[Any], name: str = "train") -> None:
        """Replace the lines of a set."""
        path = self.train if name == "train" else self.valid
        text = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
        path.write_text(text, encoding="utf-8")

    def change(
        self, change: Callable[[dict[str, Any]], Any], name: str = "train", first: int | None = None
    ) -> None:
        """Change the lines of a set in place, all or the first few."""
        rows = self.rows(name)
        for row in rows[:first]:
            change(row)
        self.write(rows, name)

    def wav(self, number: int = 0) -> Path:
        """The audio of a training line."""
        return self.folder / "train" / f"tiny{number:03d}.wav"

    def weights(self, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
        """Change the weights of the model."""
        path = Path(self.model) / "model.pt"
        state = torch.load(path, weights_only=True)["state_dict"]
        change(state)
        torch.save({"state_dict": state}, path)

    def file(self, name: str, change: Callable[[Any], Any]) -> None:
        """Change a YAML or JSON file of the model."""
        path = Path(self.model) / name
        parse = json.loads if path.suffix == ".json" else yaml.safe_load
        content = parse(path.read_text(encoding="utf-8"))
        change(content)
        text = json.dumps(content) if path.suffix == ".json" else yaml.safe_dump(content)
        path.write_text(text, encoding="utf-8")


def template(folder: Path, encoder: str = "sanm") -> Path:
    """Make what worlds are copies of."""
    make_model_dir(folder / "model", encoder=encoder)
    make_corpus(folder / "train", 6)
    make_corpus(folder / "valid", 3, seed=5, prefix="held")
    return folder


def world_in(folder: Path, template: Path) -> World:
    """Copy a template and let the lines name the copies of the audio."""
    shutil.copytree(template, folder, dirs_exist_ok=True)
    for path in folder.glob("*/*.jsonl"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(str(template), str(folder)), encoding="utf-8")
    return World(folder)


def set_text(row: dict[str, Any], text: str, count: bool = True) -> None:
    row["messages"][-1]["content"] = text
    if count:
        row["text_length"] = len(text.encode())


def set_prompt(row: dict[str, Any], prompt: str) -> None:
    user = row["messages"][1]
    user["content"] = prompt + user["content"][user["content"].index("<|startofspeech|>") :]


def add_sound(world: World, seconds: float, rate: int = 16000, channels: int = 1) -> None:
    """Append a line with audio of a given length."""
    path = world.folder / "train" / "added.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes((np.arange(round(seconds * rate) * channels) % 50).astype("<i2").tobytes())
    world.write([*world.rows(), message("added", path, "abc", seconds)])
