"""Tar archives: the members that Python's tarfile finds, and sentences for what is broken or hostile."""

import gzip
import io
import os
import pickle
import tarfile

import pytest

from nest_ssl.files.rows import text_digest
from nest_ssl.files.tar_index import Member, TarIndex, TarReader, stem


def write_tar(path, members, format=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def found(index):
    return dict(
        zip(
            index.digests.tolist(),
            zip(index.offsets.tolist(), index.sizes.tolist(), strict=True),
            strict=True,
        )
    )


MEMBERS = [
    ("./a.wav", b"1" * 700),
    ("b/c.flac", b""),
    ("b/c.json", b"{}"),
    ("x" * 150 + "/" + "y" * 120 + ".wav", b"22"),
    ("ü" * 60 + ".wav", b"3" * 512),
]


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_members_are_where_tarfile_finds_them(tmp_path, format):
    path = write_tar(tmp_path / "a.tar", MEMBERS, format)
    with tarfile.open(path) as tar:
        expected = {
            text_digest(stem(info.name)): (info.offset_data, info.size)
            for info in tar
            if not info.name.endswith("json")
        }
    assert found(TarIndex.open(path)) == expected
    assert len(expected) == 4


def test_sizes_in_base_256_are_read(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("a.wav", b"12345")])
    header = bytearray(path.read_bytes()[:512])
    header[124:136] = b"\x80" + (5).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(bytes(header) + path.read_bytes()[512:])
    assert found(TarIndex.open(path)) == {text_digest("a"): (512, 5)}


def test_the_index_is_used_until_the_archive_changes(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar", [("a.wav", b"1")])
    TarIndex.open(path)
    with monkeypatch.context() as patch:
        patch.setattr("nest_ssl.files.tar_index._build", None)
        assert len(TarIndex.open(path)) == 1
    write_tar(path, [("a.wav", b"1"), ("b.wav", b"2" * 20000)])
    assert len(TarIndex.open(path)) == 2


def test_a_damaged_index_is_built_again(tmp_path, caplog):
    path = write_tar(tmp_path / "a.tar", [("a.wav", b"1")])
    TarIndex.open(path)
    cache = tmp_path / "a.tar.idx"
    cache.write_bytes(cache.read_bytes()[:-1] + b"\xff")
    assert len(TarIndex.open(path)) == 1 and "(its checksum differs): built again" in caplog.text


def test_a_folder_that_cannot_be_written_has_its_index_in_the_cache_folder(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar", [("a.wav", b"1")])
    monkeypatch.setenv("NEST_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.tar.idx").mkdir()  # nothing can be renamed to that; root may write into any folder
    assert len(TarIndex.open(path)) == 1
    assert [place.name.endswith("-a.tar.idx") for place in (tmp_path / "cache").iterdir()] == [True]


def test_members_are_read_whole_or_in_pieces(tmp_path, monkeypatch):
    content = os.urandom(5000)
    path = write_tar(tmp_path / "a.tar", [("a.wav", content)])
    index = TarIndex.open(path)
    member = Member(0, int(index.offsets[0]), int(index.sizes[0]))
    reader = pickle.loads(pickle.dumps(TarReader([path], [index.stamp])))
    for limit in (1 << 20, 10):
        monkeypatch.setattr("nest_ssl.files.tar_index.READ_WHOLE_BYTES", limit)
        with reader.open(member, "a.wav") as stream:
            assert str(stream) == f"{path}:a.wav"
            assert stream.read() == content
            assert stream.seek(-4, os.SEEK_END) == 4996 and stream.read() == content[-4:]
            assert stream.seek(2) == 2 and stream.read(3) == content[2:5] and stream.tell() == 5
    reader.close()
    os.utime(path, ns=(1, 1))
    with pytest.raises(ValueError, match="was changed while a process was using it"):
        reader.open(member, "a.wav")


def test_no_more_archives_than_allowed_are_open_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("nest_ssl.files.tar_index.MAX_OPEN", 2)
    paths = [write_tar(tmp_path / f"{i}.tar", [(f"{i}.wav", bytes([i]))]) for i in range(4)]
    indexes = [TarIndex.open(path) for path in paths]
    reader = TarReader(paths, [index.stamp for index in indexes])
    for i in (0, 1, 2, 3, 0):
        assert reader.open(Member(i, int(indexes[i].offsets[0]), 1), "x").read() == bytes([i])
    assert list(reader._open) == [3, 0]
    reader.close()


def link(kind):
    def write(path):
        with tarfile.open(path, "w") as tar:
            info = tarfile.TarInfo("a.wav")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)

    return write


def raw(change):
    def write(path):
        write_tar(path, [("a.wav", b"1" * 600), ("b.wav", b"2" * 600)])
        path.write_bytes(change(path.read_bytes()))

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (link(tarfile.SYMTYPE), "'a.wav' is a symbolic link; only plain files are read"),
        (link(tarfile.LNKTYPE), "is a hard link"),
        (link(tarfile.FIFOTYPE), "is a named pipe"),
        (raw(lambda data: data[:1000]), r"cut off inside of a member of 600 bytes \(byte 0\)|no tar archive"),
        (raw(lambda data: data[:2000]), r"the archive is cut off \(byte 1536\)"),
        (raw(lambda data: data[:2300]), r"cut off inside of a member of 600 bytes \(byte 1536\)"),
        (raw(lambda data: data[:1540] + b"?" + data[1541:]), r"the header is damaged \(byte 1536\)"),
        (raw(gzip.compress), r"is compressed \(gzip\).*unpack it"),
        (lambda path: path.write_bytes(b"RIFF" * 400), "is no tar archive"),
        (lambda path: path.write_bytes(b""), "is no tar archive, or an empty"),
        (lambda path: write_tar(path, [("../a.wav", b"")]), "lies outside of the archive's folder: refused"),
        (lambda path: write_tar(path, [("/a.wav", b"")]), "lies outside of the archive's folder: refused"),
        (lambda path: write_tar(path, [("a.wav", b""), ("a.wav", b"")]), "'a.wav' and 'a.wav' have one name"),
        (
            lambda path: write_tar(path, [("x/a.wav", b""), ("y/a.flac", b"")]),
            "'x/a.wav' and 'y/a.flac' have",
        ),
    ],
)
def test_broken_and_hostile_archives_are_refused(tmp_path, write, message):
    write(tmp_path / "a.tar")
    with pytest.raises(ValueError, match=message):
        TarIndex.open(tmp_path / "a.tar")


def test_a_missing_end_mark_is_said(tmp_path, caplog):
    path = write_tar(tmp_path / "a.tar", [("a.wav", b"1")])
    path.write_bytes(path.read_bytes()[:1024])
    assert len(TarIndex.open(path)) == 1 and "has no end mark" in caplog.text


def test_whole_names_tell_folders_apart(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("x/a.wav", b""), ("y/a.wav", b"")])
    assert len(TarIndex.open(path, whole_names=True)) == 2


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tar archive .*b\.tar does not exist"):
        TarIndex.open(tmp_path / "b.tar")


@pytest.mark.parametrize("name", ["a.sln16", "a.pcma", "a.awb", "a.shn", "A.WAV"])
def test_members_of_every_format_that_is_read_are_audio(tmp_path, name):
    with tarfile.open(tmp_path / "audio.tar", "w") as archive:
        for member in (name, "a.json"):
            archive.addfile(tarfile.TarInfo(member))
    assert len(TarIndex.open(tmp_path / "audio.tar")) == 1
