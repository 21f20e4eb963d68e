"""JSON lines that may be torn."""

from __future__ import annotations

from pathlib import Path

from nest_ssl.report.json_lines import read_json_lines


def test_lines_that_are_no_objects_are_told_by_number(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n\n[2]\n\xff\n{"a": 3}\n{"a": ')
    assert read_json_lines(path) == ([{"a": 1}, {"a": 3}], [3, 4, 6])
    assert read_json_lines(path, grows=True) == ([{"a": 1}, {"a": 3}], [3, 4])
