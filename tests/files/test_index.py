"""The index of a manifest: right, rebuilt when it has to be, never in the way."""

import errno
import json
import logging
import multiprocessing
import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nest_ssl.files import index as index_module
from nest_ssl.files.index import ManifestIndex, index_path


def write(path, lines: list[bytes], end: bytes = b"\n"):
    path.write_bytes(end.join(lines))
    return path


def rows(count: int) -> list[bytes]:
    return [
        json.dumps({"audio_filepath": f"a/{i}.flac", "duration": i / 4, "text": "é" * i}).encode()
        for i in range(count)
    ]


@pytest.fixture
def builds(monkeypatch) -> list[str]:
    """Paths of the manifests that were read from end to end."""
    built: list[str] = []
    original = index_module._build
    monkeypatch.setattr(
        index_module,
        "_build",
        lambda path, descriptor: (built.append(path.name), original(path, descriptor))[1],
    )
    return built


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from([b"row", b"", b"   ", b"\t"]), max_size=25),
    st.sampled_from([b"\n", b"\r\n"]),
    st.booleans(),
    st.booleans(),
)
def test_rows_and_lines_are_those_of_a_plain_reader(tmp_path_factory, kinds, end, mark, last_newline):
    path = tmp_path_factory.mktemp("m") / "m.jsonl"
    lines = [
        json.dumps({"audio_filepath": str(i)}).encode() if k == b"row" else k for i, k in enumerate(kinds)
    ]
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + end.join(lines) + (end if last_newline else b""))
    index = ManifestIndex.open(path)
    expected = [(i + 1, json.loads(line)) for i, line in enumerate(lines) if line.strip()]
    assert len(index) == len(expected)
    assert [(index.line(i), index.row(i)) for i in range(len(index))] == expected


def test_durations_are_float32_and_nan_where_not_stated(tmp_path):
    path = write(
        tmp_path / "m.jsonl",
        [b'{"audio_filepath": "a", "duration": 0.7}', b'{"audio_filepath": "b"}',
         b'{"audio_filepath": "c", "duration": null}', b'{"audio_filepath": "d", "duration": 3}'],
    )  # fmt: skip
    durations = ManifestIndex.open(path).durations
    assert durations.dtype == np.float32
    assert np.array_equal(durations, np.array([0.7, np.nan, np.nan, 3], np.float32), equal_nan=True)


def test_the_manifest_is_read_through_once_only(tmp_path, builds):
    path = write(tmp_path / "m.jsonl", rows(50))
    first = ManifestIndex.open(path)
    second = ManifestIndex.open(path)
    assert builds == ["m.jsonl"]
    assert isinstance(second.durations, np.memmap) and isinstance(first.offsets, np.memmap)
    assert second.row(49) == json.loads(rows(50)[49])


@pytest.mark.parametrize("change", ["append", "same size", "touch", "replace"])
def test_a_changed_manifest_is_indexed_again(tmp_path, builds, change):
    path = write(tmp_path / "m.jsonl", rows(9))
    ManifestIndex.open(path)
    if change == "append":
        with open(path, "ab") as file:
            file.write(b'\n{"audio_filepath": "new"}')
    elif change == "same size":
        status = path.stat()
        path.write_bytes(path.read_bytes().replace(b"a/3.flac", b"a/X.flac"))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "touch":
        os.utime(path, ns=(1, 1))
    else:
        write(path, rows(4))
    index = ManifestIndex.open(path)
    assert len(builds) == 2
    assert len(index) == {"append": 10, "replace": 4}.get(change, 9)


@pytest.mark.parametrize(
    "damage", ["truncated", "empty", "garbage", "header", "one byte", "longer", "old version"]
)
def test_a_damaged_index_is_built_again(tmp_path, builds, damage):
    path = write(tmp_path / "m.jsonl", rows(300))
    ManifestIndex.open(path)
    content = bytearray(index_path(path).read_bytes())
    if damage == "truncated":
        content = content[:-50]
    elif damage == "empty":
        content = bytearray()
    elif damage == "garbage":
        content = bytearray(os.urandom(len(content)))
    elif damage == "header":
        content[:4096] = b"{}".ljust(4096)
    elif damage == "one byte":
        content[5000] ^= 1
    elif damage == "longer":
        content += b"x"
    else:
        content = content.replace(b'"version": 1', b'"version": 0')
    index_path(path).write_bytes(content)
    index = ManifestIndex.open(path)
    assert len(builds) == 2
    assert index.row(299) == json.loads(rows(300)[299])
    ManifestIndex.open(path)
    assert len(builds) == 2


