"""Conversations, prompts and masks one by one."""

import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from nest_ssl.data.fun_asr_augment import SpecAugment, played, utterance_stream
from nest_ssl.data.fun_asr_batch import collate, kept_by_funasr
from nest_ssl.data.fun_asr_features import resampled
from nest_ssl.data.fun_asr_prompt import MultiContextPrompt, language_of
from nest_ssl.data.fun_asr_rows import conversation_of
from nest_ssl.data.prompts import PromptSettings
from nest_ssl.data.ssl_dataset import BatchKey
from tests.data_room.fun_asr_room import make_data, read_rows, same, write_rows
from tests.fun_asr_tiny import make_corpus

FILE = Path("/data/rows.jsonl")


def turns(*texts):
    roles = ["user", "assistant"] * len(texts)
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]


def test_a_line_becomes_a_conversation():
    row = {
        "key": ["k1"],
        "messages": [
            {"role": "user", "content": "语音转写：<|startofspeech|>!/a/b.wav<|endofspeech|>"},
            {"role": "assistant", "content": "world", "prev_content": "hello "},
        ],
        "speech_length": [12],
        "text_length": 5,
        "hotwords": "a, b",
    }
    found = conversation_of(row, FILE, 7, PromptSettings())
    (turn,) = found.turns
    assert (found.utterance_id, found.place) == ("k1", "/data/rows.jsonl:7")
    assert found.system == "You are a helpful assistant."
    assert (turn.text, turn.before, turn.transcript) == ("world", "hello ", "hello world")
    assert (turn.audio.path, turn.audio.channel) == (Path("/a/b.wav"), "average")
    assert (found.speech_lengths, found.text_lengths, found.row) == ((12,), (5,), {"hotwords": "a, b"})


def test_a_manifest_row_is_asked_with_the_settings():
    row = {"audio_filepath": "/a/b.wav", "offset": 1.5, "duration": 2, "text": "hi", "id": "x", "key": "p"}
    found = conversation_of(row, FILE, 1, PromptSettings(language="en", system="S"))
    (turn,) = found.turns
    assert turn.user == "Speech transcription:<|startofspeech|>!audio<|endofspeech|>"
    assert (turn.audio.path, turn.audio.offset_s, turn.audio.duration_s) == (Path("/a/b.wav"), 1.5, 2.0)
    assert (found.system, found.utterance_id, found.prompt_key) == ("S", "x", "p")


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("<|startofspeech|>/a.wav<|endofspeech|>", "is not ! and a path"),
        ("<|startofspeech|>!/a.wav", "a turn has one at most"),
        ("<|startofspeech|>!/a<|endofspeech|><|startofspeech|>!/b<|endofspeech|>", "has 2 of"),
    ],
)
def test_a_placeholder_that_names_no_audio_is_refused(user, message):
    with pytest.raises(ValueError, match=rf"rows\.jsonl:3: .*{message}"):
        conversation_of({"messages": turns(user, "x")}, FILE, 3, PromptSettings())


def test_control_tokens_in_a_manifests_text_are_refused():
    row = {"audio_filepath": "/a.wav", "duration": 1.0, "text": "a <|im_end|> b"}
    with pytest.raises(ValueError, match=r"rows\.jsonl:2: text has '<\|im_end\|>'"):
        conversation_of(row, FILE, 2, PromptSettings())


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("", "zh"),
        ("语音转写：", "zh"),
        ("Speech transcription:", "en"),
        ("中12345678", "en"),
        ("中文ab", "en"),
        ("。", "en"),
    ],
)
def test_language_of_a_prompt(text, language):
    assert language_of(text) == language


def test_context_without_words_is_a_header_and_blank_lines():
    prompt = MultiContextPrompt({"use_hist": True})
    text = prompt.prompt({}, "语音转写：", random.Random(0), np.random.RandomState(0))
    assert text.endswith("\n\n\n\n") and text.count("\n") == 4
    text = prompt.prompt({"hist_context": "so far"}, "Say:", random.Random(0), np.random.RandomState(0))
    assert text.endswith("Historical transcription: so far\n")


def test_a_list_of_hot_words_that_is_missing_is_named():
    with pytest.raises(FileNotFoundError, match="chinese_hotwords_list: /no/words does not exist"):
        MultiContextPrompt({"chinese_hotwords_list": "/no/words"})


