"""Audio with noise: NeMo's numbers, NeMo's filters, errors that name the row."""

import json
import shutil

import numpy as np
import pytest
import torch

from nest_ssl.data.corpus import Corpus
from nest_ssl.data.ssl_dataset import AudioNoiseDataset, BatchKey, audio_noise_collate
from nest_ssl.files.audio import read_audio, write_audio
from nest_ssl.files.manifest import write_rows
from tests.data_room.corpora import RATE, make_corpus, tone


@pytest.fixture(scope="module")
def nemo(goldens, tmp_path_factory):
    """A writable copy of NeMo's data fixture: folder, expected.json, expected.safetensors."""
    from safetensors.numpy import load_file

    folder = tmp_path_factory.mktemp("nemo") / "data"
    shutil.copytree(goldens / "nemo" / "data", folder)
    return (
        folder,
        json.loads((folder / "expected.json").read_text()),
        load_file(folder / "expected.safetensors"),
    )


def nemo_dataset(folder, **options):
    options = {"noise_manifest": folder / "noise.json", "max_duration": 20, **options}
    return AudioNoiseDataset(folder / "train.json", 16000, **options)


def nemo_item(dataset, i):
    return dataset.item(i, 0, rng=np.random.RandomState(5000 + i))


def test_the_collection_is_nemos(nemo):
    folder, expected, _ = nemo
    dataset = nemo_dataset(folder)
    found = [dataset.corpus[i] for i in range(len(dataset))]
    assert [
        {"id": u.number, "file": u.audio_path.name, "duration": u.duration_s, "offset": u.offset_s}
        for u in found
    ] == expected["collection"]
    assert dataset.corpus.dropped == {"longer than max_duration 20": 1}
    assert len(nemo_dataset(folder, min_duration=1.0)) == expected["min_dur_1.0_n"]


@pytest.mark.parametrize("i", range(8))
def test_audio_and_noise_are_nemos(nemo, i):
    folder, _, expected = nemo
    item = nemo_item(nemo_dataset(folder), i)
    assert np.array_equal(item.audio.numpy(), expected[f"item{i}.audio"])
    noise = expected[f"item{i}.noise"]
    assert np.array_equal(item.noise.numpy()[: len(noise)], noise)
    assert (item.audio_len.item(), item.noise_len.item()) == (
        expected[f"item{i}.audio_len"].item(),
        expected[f"item{i}.noise_len"].item(),
    )


def test_collation_is_nemos(nemo):
    folder, _, expected = nemo
    dataset = nemo_dataset(folder)
    batch = audio_noise_collate([nemo_item(dataset, i) for i in range(4)])
    for name in ("audio_len", "noise_len", "noisy_audio_len"):
        assert getattr(batch, name).tolist() == expected[f"collate.{name}"].tolist()
    assert list(batch.audio.shape) == expected["collate.shape"].tolist()
    assert torch.equal(batch.noisy_audio, batch.audio + batch.noise)
    assert batch.sample_id == ["0", "1", "2", "3"]


def test_without_a_noise_manifest_noise_is_zero_and_as_long_as_the_audio(nemo):
    item = nemo_dataset(nemo[0], noise_manifest=None)[2]
    assert not item.noise.any() and item.noise_len == item.audio_len == len(item.noise)
    assert torch.equal(item.noisy_audio, item.audio)


def test_channel_average_and_trimming_are_nemos(nemo, tmp_path):
    folder, expected, tensors = nemo
    write_rows(tmp_path / "m.json", [{"audio_filepath": str(folder / "wavs" / "st.wav")}])
    averaged = AudioNoiseDataset(tmp_path / "m.json", 16000, channel_selector="average")[0].audio
    assert np.array_equal(averaged.numpy(), tensors["stereo_avg"])
    with pytest.raises(ValueError, match=r"m\.json:1: .*st\.wav: the file has 2 channels"):
        AudioNoiseDataset(tmp_path / "m.json", 16000)[0]
    assert len(nemo_dataset(folder, trim_silence=True)[0].audio) == expected["trim_len"]


