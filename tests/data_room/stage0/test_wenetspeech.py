"""WenetSpeech.json as a stream: every segment once, faults by line, memory of one recording."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from nest_ssl.data.sources.record import Unusable
from nest_ssl.data.stage0 import wenetspeech
from nest_ssl.data.stage0.wenetspeech import (
    Selection,
    SourceCount,
    check_selection,
    recordings,
    wenetspeech_rows,
)
from tests.data_room.stage0.corpora import make_wenetspeech


def read(path, selection=None):
    count = SourceCount()
    return list(wenetspeech_rows(path, path.parent, selection or Selection(), count)), count


@pytest.mark.parametrize("dump", [{}, {"indent": None}, {"indent": None, "separators": (",", ":")}])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_any_layout_and_chunk_gives_what_json_gives(tmp_path, monkeypatch, dump, chunk):
    monkeypatch.setattr(wenetspeech, "CHUNK_BYTES", chunk)
    path = make_wenetspeech(tmp_path, recordings=2, segments=2, **dump)
    expected = json.loads(path.read_text(encoding="utf-8"))["audios"]
    assert [audio for audio, _, _ in recordings(path)] == expected


def test_each_segment_is_a_row_with_its_line(tmp_path):
    path = make_wenetspeech(tmp_path, recordings=2, segments=3)
    rows, count = read(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert count.segments == len(rows) == 6
    for row in rows:
        assert f'"{row["id"]}"' in lines[int(row["place"].rsplit(":", 1)[1]) - 1]
    assert rows[4] == {
        "id": "Y0000001_S00001",
        "audio_filepath": str(tmp_path / "audio/train/youtube/B00001/Y0000001.wav"),
        **{"offset": 2.35, "duration": 2.0, "text": rows[4]["text"], "key": "Y0000001"},
        **{"recording": "Y0000001", "source": "podcast", "subset": ["M", "L"], "confidence": 1.0},
        "place": rows[4]["place"],
    }


@pytest.mark.parametrize(
    ("selection", "left", "reason"),
    [
        (Selection(subsets=("S",)), 1, "other subset"),
        (Selection(min_confidence=0.95), 3, "confidence below 0.95"),
        (Selection(sources=("podcast",)), 2, "other source"),
    ],
)
def test_what_is_not_selected_is_counted(tmp_path, selection, left, reason):
    changes = {(0, 0): {"subsets": ["S", "M"]}, (1, 1): {"confidence": 0.7}}
    path = make_wenetspeech(tmp_path, recordings=2, segments=2, changes=changes)
    rows, count = read(path, selection)
    assert len(rows) == left
    assert dict(count.not_selected) == {reason: 4 - left}


def test_an_unknown_subset_is_named_with_those_there_are(tmp_path):
    path = make_wenetspeech(tmp_path, recordings=1, segments=2)
    selection = Selection(subsets=("XL",))
    _, count = read(path, selection)
    with pytest.raises(ValueError, match=r"there is no subset XL; the file has L \(2\), M \(2\)"):
        check_selection(path, selection, count)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], r"WenetSpeech.json:\d+: .*the file ends in the middle"),
        (lambda text: text.replace('"end_time"', "end_time", 1), r"WenetSpeech.json:\d+: no valid JSON: "),
        (lambda text: '{"key": "x", "messages": []}', 'no key "audios" at the top'),
        (lambda text: "hello", "'{' is expected, not 'hello'"),
        (lambda text: "", "the file ends in the middle"),
        (lambda text: '{"audios": [{"aid": "A"}]}', "recording 'A' has no list of segments"),
    ],
)
def test_what_is_no_wenetspeech_is_refused_by_place(tmp_path, change, message):
    path = make_wenetspeech(tmp_path, recordings=1, segments=2)
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read(path)


def test_bad_times_and_bad_bytes_cost_one_segment(tmp_path):
    changes = {(0, 0): {"end_time": 0.05}, (0, 1): {"text": "XX你好"}}
    path = make_wenetspeech(tmp_path, recordings=1, segments=3, changes=changes)
    path.write_bytes(path.read_bytes().replace(b"XX", b"\xc4\xe3"))  # GB18030 in a UTF-8 file
    rows, _ = read(path)
    assert isinstance(rows[0], Unusable) and rows[0].reason == "bad segment"
    assert rows[1]["text"] == "\ufffd\ufffd你好"
    assert "\ufffd" not in rows[2]["text"]


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    """The bound of memory is a recording and a chunk, however many recordings there are."""
    monkeypatch.setattr(wenetspeech, "CHUNK_BYTES", 1 << 14)
    segments = [{"sid": f"S{i}", "text": "好" * 50, "begin_time": i, "end_time": i + 1} for i in range(20)]
    text = json.dumps({"aid": "A", "path": "a.wav", "source": "s", "segments": segments})
    path = tmp_path / "WenetSpeech.json"
    peaks = []
    for number in (30, 120):
        path.write_text(f'{{"audios": [{",".join([text] * number)}]}}', encoding="utf-8")
        tracemalloc.start()
        try:
            rows = sum(1 for _ in wenetspeech_rows(path, tmp_path, Selection(), SourceCount()))
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert rows == 20 * number
    assert peaks[1] < 1.5 * peaks[0]
