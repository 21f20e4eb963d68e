"""Manifests line by line."""

import pytest

from nest_ssl.files.manifest import read_rows, write_rows


def test_rows_survive_a_round_trip_as_readable_utf8(tmp_path):
    rows = [{"text": "拨打的号码", "path": "a b/ü\u2028.flac"}, {"duration": 1.5}]
    assert write_rows(tmp_path / "m.jsonl", iter(rows)) == 2
    assert list(read_rows(tmp_path / "m.jsonl")) == [(1, rows[0]), (2, rows[1])]
    assert "拨打的号码" in (tmp_path / "m.jsonl").read_text(encoding="utf-8")


def test_mark_crlf_blank_lines_and_no_last_newline_are_taken(tmp_path):
    (tmp_path / "m.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n  \n{"a": 2}')
    assert list(read_rows(tmp_path / "m.jsonl")) == [(1, {"a": 1}), (4, {"a": 2})]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"a": 1,}', "not a JSON object: "),
        (b"[1, 2]", "a JSON object, not list"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b"[" * 100_000, "nested too deeply|not a JSON object"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    (tmp_path / "m.jsonl").write_bytes(b'{"a": 1}\n\n' + line + b"\n")
    with pytest.raises(ValueError, match=f"m.jsonl:3: .*({message})"):
        list(read_rows(tmp_path / "m.jsonl"))


def test_a_missing_manifest_and_a_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"manifest .*m\.jsonl does not exist"):
        list(read_rows(tmp_path / "m.jsonl"))
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(FileNotFoundError, match=r"is a folder; name the files in it: \S+a\.jsonl$"):
        list(read_rows(tmp_path))


def test_an_error_while_writing_leaves_the_old_manifest(tmp_path):
    write_rows(tmp_path / "m.jsonl", [{"a": 1}])
    with pytest.raises(TypeError):
        write_rows(tmp_path / "m.jsonl", [{"a": 2}, {"a": object()}])
    assert list(read_rows(tmp_path / "m.jsonl")) == [(1, {"a": 1})]
    assert [path.name for path in tmp_path.iterdir()] == ["m.jsonl"]
