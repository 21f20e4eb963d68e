"""Fine-tuning data in the loop: order, resume, workers, ranks, augmentation, what is left out and why."""

import json

import numpy as np
import pytest
import soundfile
import torch

from nest_ssl.data.fun_asr_batch import collate
from nest_ssl.files.audio import read_audio
from tests.data_room.fun_asr_room import make_data, read_rows, same, write_rows
from tests.fun_asr_tiny import make_corpus, message

pytest.importorskip("tokenizers")
pytest.importorskip("tiktoken")

AUGMENTED = {
    "speed": [0.9, 1.0, 1.1],
    "spec_augment": {"freq_masks": 1, "time_masks": 2},
    "use_dynamic_output_ratio": 0.5,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus"), 13)


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    return tmp_path_factory.mktemp("room")


def test_an_epoch_has_every_utterance_once_and_every_rank_as_many_batches(room, corpus):
    ranks = [make_data(room, corpus.jsonl, rank=r, world_size=2) for r in range(2)]
    epochs = [list(data.batches(3)) for data in ranks]
    assert [len(batches) for batches in epochs] == [data.num_batches(3) for data in ranks]
    assert len(epochs[0]) == len(epochs[1]) > 1
    seen = [key for batches in epochs for batch in batches for key in batch.utterance_ids]
    assert set(seen) == {row["key"] for row in read_rows(corpus.jsonl)}
    given = [tuple(batch.utterance_ids) for batches in epochs for batch in batches]
    assert len(given) - len(set(given)) <= 1, "one batch at most comes twice"
    assert len(seen) == len(set(seen)) or len(given) > len(set(given))


@pytest.mark.parametrize("sampler", ["plan", "funasr"])
def test_resume_repeats_and_loses_no_batch(sampler, room, corpus):
    conf = AUGMENTED | {"nest_ssl_sampler": sampler, "batch_type": "token"}
    whole = list(make_data(room, corpus.jsonl, conf, dither=1.0).batches(1))
    rest = list(make_data(room, corpus.jsonl, conf, dither=1.0).batches(1, start=2))
    assert len(rest) == len(whole) - 2 > 0
    assert all(same(a, b) for a, b in zip(rest, whole[2:], strict=True))


def test_workers_change_nothing(room, corpus):
    alone = list(make_data(room, corpus.jsonl, AUGMENTED).batches(1))
    data = make_data(room, corpus.jsonl, AUGMENTED | {"num_workers": 2, "multiprocessing_context": "fork"})
    try:
        shared = list(data.batches(1))
    finally:
        data.close()
    assert all(same(a, b) for a, b in zip(alone, shared, strict=True))


def test_what_is_kept_in_memory_is_what_would_be_read(room, corpus):
    for conf in ({}, AUGMENTED):
        plain = make_data(room, corpus.jsonl, conf)
        kept = make_data(room, corpus.jsonl, conf | {"cache_mb": 1})
        for epoch in (0, 1, 2):
            pairs = zip(plain.batches(epoch), kept.batches(epoch), strict=True)
            assert all(same(a, b) for a, b in pairs)
    assert 0 < kept.dataset.audio._kept_bytes <= 1e6


def test_the_memory_that_is_kept_has_a_limit(room, corpus):
    data = make_data(room, corpus.jsonl, {"cache_mb": 0.1})
    list(data.batches(0))
    sizes = [energies.numel() * 4 for energies, *_ in data.dataset.audio._kept.values()]
    assert 0 < sum(sizes) <= 1e5 < sum(sizes) + 13 * 32000


def test_epochs_differ_and_seeds_differ_and_validation_does_not(room, corpus):
    def first(epoch, seed=0, split="train"):
        return next(make_data(room, corpus.jsonl, AUGMENTED, split, seed=seed, dither=1.0).batches(epoch))

    assert same(first(0), first(0))
    assert not same(first(0), first(1))
    assert not same(first(0), first(0, seed=1))
    assert same(first(0, split="valid"), first(5, split="valid"))
    plain = next(make_data(room, corpus.jsonl, {}, "valid").batches(0))
    assert same(first(0, split="valid"), plain), "validation is neither augmented nor dithered"


def test_draws_depend_on_the_utterance_and_not_on_its_batch(room, corpus):
    data = make_data(room, corpus.jsonl, AUGMENTED, dither=1.0)
    batch = next(data.batches(2))
    for row, item in enumerate(batch.items):
        alone = collate([data.dataset.sample(item, 2)[0]]).tensors
        frames = int(alone["speech_lengths"][0, 0])
        assert torch.equal(batch.tensors["speech"][row, :frames], alone["speech"][0])


def test_a_manifest_gives_the_batches_of_its_messages(room, corpus):
    manifest = [b.tensors for b in make_data(room, corpus.manifest).batches(0)]
    messages = [b.tensors for b in make_data(room, corpus.jsonl).batches(0)]
    for one, other in zip(manifest, messages, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in other)


def test_a_part_of_a_file_is_what_is_read(room, corpus, tmp_path):
    row = read_rows(corpus.manifest)[5]
    part = row | {"offset": 0.2, "duration": 0.3}
    batch = next(make_data(room, write_rows(tmp_path / "m.jsonl", [part])).batches(0))
    assert batch.seconds == pytest.approx(0.3)


def test_channels_of_a_file_are_averaged_for_messages_and_chosen_for_manifests(room, corpus, tmp_path):
    samples, rate = read_audio(read_rows(corpus.manifest)[0]["audio_filepath"])
    stereo = tmp_path / "stereo.wav"
    soundfile.write(stereo, np.stack([samples, -samples / 2], axis=1), rate, subtype="FLOAT")
    row = read_rows(corpus.manifest)[0] | {"audio_filepath": str(stereo)}
    line = message("stereo", stereo, row["text"], row["duration"])

    def heard(row, conf=None):
        data = make_data(room, write_rows(tmp_path / "rows.jsonl", [row]), conf)
        return next(data.batches(0)).tensors["speech"]

    def expected(wave):
        return make_data(room, corpus.jsonl).dataset.audio.frontend.features(torch.from_numpy(wave))[None]

    assert torch.allclose(heard(line), expected(samples / 4), atol=1e-3)
    assert torch.allclose(heard(line, {"channel_selector": 0}), expected(samples), atol=1e-3)
    assert torch.allclose(heard(row | {"channel_selector": 0}), expected(samples), atol=1e-3)
    with pytest.raises(ValueError, match="2 channels; set channel_selector"):
        heard(row)


def test_the_telephone_changes_training_alone(room, corpus):
    conf = {"telephone": {"mix": "china", "prob": 1.0, "missing": "drop"}}
    for split, changed in (("train", True), ("valid", False)):
        heard = next(make_data(room, corpus.jsonl, conf, split).batches(0))
        clean = next(make_data(room, corpus.jsonl, {}, split).batches(0))
        assert heard.tensors["speech"].shape == clean.tensors["speech"].shape
        assert torch.equal(heard.tensors["speech"], clean.tensors["speech"]) != changed


def test_a_fingerprint_is_of_the_content_and_not_of_the_place(room, corpus, tmp_path):
    rows = read_rows(corpus.jsonl)
    copy = write_rows(tmp_path / "copy.jsonl", rows)
    first = make_data(room, corpus.jsonl).fingerprint()
    assert make_data(room, copy).fingerprint() == first
    rows[3]["messages"][-1]["content"] = rows[3]["messages"][-1]["content"][::-1]
    assert make_data(room, write_rows(tmp_path / "other.jsonl", rows)).fingerprint() != first
    for conf in (
        {"batch_size": 500},
        {"speed": [1.1]},
        {"do_think": False},
        {"prompt_classes": "MultiContextPrompt"},
    ):
        assert make_data(room, corpus.jsonl, conf).fingerprint() != first, conf
    assert make_data(room, corpus.jsonl, dither=1.0).fingerprint() != first
    assert make_data(room, corpus.jsonl, {"cache_mb": 7}).fingerprint() == first


def test_rows_of_text_alone_train_too(room, tmp_path):
    turns = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    rows = [{"key": f"t{k}", "messages": turns, "speech_length": 10, "text_length": 3} for k in range(3)]
    batch = next(make_data(room, write_rows(tmp_path / "text.jsonl", rows)).batches(0))
    assert set(batch.tensors) == {"input_ids", "attention_mask", "labels_ids", "fbank_beg", "fake_token_len"}
    assert batch.tensors["fbank_beg"].tolist() == [[-1]] * 3
    assert (batch.tensors["labels_ids"] >= 0).sum() == 3 * (len("two") + 1)


def test_limits_leave_out_by_name_and_count(room, corpus, caplog):
    lengths = {row["key"]: row["speech_length"] for row in read_rows(corpus.jsonl)}
    longest = max(lengths.values())
    data = make_data(
        room, corpus.jsonl, {"max_source_length": longest - 1, "length": {"seconds": {"min": 0.7}}}
    )
    facts = data.describe()
    above = [key for key, length in lengths.items() if length == longest]
    below = [key for key, length in lengths.items() if length < 70]
    assert facts["dropped"] == {
        f"speech_length above max_source_length {longest - 1} (10-ms frames)": len(above),
        "seconds below 0.7": len(below),
    }
    assert facts["utterances"] == 13 - len(above) - len(below)
    assert all(key in caplog.text for key in above + below)
    seen = {key for batch in data.batches(0) for key in batch.utterance_ids}
    assert seen == set(lengths) - set(above) - set(below)


@pytest.mark.parametrize("sampler", ["plan", "funasr"])
def test_max_token_length_counts_in_both_its_units(sampler, room, corpus):
    conf = {"max_token_length": 90, "nest_ssl_sampler": sampler, "batch_type": "token"}
    data = make_data(room, corpus.jsonl, conf)
    rows = {row["key"]: row["speech_length"] + row["text_length"] for row in read_rows(corpus.jsonl)}
    allowed = {
        data.dataset.corpus[i].utterance_id
        for i in range(13)
        if data.dataset.corpus.sequence_lengths[i] <= 90 and rows[data.dataset.corpus[i].utterance_id] <= 90
    }
    if not allowed:
        pytest.fail("the limit must leave some")
    seen = {key for batch in data.batches(0) for key in batch.utterance_ids}
    assert seen == allowed != set(rows)
    assert any("(sampler)" in reason for reason in data.dataset.corpus.left_out)


def test_audio_that_cannot_be_read_stops_or_is_counted(room, corpus, tmp_path):
    rows = read_rows(corpus.jsonl)
    rows[4]["messages"][1]["content"] = "Speech transcription:<|startofspeech|>!/no/such.wav<|endofspeech|>"
    file = write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(
        ValueError, match=r"rows\.jsonl:5: .*/no/such\.wav does not exist(.|\n)*max_corrupt=N"
    ):
        list(make_data(room, file).batches(0))
    data = make_data(room, file, {"max_corrupt": 1})
    seen = [key for batch in data.batches(0) for key in batch.utterance_ids]
    assert sorted(seen) == sorted(row["key"] for k, row in enumerate(rows) if k != 4)
    assert list(data.corrupt) == [rows[4]["key"]]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda n: n // 6, "60-ms frames"),
        (lambda n: n // 2, "another sample rate"),
        (lambda n: n + 9, "is stated"),
    ],
)
def test_a_wrong_speech_length_is_named_with_its_cause(change, cause, room, corpus, tmp_path):
    rows = read_rows(corpus.jsonl)
    rows[12]["speech_length"] = change(rows[12]["speech_length"])
    file = write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(
        ValueError, match=rf"rows\.jsonl:13: speech_length .*{cause}(.|\n)*check_lengths=warn"
    ):
        list(make_data(room, file).batches(0))
    notes = [note for b in make_data(room, file, {"check_lengths": "warn"}).batches(0) for note in b.notes]
    assert len(notes) == 1 and cause in notes[0]