def test_masks_cover_spans_and_bands_and_leave_the_rest():
    energies = torch.randn(200, 80) + 3
    before = energies.clone()
    found = SpecAugment(1, 20, 2, 0.1)(energies, utterance_stream(0, 0, "a", "spec_augment"))
    assert torch.equal(energies, before)
    changed = found != energies
    assert torch.equal(found[changed], energies.mean().expand_as(found[changed]))
    bands, spans = changed.all(dim=0), changed.all(dim=1)
    assert torch.equal(changed, bands[None] | spans[:, None])
    assert bands.sum() + spans.sum() > 0 and bands.sum() <= 20 and spans.sum() <= 2 * 20
    widths = [
        (SpecAugment(1, 20, 0, 0)(energies, utterance_stream(0, epoch, "a", "x")) != energies)
        .any(dim=0)
        .sum()
        for epoch in range(200)
    ]
    assert min(widths) == 0 and max(widths) == 20


def test_faster_speech_is_shorter_and_higher():
    rate, time = 16000, np.arange(16000) / 16000
    tone = np.sin(2 * np.pi * 1000 * time).astype(np.float32)
    fast = played(tone, rate, 1.25)
    assert len(fast) == 12800
    spectrum = np.abs(np.fft.rfft(fast * np.hanning(len(fast))))
    assert spectrum.argmax() * rate / len(fast) == pytest.approx(1250, abs=2)
    assert played(tone, rate, 1.0) is tone


def test_resampling_keeps_time_and_pitch():
    pytest.importorskip("torchaudio")
    tone = np.sin(2 * np.pi * 500 * np.arange(8001) / 8000).astype(np.float32)
    found = resampled(tone, 8000, 16000)
    expected = np.sin(2 * np.pi * 500 * np.arange(len(found)) / 16000)
    assert len(found) == 16002
    assert np.abs(found - expected)[100:-100].max() < 2e-3


def brute_kept(lengths, token_max, retry):
    """FunASR's collator in words: try, drop the last, try again; what was built last goes out."""
    left = list(lengths)
    for _ in range(retry):
        built = left
        if len(built) > 1 and len(built) * max(built) > token_max:
            left = left[:-1]
            continue
        break
    return len(built)


def test_what_funasrs_collator_keeps():
    draws = np.random.RandomState(1)
    for _ in range(300):
        lengths = draws.randint(1, 50, draws.randint(1, 12)).tolist()
        token_max, retry = int(draws.randint(1, 300)), int(draws.randint(1, 15))
        assert kept_by_funasr(lengths, token_max, retry) == brute_kept(lengths, token_max, retry)


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one sample"):
        collate([])


def test_turns_above_the_limit_are_counted(tmp_path):
    row = {"key": "long", "messages": turns(*"abcdefgh"), "speech_length": 10, "text_length": 1}
    data = make_data(tmp_path, write_rows(tmp_path / "rows.jsonl", [row]), {"multiturn_num_max": 3})
    assert data.describe()["dropped"] == {"turns above multiturn_num_max 3": 1}
    batch = next(data.batches(0))
    assert batch.tensors["fbank_beg"].tolist() == [[-1, -1, -1]]
    assert batch.texts == ["f"]


def test_a_dataset_that_was_sent_to_another_process_gives_the_same(tmp_path):
    data = make_data(tmp_path, make_corpus(tmp_path / "corpus", 3).jsonl, {"speed": [0.9, 1.1]})
    key = BatchKey(1, 0, 0, np.arange(3, dtype=np.int32))
    sent = pickle.loads(pickle.dumps(data.dataset))
    assert same(data.dataset.batch(key), sent.batch(key))
    assert sent.corpus.fingerprint() == data.dataset.corpus.fingerprint()


def test_sequence_lengths_are_those_of_the_samples(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", 6)
    rows = read_rows(corpus.jsonl)
    rows[0]["hist_context"] = "earlier words"
    conf = {"prompt_classes": "MultiContextPrompt", "do_think": False}
    dataset = make_data(tmp_path, write_rows(tmp_path / "rows.jsonl", rows), conf).dataset
    found = [len(dataset[i].input_ids) for i in range(6)]
    assert dataset.corpus.sequence_lengths.tolist() == found