def test_quiet_ends_are_trimmed_to_whole_frames(tmp_path):
    samples = np.zeros(80000, np.int16)
    samples[20000:52000] = tone(2.0, 3)
    write_audio(tmp_path / "a.wav", samples, RATE)
    write_rows(tmp_path / "m.jsonl", [{"audio_filepath": "a.wav", "duration": 5.0}])
    audio = AudioNoiseDataset(tmp_path / "m.jsonl", RATE, trim_silence=True)[0].audio
    # A frame of 2048 around every 512th sample: 38 (19456 +- 1024) is the first that touches the tone, 103
    # the last.
    assert len(audio) == (104 - 38) * 512
    assert np.array_equal(audio.numpy() * 32768, samples[38 * 512 : 104 * 512])
    assert len(AudioNoiseDataset(tmp_path / "m.jsonl", RATE)[0].audio) == 80000


@pytest.mark.parametrize("mode", ["repeat", "zero"])
def test_short_audio_is_filled_to_one_second(tmp_path, mode):
    manifest = make_corpus(tmp_path, [0.3])
    audio = AudioNoiseDataset(manifest, RATE, pad_mode=mode)[0].audio.numpy() * 32768
    whole = tone(0.3, 0)
    expected = np.tile(whole, 4)[:RATE] if mode == "repeat" else np.pad(whole, (0, RATE - len(whole)))
    assert np.array_equal(audio, expected)
    assert AudioNoiseDataset(manifest, RATE).lengths().tolist() == [1.0]


def test_filters_keep_the_limits_themselves_and_count_by_reason(tmp_path):
    manifest = make_corpus(tmp_path, [0.2, 0.7, 0.3, 1.1, 0.6])
    dataset = AudioNoiseDataset(manifest, RATE, min_duration=0.3, max_duration=0.7)
    assert [dataset.corpus[i].utterance_id for i in range(len(dataset))] == ["u001", "u002", "u004"]
    assert dataset.corpus.dropped == {"shorter than min_duration 0.3": 1, "longer than max_duration 0.7": 1}
    assert dataset.corpus.num_rows == 5
    assert dataset.corpus.place(2) == f"{manifest}:5"