def test_a_wrong_text_length_is_told(room, corpus, tmp_path):
    rows = read_rows(corpus.jsonl)
    rows[0]["text_length"] += 2
    data = make_data(room, write_rows(tmp_path / "rows.jsonl", rows))
    notes = [note for batch in data.batches(0) for note in batch.notes]
    assert len(notes) == 1 and "rows.jsonl:1: text_length 5 is stated, the text has 3" in notes[0]


def test_ctc_targets_are_of_the_normalised_text(room, corpus, tmp_path):
    row = read_rows(corpus.manifest)[0] | {"text": "Abc, D-e!"}
    file = write_rows(tmp_path / "m.jsonl", [row])
    for normalize, text in ((True, "abc d e"), (False, "Abc, D-e!")):
        batch = next(make_data(room, file, {"ctc_target_normalize": normalize}).batches(0))
        assert batch.ctc_texts == [text] and batch.texts == ["Abc, D-e!"]
        assert batch.tensors["ctc_targets"].tolist() == [list(text.encode())]
        assert batch.tensors["ctc_target_lengths"].tolist() == [len(text)]


def test_hot_words_are_drawn_anew_in_each_epoch_and_alike_when_repeated(room, corpus, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("\n".join(f"w{k}" for k in range(50)), encoding="utf-8")
    row = read_rows(corpus.jsonl)[0] | {"hotwords": ["alpha", "beta"]}
    conf = {
        "prompt_classes": "MultiContextPrompt",
        "prompt_conf": {"english_hotwords_list": str(words), "max_neg_hotwords_num": 4},
    }
    data = make_data(room, write_rows(tmp_path / "rows.jsonl", [row]), conf)

    def prompt(epoch):
        return bytes(
            t for t in next(data.batches(epoch)).tensors["input_ids"][0].tolist() if t < 256
        ).decode()

    assert prompt(0) == prompt(0)
    prompts = {prompt(epoch) for epoch in range(6)}
    assert len(prompts) > 3
    for text in prompts:
        line = next(line for line in text.splitlines() if line.startswith("Hotword list: "))
        listed = line.removeprefix("Hotword list: ").split(", ")
        assert {"alpha", "beta"} <= set(listed) <= {"alpha", "beta"} | {f"w{k}" for k in range(50)}
        assert 2 <= len(listed) <= 6


def test_lists_of_files_are_read_whole_and_sliced_for_funasrs_order(room, corpus, tmp_path):
    rows = read_rows(corpus.jsonl)
    names = [f"part{k}.jsonl" for k in range(4)]
    for k, name in enumerate(names):
        write_rows(tmp_path / name, rows[3 * k : 3 * k + 3])
    listing = tmp_path / "train.list"
    listing.write_text("\n".join(names) + "\n", encoding="utf-8")
    keys = [row["key"] for row in rows[:12]]
    plan = make_data(room, listing, {"data_split_num": 2})
    assert sorted(key for b in plan.batches(0) for key in b.utterance_ids) == keys
    conf = {"data_split_num": 2, "nest_ssl_sampler": "funasr", "batch_type": "example", "batch_size": 3}
    ordered = [key for batch in make_data(room, listing, conf).batches(0) for key in batch.utterance_ids]
    assert sorted(ordered[:6]) == keys[:6] and sorted(ordered[6:]) == keys[6:]


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"batch_sise": 3}, "batch_size"),
        ({"max_speech_length": 800}, "read nowhere"),
        ({"batch_size": None}, "batch_size must be given"),
        ({"num_workers": -1}, "at least 0"),
        ({"shuffle": "yes"}, "true or false"),
        ({"nest_ssl_sampler": "nemo"}, "plan, funasr"),
        ({"prompt_classes": "Other"}, "MultiContextPrompt"),
        ({"prompt_classes": "MultiContextPrompt", "prompt_conf": {"use_hists": True}}, "use_hist"),
        ({"speed": 1.1}, "list of factors"),
        ({"spec_augment": {"time_mask": 2}}, "time_masks"),
        ({"token_max": "drop"}, "batch_size_token_max"),
        ({"max_source_length": 3}, "none is left"),
        ({"preprocessor_noise": "X"}, "telephone"),
    ],
)
def test_mistaken_settings_are_named(conf, message, room, corpus):
    with pytest.raises(ValueError, match=message):
        make_data(room, corpus.jsonl, conf)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"messages": [', "not a JSON object"),
        ({"text": "a"}, "neither messages nor audio_filepath"),
        ({"messages": "hello"}, "not a list of turns"),
        ({"messages": [{"role": "user", "content": "a"}]}, "take turns"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "role 'tool'"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(row, message, room, corpus, tmp_path):
    file = write_rows(tmp_path / "rows.jsonl", [read_rows(corpus.jsonl)[0], row])
    with pytest.raises(ValueError, match=rf"rows\.jsonl:2: .*{message}"):
        make_data(room, file)


def test_audio_behind_a_url_and_missing_files_are_refused(room, corpus, tmp_path):
    line = json.dumps(read_rows(corpus.jsonl)[0]).replace("!/", "!https://a/")
    with pytest.raises(ValueError, match=r"rows\.jsonl:1: .*behind a URL"):
        make_data(room, write_rows(tmp_path / "rows.jsonl", [line]))
    with pytest.raises(FileNotFoundError, match=r"train_data_set_list: .*none\.jsonl does not exist"):
        make_data(room, tmp_path / "none.jsonl")
    (tmp_path / "manifest.txt").write_text(line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"manifest\.txt does not end in \.jsonl"):
        make_data(room, tmp_path / "manifest.txt")
