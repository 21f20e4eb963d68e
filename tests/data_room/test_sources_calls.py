"""Folders of calls: a party per channel, turns in tables, transcripts per party."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from nest_ssl.data.sources.build import BuildOptions, SourceReport, rows_of
from nest_ssl.data.sources.record import SourceOptions, Unusable


def write_call(folder, name, channels=2, seconds=4):
    folder.mkdir(parents=True, exist_ok=True)
    samples = np.arange(8000 * seconds)[:, None] % 50 + 1000 * np.arange(channels)
    soundfile.write(folder / f"{name}.wav", samples.astype(np.int16), 8000)


def read(folder, out, **options):
    settings = BuildOptions(SourceOptions(**options), audio_dir=out, keep_origin=True)
    return list(rows_of("calls", [str(folder)], out, settings, SourceReport()))


def test_turns_of_a_table_are_parts_of_their_partys_channel(tmp_path):
    write_call(tmp_path / "calls" / "a", "one")
    table = tmp_path / "calls" / "a" / "one.tsv"
    lines = [
        "start\tend\tchannel\ttext",
        "0.5\t1.5\tagent\t您好",
        "1.5\t3\tcustomer\t你 好",
        "3\t3.9\t1\t再见",
    ]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = read(tmp_path / "calls", tmp_path / "out")
    assert [(row["id"], row["offset"], row["duration"], row["text"]) for row in rows] == [
        ("a/one-00002-agent", 0.5, 1.0, "您好"),
        ("a/one-00003-customer", 1.5, 1.5, "你 好"),
        ("a/one-00004-1", 3.0, 0.9, "再见"),
    ]
    assert [row["place"] for row in rows] == [f"{table}:{line}" for line in (2, 3, 4)]
    assert len({row["recording"] for row in rows}) == 1
    first = [soundfile.read(tmp_path / "out" / row["audio_filepath"], dtype="int16")[0][0] for row in rows]
    assert first == [0, 1000, 1000]


def test_a_transcript_per_party_covers_the_whole_channel(tmp_path):
    write_call(tmp_path / "calls", "one")
    for party, text in (("agent", "您好\n请问"), ("customer", "你好")):
        (tmp_path / "calls" / f"one.{party}.txt").write_text(text, encoding="utf-8")
    rows = read(tmp_path / "calls", tmp_path / "out")
    assert [(row["id"], row["text"], row["duration"], row["party"]) for row in rows] == [
        ("one-agent", "您好 请问", 4.0, "agent"),
        ("one-customer", "你好", 4.0, "customer"),
    ]


def test_the_parties_channels_are_a_setting(tmp_path):
    write_call(tmp_path / "calls", "one")
    (tmp_path / "calls" / "one.tsv").write_text("0\t1\tbot\thi\n", encoding="utf-8")
    (row,) = read(tmp_path / "calls", tmp_path / "out", channels={"human": 0, "bot": 1})
    assert soundfile.read(tmp_path / "out" / row["audio_filepath"], dtype="int16")[0][0] == 1000


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0\t1\tagent", "bad line"),
        ("1\t1\tagent\tx", "bad segment"),
        ("soon\t1\tagent\tx", "bad segment"),
        ("0\t1\tboss\tx", "no such channel"),
        ("0\t1\t2\tx", "no such channel"),
        ("3\t9\tagent\tx", "behind the end of the recording"),
    ],
)
def test_a_turn_that_cannot_be_used_has_its_reason(tmp_path, line, reason):
    write_call(tmp_path / "calls", "one")
    (tmp_path / "calls" / "one.tsv").write_text(line + "\n", encoding="utf-8")
    (found,) = read(tmp_path / "calls", tmp_path / "out")
    assert isinstance(found, Unusable)
    assert found.reason == reason


def test_a_call_without_transcript_is_counted(tmp_path):
    write_call(tmp_path / "calls", "one")
    (found,) = read(tmp_path / "calls", tmp_path / "out")
    assert isinstance(found, Unusable)
    assert found.reason == "no transcript"