@pytest.mark.parametrize("count", [1, 4095, 4096, 4097, 20001])
def test_every_kept_row_is_found_again(tmp_path, count):
    durations = np.random.default_rng(count).choice([0.5, 2.0, 30.0], count).tolist()
    write_rows(tmp_path / "m.jsonl", [{"audio_filepath": "x", "duration": d} for d in [2.0, *durations]])
    corpus = Corpus(tmp_path / "m.jsonl", min_duration=1, max_duration=20)
    expected = [i for i, duration in enumerate([2.0, *durations]) if duration == 2.0]
    sample = range(0, len(expected), max(1, len(expected) // 300))
    assert [corpus[i].number for i in sample] == [expected[i] for i in sample]
    assert corpus[len(corpus) - 1].number == expected[-1]


def test_several_manifests_are_one_corpus(tmp_path):
    first = make_corpus(tmp_path / "a", [0.2, 0.4])
    second = make_corpus(tmp_path / "b", [0.3], prefix="v")
    for paths in (f"{first},{second}", [first, str(second)]):
        dataset = AudioNoiseDataset(paths, RATE, min_duration=0.25)
        found = [dataset.corpus[i] for i in range(2)]
        assert [(u.number, u.utterance_id, u.place) for u in found] == [
            (1, "u001", f"{first}:2"),
            (2, "v000", f"{second}:1"),
        ]


def test_noise_depends_on_seed_epoch_and_id_only(tmp_path):
    manifest = make_corpus(tmp_path, [0.4, 0.5])
    noise = make_corpus(tmp_path, [3.0, 2.5, 4.0], "noise.jsonl", "n")

    def added(epoch, seed=0, i=0, path=manifest):
        return AudioNoiseDataset(path, RATE, noise, seed=seed).item(i, epoch).noise

    assert torch.equal(added(1), added(1))
    assert not torch.equal(added(1), added(2))
    assert not torch.equal(added(1), added(1, seed=1))
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    write_rows(tmp_path / "moved.jsonl", [rows[1], rows[0]])
    assert torch.equal(added(1), added(1, i=1, path=tmp_path / "moved.jsonl"))


def test_without_an_id_audio_and_offset_name_the_random_stream(tmp_path):
    row = {"audio_filepath": "audio/u000.flac", "duration": 0.2}
    make_corpus(tmp_path, [1.0])
    write_rows(tmp_path / "m.jsonl", [row, row | {"offset": 0.2}, row | {"utt": 7}])
    dataset = AudioNoiseDataset(tmp_path / "m.jsonl", RATE)
    assert [dataset.corpus[i].utterance_id for i in range(3)] == [
        "audio/u000.flac@0.0",
        "audio/u000.flac@0.2",
        "7",
    ]


def test_silent_noise_becomes_quiet_white_noise_of_its_own_length(tmp_path):
    manifest = make_corpus(tmp_path, [1.0])
    write_audio(tmp_path / "zero.wav", np.zeros(RATE // 2, np.int16), RATE)
    write_rows(tmp_path / "noise.jsonl", [{"audio_filepath": "zero.wav", "duration": 0.5}])
    noise = AudioNoiseDataset(manifest, RATE, tmp_path / "noise.jsonl")[0].noise.numpy()
    assert not noise[RATE // 2 :].any()
    level_db = 20 * np.log10(noise[: RATE // 2].std())
    assert -91 < level_db < -46 and level_db == pytest.approx(round(level_db), abs=0.2)


@pytest.mark.parametrize("rate", [RATE, 8000])
def test_pieces_that_nemo_takes_for_silence_are_drawn_again(tmp_path, rate):
    samples = np.random.default_rng(1).standard_normal(5 * rate) * 500 - 200
    samples[3 * rate :] += 400  # only late pieces have a sum above zero
    write_audio(tmp_path / "n.flac", samples.astype(np.int16), rate)
    write_rows(tmp_path / "noise.jsonl", [{"audio_filepath": "n.flac", "duration": 5.0}])
    dataset = AudioNoiseDataset(make_corpus(tmp_path, [1.0]), RATE, tmp_path / "noise.jsonl")
    redrawn = 0
    for seed in range(8):
        rng = np.random.RandomState(seed)
        rng.randint(1)
        draws = 0
        expected = np.zeros(1)
        while expected.sum() <= 0 and draws < 100:  # the plain version: a partial read for every draw
            expected, _ = read_audio(tmp_path / "n.flac", RATE, rng.uniform(0, 4.0), 1.0)
            draws += 1
        redrawn += draws > 1
        assert np.array_equal(dataset.item(0, 0, np.random.RandomState(seed)).noise.numpy(), expected)
    assert redrawn > 2


def test_a_noise_file_that_cannot_be_read_is_noted_and_another_one_drawn(tmp_path):
    manifest = make_corpus(tmp_path, [1.0])
    noise = make_corpus(tmp_path, [2.0, 2.0, 2.0], "noise.jsonl", "n")
    for number in (0, 1):
        (tmp_path / f"audio/n00{number}.flac").write_bytes(b"x")
    items = [AudioNoiseDataset(manifest, RATE, noise).item(0, epoch) for epoch in range(6)]
    assert all(item.noise.any() for item in items)
    notes = [note for item in items for note in item.notes]
    assert notes and all("noise.jsonl:" in note and "not readable" in note for note in notes)
    (tmp_path / "audio/n002.flac").unlink()
    with pytest.raises(ValueError, match="20 noise recordings in a row"):
        AudioNoiseDataset(manifest, RATE, noise)[0]


def test_bad_audio_names_manifest_line_file_and_the_way_out(tmp_path):
    manifest = make_corpus(tmp_path, [1.0, 1.0, 1.0])
    bad = tmp_path / "audio" / "u001.flac"
    bad.write_bytes(bad.read_bytes()[:3000])
    dataset = AudioNoiseDataset(manifest, RATE, name="model.train_ds")
    key = BatchKey(0, 0, 0, np.array([0, 1, 2], np.int32))
    with pytest.raises(ValueError, match=r"train\.jsonl:2: .*u001\.flac: the audio is damaged") as raised:
        dataset.batch(key)
    assert "--check" in str(raised.value) and "model.train_ds.max_corrupt=N" in str(raised.value)
    bad.unlink()
    with pytest.raises(
        ValueError, match=r"train\.jsonl:2: audio file audio/u001.flac does not exist, .*; relative paths"
    ):
        dataset.batch(key)


def test_max_corrupt_gives_a_smaller_batch_that_names_what_is_missing(tmp_path):
    manifest = make_corpus(tmp_path, [1.0, 1.0, 1.2])
    (tmp_path / "audio" / "u001.flac").write_bytes(b"")
    dataset = AudioNoiseDataset(manifest, RATE, max_corrupt=1)
    batch = dataset.batch(BatchKey(0, 0, 0, np.array([0, 1, 2], np.int32)))
    assert batch.utterance_ids == ["u000", "u002"] and batch.audio.shape == (2, 19200)
    assert batch.seconds == 2.2
    assert [name for name, _ in batch.skipped] == ["u001"] and "train.jsonl:2" in batch.skipped[0][1]


def test_missing_durations_are_planned_by_the_header(tmp_path):
    make_corpus(tmp_path, [1.5, 2.5])
    rows = [{"audio_filepath": "audio/u000.flac"}, {"audio_filepath": "audio/u001.flac", "offset": 0.5}]
    write_rows(tmp_path / "m.jsonl", rows)
    assert AudioNoiseDataset(tmp_path / "m.jsonl", RATE, max_duration=1).lengths().tolist() == [1.5, 2.0]
    write_rows(tmp_path / "m.jsonl", [{"audio_filepath": "no.flac"}])
    with pytest.raises(FileNotFoundError, match=r"m\.jsonl:1: .*no\.flac"):
        AudioNoiseDataset(tmp_path / "m.jsonl", RATE).lengths()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"model\.train_ds\.manifest_filepath: the manifest .*m\.jsonl is empty"),
        ([{"audio_filepath": "a", "duration": 0.1}, {"audio_filepath": "b", "duration": 99}],
         r"all 2 rows of .*m\.jsonl are dropped: 1 shorter than min_duration 1 s, 1 longer than max_d"),
        ([{"audio_filepath": "a"}, {"text": "b"}], r"m\.jsonl:2: the row has no audio_filepath"),
    ],
)  # fmt: skip
def test_a_manifest_without_anything_to_use_is_refused(tmp_path, rows, message):
    write_rows(tmp_path / "m.jsonl", rows)
    with pytest.raises(ValueError, match=message):
        AudioNoiseDataset(tmp_path / "m.jsonl", RATE, min_duration=1, max_duration=20, name="model.train_ds")


def test_a_batch_moves_as_a_whole(tmp_path):
    manifest = make_corpus(tmp_path, [1.0, 1.5])
    batch = AudioNoiseDataset(manifest, RATE).batch(BatchKey(0, 0, 0, np.array([0, 1], np.int32)))
    moved = batch.to("meta")
    assert moved.audio.is_meta and moved.noisy_audio.is_meta and moved.audio_len.is_meta
    assert moved.utterance_ids == ["u000", "u001"] and moved.seconds == 2.5
    assert not batch.audio.is_meta
    assert not batch.audio[0, RATE:].any()


def test_the_augmentor_gets_the_padded_batch_and_the_batchs_own_stream(tmp_path):
    manifest = make_corpus(tmp_path, [1.0, 1.5])
    dataset = AudioNoiseDataset(manifest, RATE)
    drawn = []

    def augmentor(batch, rng):
        drawn.append(rng.random())
        batch.noisy_audio = batch.audio * 0.5
        return batch

    for epoch, number, rank in [(0, 0, 0), (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]:
        batch = dataset.batch(BatchKey(epoch, number, rank, np.array([0, 1], np.int32)), augmentor)
        assert torch.equal(batch.noisy_audio, batch.audio * 0.5)
    assert drawn[0] == drawn[1] and len(set(drawn)) == 4
