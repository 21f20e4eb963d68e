"""Train and dev share no recording, no speaker, nothing that joins them."""

from __future__ import annotations

import pytest

from nest_ssl.data.stage0.divide import divide
from nest_ssl.data.stage0.settings import SplitSettings
from nest_ssl.files.manifest import write_rows


def rows_of(tmp_path, rows):
    write_rows(tmp_path / "rows.jsonl", rows)
    return tmp_path / "rows.jsonl"


def sides(path, rows, settings, seed=0):
    division = divide(path, settings, seed, "set")
    return {row["id"]: division.side(row) for row in rows}


def test_recordings_and_speakers_join_through_each_other(tmp_path):
    """r0-s0, r1-s0, r1-s1, r2-s1 are one group by both; the others are alone."""
    rows = [{"id": f"j{i}", "recording": f"r{(i + 1) // 2}", "speaker": f"s{i // 2}"} for i in range(4)]
    rows += [{"id": f"a{i}", "recording": f"x{i}", "speaker": f"y{i}"} for i in range(40)]
    path = rows_of(tmp_path, rows)
    for seed in range(8):
        found = sides(path, rows, SplitSettings(by=("recording", "speaker"), dev=0.5), seed)
        assert len({found[f"j{i}"] for i in range(4)}) == 1
        assert set(found.values()) == {"train", "dev"}


def test_a_group_stays_where_it_is_as_data_are_added(tmp_path):
    rows = [{"id": str(i), "recording": f"r{i % 50}"} for i in range(200)]
    before = sides(rows_of(tmp_path, rows), rows, SplitSettings(dev=0.3))
    more = [{"id": f"n{i}", "recording": f"new{i}"} for i in range(100)] + rows[::-1]
    after = sides(rows_of(tmp_path, more), rows, SplitSettings(dev=0.3))
    assert before == after


def test_few_groups_leave_neither_side_empty(tmp_path):
    rows = [{"id": str(i), "recording": f"r{i}"} for i in range(2)]
    path = rows_of(tmp_path, rows)
    for seed in range(6):
        assert sorted(sides(path, rows, SplitSettings(dev=0.01), seed).values()) == ["dev", "train"]


def test_one_group_is_refused_with_the_way_out(tmp_path):
    path = rows_of(tmp_path, [{"id": str(i), "recording": "only"} for i in range(5)])
    with pytest.raises(
        ValueError, match=r"(dev|train) is empty with dev 0\.1: the rows make 1 group\(s\) of equal recording"
    ):
        divide(path, SplitSettings(), 0, "set")


def test_the_dev_list_takes_whole_recordings(tmp_path):
    rows = [{"id": f"u{i}", "recording": f"/calls/r{i // 2}.wav"} for i in range(8)]
    path = rows_of(tmp_path, rows)
    names = tmp_path / "dev.txt"
    names.write_text("u2\nr3\n", encoding="utf-8")
    found = sides(path, rows, SplitSettings(dev_list=names))
    assert [name for name, side in found.items() if side == "dev"] == ["u2", "u3", "u6", "u7"]


def test_names_of_the_dev_list_that_no_row_has_are_counted(tmp_path):
    path = rows_of(tmp_path, [{"id": f"u{i}", "recording": f"r{i}"} for i in range(4)])
    (tmp_path / "dev.txt").write_text("u1\nnobody\n", encoding="utf-8")
    division = divide(path, SplitSettings(dev_list=tmp_path / "dev.txt"), 0, "set")
    assert division.note == "1 of 2 names of dev_list are of no row that is left"


def test_a_moved_corpus_is_divided_alike(tmp_path):
    """Recordings are named by their paths; the folder of the source has no part in the division."""
    found = []
    for root in ("/corpora/calls", "/mnt/elsewhere"):
        rows = [{"id": f"u{i}", "recording": f"{root}/day/call{i}.wav"} for i in range(40)]
        path = rows_of(tmp_path, rows)
        division = divide(path, SplitSettings(dev=0.3), 1, "set", [root])
        found.append([division.side(row) for row in rows])
    assert found[0] == found[1]
    assert set(found[0]) == {"train", "dev"}


def test_a_dev_list_that_names_nothing_is_refused(tmp_path):
    path = rows_of(tmp_path, [{"id": str(i), "recording": f"r{i}"} for i in range(4)])
    (tmp_path / "dev.txt").write_text("nobody\n", encoding="utf-8")
    with pytest.raises(ValueError, match="none of its 1 names"):
        divide(path, SplitSettings(dev_list=tmp_path / "dev.txt"), 0, "set")


def test_a_subset_of_the_corpus_can_be_dev(tmp_path):
    rows = [{"id": str(i), "recording": f"r{i}", "subset": ["DEV"] if i < 3 else ["L"]} for i in range(9)]
    found = sides(rows_of(tmp_path, rows), rows, SplitSettings(dev_subsets=("DEV",)))
    assert [name for name, side in found.items() if side == "dev"] == ["0", "1", "2"]
