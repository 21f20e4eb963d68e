"""Digests of files and folders."""

import hashlib

from nest_ssl.files import digests
from nest_ssl.files.digests import content_digest


def test_the_digest_of_a_file_is_that_of_its_bytes_whatever_the_blocks(tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    path.write_bytes(bytes(range(256)) * 5)
    expected = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    assert content_digest(path) == expected
    monkeypatch.setattr(digests, "BLOCK_BYTES", 7)
    assert content_digest(path) == expected


def test_a_change_in_the_middle_of_a_large_file_is_seen(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(5 << 20))
    before = content_digest(path)
    with open(path, "r+b") as file:
        file.seek(5 << 19)
        file.write(b"1")
    assert content_digest(path) != before


def test_a_folder_is_told_by_contents_and_names(tmp_path):
    def folder(name, files):
        for file, content in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_bytes(content)
        return content_digest(tmp_path / name)

    first = folder("a", {"x": b"12", "in/y": b"3"})
    assert folder("b", {"in/y": b"3", "x": b"12"}) == first
    assert len({first, folder("c", {"x": b"1", "in/y": b"23"}), folder("d", {"z": b"12", "in/y": b"3"})}) == 3
