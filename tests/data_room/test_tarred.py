"""Tarred data: the batches of the same data in files, whatever the archives and manifests look like."""

import dataclasses
import io
import shutil
import tarfile

import pytest
import torch

from nest_ssl.data.from_config import ssl_data_from_config
from nest_ssl.files.manifest import read_rows, write_rows
from tests.data_room.corpora import make_corpus

COUNT = 12


def pack(folder, rows, tars):
    """Write row i's audio into archive i % tars; gives the rows as NeMo's conversion writes them."""
    packed = []
    for number in range(tars):
        with tarfile.open(folder / f"audio_{number}.tar", "w") as tar:
            for i, row in enumerate(rows):
                if i % tars == number:
                    name = row["audio_filepath"].replace("/", "_")
                    tar.add(folder / row["audio_filepath"], name)
                    text = tarfile.TarInfo(name.replace(".flac", ".json"))
                    tar.addfile(text, io.BytesIO())
                    packed.append({**row, "audio_filepath": name, "shard_id": number})
    return packed


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Folder with train.jsonl (files), tarred.jsonl, sharded m_0..2.jsonl and audio_0..2.tar."""
    folder = tmp_path_factory.mktemp("tarred")
    manifest = make_corpus(folder, [1.0 + 0.1 * i for i in range(COUNT)])
    rows = [row for _, row in read_rows(manifest)]
    packed = pack(folder, rows, 3)
    write_rows(folder / "tarred.jsonl", sorted(packed, key=lambda row: row["id"]))
    for number in range(3):
        write_rows(folder / f"m_{number}.jsonl", [row for row in packed if row["shard_id"] == number])
    return folder


def load(manifest, tars=None, rank=0, world_size=1, **changes):
    section = {"manifest_filepath": str(manifest), "sample_rate": 16000, "batch_size": 4, "shuffle": True}
    if tars is not None:
        section |= {"is_tarred": True, "tarred_audio_filepaths": tars, "shuffle_n": 2048}
    return ssl_data_from_config({**section, **changes}, seed=1, rank=rank, world_size=world_size)


def assert_same(left, right):
    for a, b in zip(left, right, strict=True):
        for field in dataclasses.fields(a):
            x, y = getattr(a, field.name), getattr(b, field.name)
            assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y, field.name


@pytest.mark.parametrize(
    "pattern", ["audio_{0..2}.tar", "audio__OP_0..2_CL_.tar", "audio_(0..2).tar", "audio_[0,1,2].tar"]
)
def test_an_archive_gives_the_bytes_of_the_files(corpus, pattern):
    plain, tarred = load(corpus / "train.jsonl"), load(corpus / "tarred.jsonl", f"{corpus}/{pattern}")
    assert_same(plain.batches(3), tarred.batches(3))
    assert_same(list(plain.batches(2))[1:], tarred.batches(2, 1))


def test_workers_and_spawn_change_nothing(corpus):
    tars = f"{corpus}/audio_{{0..2}}.tar"
    plain = load(corpus / "tarred.jsonl", tars)
    spawned = load(corpus / "tarred.jsonl", tars, num_workers=1, multiprocessing_context="spawn")
    assert_same(plain.batches(1), spawned.batches(1))
    spawned.close()


def test_sharded_manifests_are_several(corpus):
    tarred = load(f"{corpus}/m__OP_0..2_CL_.jsonl", f"{corpus}/audio__OP_0..2_CL_.tar", shard_manifests=True)
    plain = load(corpus / "train.jsonl")
    ids = [
        sorted(uid for batch in loader.batches(0) for uid in batch.utterance_ids)
        for loader in (plain, tarred)
    ]
    assert ids[0] == ids[1] and len(ids[0]) == COUNT


def test_ranks_share_every_utterance_scattered_and_see_all_replicated(corpus):
    tars = f"{corpus}/audio_{{0..2}}.tar"
    for strategy, times in (("scatter", 1), ("replicate", 2)):
        seen = []
        for rank in range(2):
            loader = load(
                corpus / "tarred.jsonl", tars, rank, 2, batch_size=3, tarred_shard_strategy=strategy
            )
            assert loader.num_batches(0) == 2 * times
            seen += [uid for batch in loader.batches(0) for uid in batch.utterance_ids]
        assert sorted(seen) == sorted([f"u{i:03d}" for i in range(COUNT)] * times)


def test_several_rows_of_one_member_differ_by_their_offset(corpus, tmp_path):
    rows = [
        {"audio_filepath": "audio_u011-sub1.flac", "offset": 0.5, "duration": 1.0},
        {"audio_filepath": "audio_u011.flac", "offset": 0.5, "duration": 1.0},
        {"audio_filepath": "somewhere/audio_u011.wav", "offset": 0.0, "duration": 1.0},
    ]
    write_rows(tmp_path / "m.jsonl", rows)
    dataset = load(tmp_path / "m.jsonl", f"{corpus}/audio_2.tar", batch_size=1).dataset
    assert torch.equal(dataset[0].audio, dataset[1].audio)
    assert not torch.equal(dataset[0].audio, dataset[2].audio)
    whole = load(corpus / "train.jsonl").dataset[11].audio
    assert torch.equal(dataset[1].audio, whole[8000:24000])


def test_rows_without_a_member_and_members_without_a_row_are_counted(corpus, caplog):
    caplog.set_level("INFO")
    facts = load(corpus / "tarred.jsonl", [f"{corpus}/audio_0.tar", f"{corpus}/audio_1.tar"]).describe()
    assert facts["dropped"] == {"without a member in the archives": 4} and facts["utterances"] == 8
    load(corpus / "m_0.jsonl", f"{corpus}/audio_{{0..1}}.tar")
    assert "4 members of the archives are named by no row" in caplog.text
    with pytest.raises(ValueError, match=r"all 4 rows of .* dropped: 4 without a member in the archives"):
        load(corpus / "m_0.jsonl", f"{corpus}/audio_1.tar")


def test_one_name_in_two_archives_is_told_apart_by_the_shard_or_refused(corpus, tmp_path):
    for number in (0, 1):
        with tarfile.open(tmp_path / f"a_{number}.tar", "w") as tar:
            tar.add(corpus / "audio" / f"u00{number}.flac", "same.flac")
    tars = f"{tmp_path}/a_{{0..1}}.tar"
    write_rows(
        tmp_path / "m.jsonl", [{"audio_filepath": "same.flac", "shard_id": k, "id": k} for k in (1, 0)]
    )
    dataset = load(tmp_path / "m.jsonl", tars, batch_size=1).dataset
    assert [len(dataset[i].audio) for i in (0, 1)] == [17600, 16000]
    write_rows(tmp_path / "n.jsonl", [{"audio_filepath": "same.flac"}])
    with pytest.raises(
        ValueError, match=r"n\.jsonl:1: the member 'same' is in .*a_0\.tar and .*give the row a"
    ):
        load(tmp_path / "n.jsonl", tars)


def test_headers_of_members_give_durations_that_rows_do_not_state(corpus, tmp_path):
    write_rows(tmp_path / "m.jsonl", [{"audio_filepath": "audio_u003.flac"}])
    assert load(tmp_path / "m.jsonl", f"{corpus}/audio_0.tar", batch_size=1).plan.durations == pytest.approx(
        1.3
    )


def test_the_match_is_kept_until_manifest_or_archives_change(corpus, tmp_path, monkeypatch):
    for path in corpus.glob("*.tar"):
        shutil.copy(path, tmp_path)
    shutil.copy(corpus / "tarred.jsonl", tmp_path)
    tars = f"{tmp_path}/audio_{{0..2}}.tar"
    first = load(tmp_path / "tarred.jsonl", tars).fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr("nest_ssl.data.tarred.TarredAudio._match", None)
        assert load(tmp_path / "tarred.jsonl", tars).fingerprint() == first
    shutil.copy(tmp_path / "audio_0.tar", tmp_path / "audio_1.tar")
    with pytest.raises(ValueError, match="is in"):
        write_rows(tmp_path / "tarred.jsonl", [{"audio_filepath": "audio_u000.flac"}])
        load(tmp_path / "tarred.jsonl", tars)


def test_damage_in_a_member_names_archive_and_member(corpus, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("x.flac")
        info.size = 100
        tar.addfile(info, io.BytesIO(b"x" * 100))
    write_rows(tmp_path / "m.jsonl", [{"audio_filepath": "x.flac", "duration": 1.0}])
    loader = load(tmp_path / "m.jsonl", f"{tmp_path}/a.tar")
    with pytest.raises(ValueError, match=r"m\.jsonl:1: .*a\.tar:x\.flac: not readable as audio"):
        list(loader.batches(0))


def test_a_bucket_for_each_list(corpus):
    buckets = [[f"{corpus}/m_0.jsonl"], [f"{corpus}/m_1.jsonl"]]
    tars = [[f"{corpus}/audio_0.tar"], [f"{corpus}/audio_1.tar"]]
    section = {
        "manifest_filepath": buckets,
        "tarred_audio_filepaths": tars,
        "is_tarred": True,
        "sample_rate": 16000,
        "shuffle": True,
        "batch_size": 1,
        "bucketing_batch_size": [4, 2],
    }
    loader = ssl_data_from_config(section, seed=1)
    sizes = [len(batch.audio) for batch in loader.batches(0)]
    assert sorted(sizes) == [2, 2, 4]
    with pytest.raises(ValueError, match="needs archives for each of the 2 lists of manifests"):
        ssl_data_from_config({**section, "tarred_audio_filepaths": tars + tars}, seed=1)