def test_where_nothing_can_be_written_the_index_stays_in_memory(tmp_path, monkeypatch, caplog):
    path = write(tmp_path / "m.jsonl", rows(5))

    def read_only(path):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(index_module, "replaced", read_only)
    with caplog.at_level(logging.WARNING):
        index = ManifestIndex.open(path)
    assert len(caplog.records) == 1 and "Read-only file system" in caplog.text
    assert not index_path(path).exists()
    copy = pickle.loads(pickle.dumps(index))
    assert copy.row(4) == index.row(4) == json.loads(rows(5)[4])
    assert index.line(4) == 5


def test_a_pickled_index_opens_again_and_refuses_a_changed_manifest(tmp_path):
    path = write(tmp_path / "m.jsonl", rows(5))
    content = pickle.dumps(ManifestIndex.open(path))
    assert len(content) < 2000
    assert pickle.loads(content).row(3) == json.loads(rows(5)[3])
    write(path, rows(6))
    with pytest.raises(ValueError, match="changed or removed"):
        pickle.loads(content)


def _open_in_process(path, barrier, queue):
    barrier.wait()
    index = ManifestIndex.open(path)
    queue.put((len(index), index.row(1999)["audio_filepath"]))


def test_processes_that_start_at_once_all_get_the_index(tmp_path):
    path = write(tmp_path / "m.jsonl", rows(2000))
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_open_in_process, args=(path, barrier, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    assert [queue.get(timeout=240) for _ in processes] == [(2000, "a/1999.flac")] * 3
    for process in processes:
        process.join(timeout=240)
        assert process.exitcode == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.jsonl", "m.jsonl.idx"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"audio_filepath": "x"', "not a JSON object"),
        (b'"text"', "not str"),
        (b'{"audio_filepath": "x", "duration": "1.5"}', "duration must be a number of seconds, not '1.5'"),
        (b'{"audio_filepath": "x", "duration": true}', "duration must be a number of seconds, not True"),
    ],
)
def test_a_bad_line_is_named_and_leaves_no_index(tmp_path, line, message):
    path = write(tmp_path / "m.jsonl", [*rows(3), b"", line])
    with pytest.raises(ValueError, match=f"m.jsonl:5: .*{message}"):
        ManifestIndex.open(path)
    assert [file.name for file in tmp_path.iterdir()] == ["m.jsonl"]


def test_the_first_line_without_audio_is_known(tmp_path):
    path = write(tmp_path / "m.jsonl", [b"", b'{"audio_filename": "x"}', b'{"text": "y"}', b'{"text": "z"}'])
    for _ in range(2):  # built, then read back
        assert ManifestIndex.open(path).line_without_audio == 3
    assert ManifestIndex.open(write(tmp_path / "n.jsonl", rows(2))).line_without_audio == 0


def test_an_empty_manifest_has_no_rows(tmp_path):
    index = ManifestIndex.open(write(tmp_path / "m.jsonl", []))
    assert len(index) == 0 and len(ManifestIndex.open(tmp_path / "m.jsonl")) == 0
    with pytest.raises(IndexError, match="has 0 rows"):
        index.row(0)


def test_the_fingerprint_is_of_the_content_not_of_the_place(tmp_path):
    first = ManifestIndex.open(write(tmp_path / "m.jsonl", rows(40))).fingerprint()
    assert ManifestIndex.open(write(tmp_path / "n.jsonl", rows(40))).fingerprint() == first
    assert ManifestIndex.open(write(tmp_path / "o.jsonl", rows(39))).fingerprint() != first
    assert ManifestIndex.open(tmp_path / "m.jsonl").fingerprint() == first
