"""The dev lines of stage 0, divided once more: whole recordings, nothing lost, the same every time."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from nest_ssl.files.manifest import read_rows

LOCAL = Path(__file__).resolve().parents[2] / "egs" / "wenetspeech_telephone" / "local"


@pytest.fixture(scope="module")
def hold_out():
    spec = importlib.util.spec_from_file_location("hold_out", LOCAL / "hold_out.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_set(folder: Path, sizes: dict[str, int]) -> Path:
    """A set with so many dev lines of each recording."""
    (folder / "audio").mkdir(parents=True)
    keys = [(f"{recording}-{i}", recording) for recording, size in sizes.items() for i in range(size)]
    lines = [json.dumps({"key": key, "messages": []}) for key, _ in keys]
    (folder / "dev.jsonl").write_text("\n".join(lines) + "\n")
    rows = [json.dumps({"id": key, "recording": f"/calls/{recording}.wav"}) for key, recording in keys]
    (folder / "audio" / "dev.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def held_out(hold_out, made: Path, out: Path, *words: str) -> dict[str, list[str]]:
    assert hold_out.main(["--set", str(made), "--out", str(out), *words]) == 0
    names = ("dev", "test", "tune")
    return {name: [row["key"] for _, row in read_rows(out / f"{name}.jsonl")] for name in names}


def test_recordings_stay_whole_and_each_line_is_on_one_side(hold_out, tmp_path):
    sizes = {f"call{i}": 1 + i % 7 for i in range(40)}
    made = make_set(tmp_path / "real", sizes)
    sides = held_out(hold_out, made, tmp_path / "out", "--tune", "9")
    assert sorted(sides["dev"] + sides["test"]) == sorted(
        row["key"] for _, row in read_rows(made / "dev.jsonl")
    )
    recordings = {name: {key.split("-")[0] for key in sides[name]} for name in ("dev", "test")}
    assert not recordings["dev"] & recordings["test"]
    assert abs(len(sides["dev"]) - len(sides["test"])) <= 2 * 7
    assert len(sides["tune"]) == 9 and set(sides["tune"]) <= set(sides["dev"])
    assert held_out(hold_out, made, tmp_path / "again", "--tune", "9") == sides
    assert held_out(hold_out, made, tmp_path / "other", "--seed", "3") != sides


def test_one_recording_is_divided_by_utterance_with_a_warning(hold_out, tmp_path, capsys):
    sides = held_out(hold_out, make_set(tmp_path / "real", {"call": 6}), tmp_path / "out")
    assert (len(sides["dev"]), len(sides["test"])) == (3, 3)
    assert "all of" in capsys.readouterr().out


def test_one_line_cannot_be_divided(hold_out, tmp_path):
    made = make_set(tmp_path / "real", {"call": 1})
    with pytest.raises(ValueError, match=r"1 line.*cannot be divided into dev and test"):
        hold_out.main(["--set", str(made), "--out", str(tmp_path / "out")])
