"""What a row says of itself."""

import hashlib
from collections import Counter

import pytest

from nest_ssl.files.rows import audio_path, row_id, row_identity, split_of, split_position, text_digest


@pytest.mark.parametrize(
    ("row", "identity"),
    [
        ({"id": "a", "utt": "b", "utterance_id": "c", "audio_filepath": "x"}, "a"),
        ({"id": "", "utt": "b", "utterance_id": "c"}, "b"),
        ({"id": None, "utterance_id": 3}, "3"),
        ({"id": 0}, "0"),
        ({"audio_filepath": "x y/é.wav"}, "x y/é.wav@0.0"),
        ({"audio_filename": "x.wav", "offset": None}, "x.wav@0.0"),
        ({"audio_filepath": "x.wav", "audio_filename": "y.wav", "offset": 1}, "x.wav@1.0"),
        ({"audio_filepath": "x.wav", "offset": 1.25}, "x.wav@1.25"),
        ({"audio_filepath": "x.wav", "offset": "soon"}, "x.wav@soon"),
    ],
)
def test_identity_is_the_id_or_the_audio_and_its_offset(row, identity):
    assert row_identity(row) == identity
    assert row_id(row) == (None if "@" in identity else identity)


def test_audio_is_beside_the_manifest_or_as_written(tmp_path, monkeypatch):
    manifest = tmp_path / "data" / "m.jsonl"
    beside = tmp_path / "data" / "a.wav"
    beside.parent.mkdir()
    beside.touch()
    monkeypatch.setenv("HOME", "/home/of/me")
    assert audio_path({"audio_filepath": "a.wav"}, manifest) == beside
    assert audio_path({"audio_filename": "a.wav"}, manifest) == beside
    assert str(audio_path({"audio_filepath": "b.wav"}, manifest)) == "b.wav"
    assert str(audio_path({"audio_filepath": "~/b.wav"}, manifest)) == "/home/of/me/b.wav"
    assert str(audio_path({"audio_filepath": "/x/a.wav"}, manifest)) == "/x/a.wav"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "x"}, "the row has no audio_filepath"),
        ({"audio_filepath": ""}, "the row has no audio_filepath"),
        ({"audio_filepath": ["a.wav"]}, r"audio_filepath must be a path, not \['a.wav'\]"),
    ],
)
def test_a_row_without_a_path_is_refused(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        audio_path(row, tmp_path / "m.jsonl")


def test_a_split_is_the_place_of_the_hash_among_the_shares():
    for value in ("digits/7", "拨", "\ud800"):
        content = b"17\x1f" + value.encode("utf-8", "surrogatepass")
        place = int(hashlib.blake2b(content, digest_size=8).hexdigest(), 16)
        assert split_position(value, 17) == place == text_digest(f"17\x1f{value}")
        share = place / 2**64
        assert split_of(value, 0.0, share + 1e-9, 17) == "test"
        assert split_of(value, share + 1e-9, 0.0, 17) == "dev"
        assert split_of(value, share / 2, share / 2 - 1e-9, 17) == "train"


def test_splits_have_their_shares():
    found = Counter(split_of(str(key), 0.1, 0.2, seed=3) for key in range(20_000))
    assert found["dev"] / 20_000 == pytest.approx(0.1, abs=0.0064)  # 3 sigma
    assert found["test"] / 20_000 == pytest.approx(0.2, abs=0.0085)
