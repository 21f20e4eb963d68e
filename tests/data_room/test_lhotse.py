"""Lhotse cuts, Shar folders and input_cfg: the same audio, in the order of our own plan."""

import gzip
import json
import os
import tarfile

import numpy as np
import pytest
import soundfile

from nest_ssl.data.from_config import ssl_data_from_config
from nest_ssl.files.audio import read_audio
from tests.data_room.corpora import make_corpus, tone

RATE = 16000


def cut(number, start=0.0, duration=1.0, channel=0, channels=(0,), source=None, **changes):
    """A MonoCut as lhotse 1.33 writes it."""
    source = source or {"type": "file", "channels": list(channels), "source": f"audio/u{number:03d}.flac"}
    recording = {
        "id": f"r{number}",
        "sources": [source],
        "sampling_rate": RATE,
        "num_samples": 48000,
        "duration": 3.0,
        "channel_ids": list(channels),
    }
    one = {"id": f"spk/cut{number}", "start": start, "duration": duration, "channel": channel}
    return {**one, "supervisions": [], "recording": recording, "type": "MonoCut", **changes}


def write_cuts(path, cuts):
    lines = "".join(json.dumps(one) + "\n" for one in cuts).encode()
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six files of 3 s, cuts.jsonl.gz of pieces of them, the same pieces in shar/, a.jsonl and b.jsonl."""
    folder = tmp_path_factory.mktemp("lhotse")
    make_corpus(folder, [3.0] * 6, "a.jsonl")
    make_corpus(folder, [1.0] * 4, "b.jsonl", "v")
    cuts = [cut(i, start=0.25 * i, duration=1.0 + 0.1 * i) for i in range(6)]
    write_cuts(folder / "cuts.jsonl.gz", cuts)
    (folder / "shar").mkdir()
    for shard in range(2):
        placeholders = []
        with tarfile.open(folder / "shar" / f"recording.{shard:06d}.tar", "w") as tar:
            for i in range(3 * shard, 3 * shard + 3):
                samples = read_audio(folder / f"audio/u{i:03d}.flac", None, 0.25 * i, 1.0 + 0.1 * i)[0]
                soundfile.write(folder / "piece.wav", samples, RATE, subtype="FLOAT")
                tar.add(folder / "piece.wav", f"spk/cut{i}.wav")
                (folder / "piece.json").write_text("{}")
                tar.add(folder / "piece.json", f"spk/cut{i}.json")
                source = {"type": "shar", "channels": [0], "source": ""}
                placeholders.append(cut(i, 0, 1.0 + 0.1 * i, source=source))
        write_cuts(folder / "shar" / f"cuts.{shard:06d}.jsonl.gz", placeholders)
    return folder


def load(run_seed=1, **section):
    section = {"use_lhotse": True, "sample_rate": RATE, "batch_size": 2, **section}
    return ssl_data_from_config(section, seed=run_seed)


def test_cuts_are_pieces_of_recordings(folder):
    dataset = load(cuts_path=str(folder / "cuts.jsonl.gz")).dataset
    assert len(dataset) == 6
    for i in range(6):
        expected = read_audio(folder / f"audio/u{i:03d}.flac", None, 0.25 * i, 1.0 + 0.1 * i)[0]
        assert np.array_equal(dataset[i].audio.numpy(), expected)
        assert dataset[i].utterance_id == f"spk/cut{i}"


@pytest.mark.parametrize("kind", ["folder", "fields"])
def test_shar_gives_the_audio_of_its_cuts(folder, kind):
    shar = str(folder / "shar")
    if kind == "fields":
        shar = {"cuts": f"{shar}/cuts._OP_000000..000001_CL_.jsonl.gz",
                "recording": f"{shar}/recording._OP_000000..000001_CL_.tar"}  # fmt: skip
    dataset, cuts = load(shar_path=shar).dataset, load(cuts_path=str(folder / "cuts.jsonl.gz")).dataset
    assert len(dataset) == 6
    for i in range(6):
        assert np.array_equal(dataset[i].audio.numpy(), cuts[i].audio.numpy())


def test_the_cuts_agree_with_lhotse_itself(folder, monkeypatch):
    lhotse = pytest.importorskip("lhotse", exc_type=ImportError)
    monkeypatch.chdir(folder)
    dataset = load(cuts_path=str(folder / "cuts.jsonl.gz")).dataset
    for i, piece in enumerate(lhotse.CutSet.from_file(folder / "cuts.jsonl.gz")):
        assert np.array_equal(dataset[i].audio.numpy(), piece.load_audio()[0])


def test_the_channel_of_a_cut_is_read(tmp_path):
    left, right = tone(1.0, 0), tone(1.0, 5)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], 1), RATE)
    source = {"type": "file", "channels": [0, 1], "source": "stereo.wav"}
    cuts = [cut(i, channel=i, channels=(0, 1), source=source) for i in (0, 1)]
    dataset = load(cuts_path=str(write_cuts(tmp_path / "cuts.jsonl", cuts))).dataset
    for i, samples in enumerate((left, right)):
        assert np.array_equal(dataset[i].audio.numpy(), samples.astype(np.float32) / 32768)


def test_rows_are_made_again_when_the_cuts_change(tmp_path):
    make_corpus(tmp_path, [3.0] * 2)
    path = write_cuts(tmp_path / "cuts.jsonl", [cut(0)])
    assert len(load(cuts_path=str(path)).dataset) == 1
    made = tmp_path / "cuts.jsonl.rows.jsonl"
    before = made.stat().st_ino
    assert len(load(cuts_path=str(path)).dataset) == 1 and made.stat().st_ino == before
    write_cuts(path, [cut(0), cut(1)])
    assert len(load(cuts_path=str(path)).dataset) == 2
    made.unlink()
    assert len(load(cuts_path=str(path)).dataset) == 2


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"type": "MixedCut"}, r"cuts\.jsonl:1: a MixedCut is made up of several pieces"),
        ({"type": "PaddingCut"}, "a PaddingCut is made up"),
        ({"recording": None}, "has no recording"),
        ({"duration": None}, "needs an id, a start and a duration"),
        ({"channel": 3}, "has no source with channel 3"),
        ({"source": {"type": "command", "channels": [0], "source": "cat x"}},
         "audio of spk/cut0 is of the type 'command'; only files are read"),
        ({"source": {"type": "url", "channels": [0], "source": "http://x"}}, "of the type 'url'"),
    ],
)  # fmt: skip
def test_cuts_that_cannot_be_read_are_refused_with_their_line(tmp_path, bad, message):
    source = bad.pop("source", None)
    path = write_cuts(tmp_path / "cuts.jsonl", [{**cut(0, source=source), **bad}])
    with pytest.raises(ValueError, match=message):
        load(cuts_path=str(path))


def test_transforms_other_than_resampling_are_refused(tmp_path):
    make_corpus(tmp_path, [3.0])
    for name in ("Resample", "Speed"):
        one = cut(0)
        one["recording"]["transforms"] = [{"name": name, "kwargs": {}}]
        path = write_cuts(tmp_path / f"{name}.jsonl", [one])
        if name == "Resample":
            assert len(load(cuts_path=str(path)).dataset[0].audio) == RATE
        else:
            with pytest.raises(ValueError, match="has the transform Speed, which is not applied"):
                load(cuts_path=str(path))


def test_a_gzip_file_that_was_cut_off_is_refused(folder, tmp_path):
    whole = (folder / "cuts.jsonl.gz").read_bytes()
    (tmp_path / "cuts.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cuts\.jsonl\.gz:\d+: the gzip file is damaged or cut off"):
        load(cuts_path=str(tmp_path / "cuts.jsonl.gz"))
    assert not list(tmp_path.glob("*rows*"))


def test_other_forms_of_cuts_need_lhotse(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lhotse", None)
    (tmp_path / "cuts.yaml").write_text("[]")
    with pytest.raises(ValueError, match=r"is not \.jsonl or \.jsonl\.gz: install nest-ssl\[lhotse\]"):
        load(cuts_path=str(tmp_path / "cuts.yaml"))


def drawn(loader, epochs=40):
    plans = [loader.plan.epoch(epoch) for epoch in range(epochs)]
    return np.concatenate([plan.items(b) for plan in plans for b in range(len(plan))])


def test_an_input_cfg_mixes_by_nested_weights(folder):
    config = [
        {"type": "group", "weight": 0.3, "tags": {"x": 1}, "input_cfg": [
            {"type": "nemo", "manifest_filepath": str(folder / "a.jsonl"), "weight": 1},
            {"type": "nemo", "manifest_filepath": str(folder / "b.jsonl"), "weight": 3}]},
        {"type": "lhotse", "cuts_path": str(folder / "cuts.jsonl.gz"), "weight": 0.7},
    ]  # fmt: skip
    loader = load(input_cfg=config)
    items = drawn(loader)
    shares = np.bincount(np.searchsorted([6, 10], items, "right"), minlength=3) / len(items)
    assert np.allclose(shares, [0.075, 0.225, 0.7], atol=0.07)
    assert len(items) == 40 * 16
    (folder / "input.yaml").write_text(json.dumps(config))
    assert load(input_cfg=str(folder / "input.yaml")).fingerprint() == loader.fingerprint()


def test_manifests_without_weights_are_joined_and_with_them_mixed(folder):
    a, b = str(folder / "a.jsonl"), str(folder / "b.jsonl")
    for manifests in ([[a], [b]], [a, b]):
        assert sorted(drawn(load(manifest_filepath=manifests), 1)) == list(range(10))
    items = drawn(load(manifest_filepath=[[a, 1], [b, 9]]))
    assert np.mean(items >= 6) == pytest.approx(0.9, abs=0.06)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "needs manifest_filepath, cuts_path, shar_path or input_cfg"),
        ({"input_cfg": [{"type": "txt"}]}, r"input_cfg\[0\]\.type 'txt' is not supported: pre-training"),
        ({"input_cfg": [{"type": "nemo", "manifest": "x"}]}, r"\[0\]\.manifest is no option of an entry"),
        ({"input_cfg": [{"type": "lhotse"}]}, r"input_cfg\[0\]: the type lhotse needs cuts_path"),
        ({"input_cfg": [{"type": "nemo", "manifest_filepath": "a", "weight": 1}, {"type": "nemo"}]},
         "give every entry a weight, or none of them"),
        ({"input_cfg": [{"type": "nemo", "weight": 0}]}, r"\[0\]\.weight must be a positive number, not 0"),
        ({"input_cfg": []}, "input_cfg must be a list of entries"),
        ({"bucket_duration_bins": [[1, 2]]}, "must be a list of ascending seconds"),
        ({"bucket_duration_bins": [2, 1]}, "must be a list of ascending seconds"),
        ({"bucket_duration_bins": [1, 2], "bucket_batch_size": [1]}, "for each of the 2 bucket_dur"),
        ({"bucket_batch_size": [1]}, "bucket_duration_bins must be a list"),
        ({"truncate_duration": -1}, "truncate_duration must be a positive number of seconds"),
    ],
)  # fmt: skip
def test_sections_that_make_no_sense_are_refused(section, message):
    with pytest.raises(ValueError, match=message):
        load(**section)


def test_bins_with_batch_sizes_drop_what_is_longer_and_bound_the_rest(folder):
    loader = load(cuts_path=str(folder / "cuts.jsonl.gz"), batch_size=None, use_bucketing=True,
                  bucket_duration_bins=[1.15, 1.35], bucket_batch_size=[2, 1])  # fmt: skip
    assert loader.describe()["dropped"] == {"longer than max_duration 1.35": 2}
    assert sorted(len(batch.audio) for batch in loader.batches(0)) == [1, 1, 2]


@pytest.mark.parametrize(("where", "start"), [("start", 0.5), ("end", 1.0), ("random", None)])
def test_truncation_keeps_a_piece(folder, tmp_path, where, start):
    path = write_cuts(tmp_path / "cuts.jsonl", [cut(0, 0.5, 1.5, source={
        "type": "file", "channels": [0], "source": str(folder / "audio/u000.flac")})])  # fmt: skip
    loader = load(cuts_path=str(path), truncate_duration=1.0, truncate_offset_type=where)
    audio = loader.dataset[0].audio.numpy()
    assert loader.plan.durations.tolist() == [1.0] and len(audio) == RATE
    whole = read_audio(folder / "audio/u000.flac")[0]
    if start is None:
        assert any(np.array_equal(audio, whole[k : k + RATE]) for k in range(8000, 16001))
    else:
        assert np.array_equal(audio, whole[int(start * RATE) :][:RATE])


def test_short_audio_is_not_repeated_but_padded_where_asked(tmp_path):
    make_corpus(tmp_path, [0.5])
    manifest = str(tmp_path / "train.jsonl")
    assert len(load(manifest_filepath=manifest).dataset[0].audio) == 8000
    padded = load(manifest_filepath=manifest, pad_min_duration=0.75)
    audio = padded.dataset[0].audio
    assert len(audio) == 12000 and not audio[8000:].any() and padded.plan.durations.tolist() == [0.75]


def test_a_seed_of_the_section_decides_on_the_order(folder):
    def order(run_seed, **section):
        loader = load(run_seed, manifest_filepath=str(folder / "a.jsonl"), shuffle=True, **section)
        return drawn(loader, 2).tolist()

    assert order(1, seed=7) == order(2, seed=7)
    assert order(1) != order(2)
    assert order(1, seed="trng") == order(1)


def test_rows_go_to_the_cache_folder_where_the_cuts_cannot_be_written_beside(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("NEST_CACHE", str(tmp_path / "cache"))
    make_corpus(tmp_path, [3.0])
    path = write_cuts(tmp_path / "cuts.jsonl", [cut(0)])
    (tmp_path / "cuts.jsonl.rows.jsonl").mkdir()
    dataset = load(cuts_path=os.path.relpath(path)).dataset
    assert np.array_equal(dataset[0].audio.numpy(), read_audio(tmp_path / "audio/u000.flac", None, 0, 1.0)[0])
