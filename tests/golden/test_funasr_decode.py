"""Decoding against FunASR 1.4.16's AutoModel.generate, and nothing invented where nobody speaks."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from nest_ssl.data.fun_asr_features import resampled
from nest_ssl.decoding.fun_asr_items import PromptOptions
from nest_ssl.decoding.fun_asr_recognizer import Options, Recognizer, Segment, text_tn
from nest_ssl.decoding.fun_asr_windows import UNIT
from nest_ssl.files.audio import read_audio, write_audio
from nest_ssl.models.fun_asr_nano import FunASRNano
from tests.decoding.steady_sounds import steady_sounds
from tests.golden.funasr_set import ROOT, needs_goldens, results

pytest.importorskip("transformers")
pytestmark = needs_goldens
RATE = 16000
# What FunASR was given besides the audio, by the name of its results.
CASES = {
    "default": ({}, {}, {}),
    "max_length4": ({}, {"max_length": 4}, {}),
    # The model was not trained on these: its text is no reference, and need not be written to its end.
    "prev_text": ({}, {"max_length": 2}, {"prev_text": "您好"}),
    "hotwords": ({"hotwords": ("订单", "验证码")}, {"max_length": 2}, {}),
    "language_itn_off": ({"target": "中文", "itn": False}, {"max_length": 2}, {}),
}


def prompt(hotwords=(), target=None, itn=True) -> str:
    plain = PromptOptions()
    settings = replace(plain.settings, target=target, itn=itn)
    return PromptOptions(settings, tuple(hotwords)).prompt(None, {})[0]


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return FunASRNano.from_pretrained(ROOT / "model", dtype="fp32")


def heard(key: str) -> np.ndarray:
    samples, rate = read_audio(ROOT / "wav" / f"{key}.wav", channel="average")
    return resampled(samples, rate, RATE)


@pytest.mark.parametrize("given", results("decode")["prompts"] if ROOT.is_dir() else [])
def test_prompts_are_funasrs(given):
    hotwords, language, itn = json.loads(given)
    assert prompt(hotwords, language, itn) == results("decode")["prompts"][given]


@pytest.mark.parametrize("name", CASES)
def test_texts_and_timestamps_are_funasrs_in_one_batch(model, name):
    asked, options, segment = CASES[name]
    expected = results("decode")["generate"][name]
    recognizer = Recognizer(model, Options("llm", 1, **options))
    segments = [Segment(heard(row["key"]), prompt(**asked), **segment) for row in expected]
    for found, row in zip(recognizer.recognize(segments), expected, strict=True):
        assert (found.text_ctc, found.ctc_times) == (row["ctc_text"], row["ctc_timestamps"])
        if name in ("default", "max_length4"):
            assert (found.text, text_tn(found.raw)) == (row["text"], row["text_tn"])
            assert found.times == row["timestamps"]


@pytest.mark.parametrize("mode", ["llm", "joint"])
def test_batch_and_single_utterances_give_the_same(model, mode):
    recognizer = Recognizer(model, Options(mode, 4))
    keys = [row["key"] for row in results("decode")["generate"]["default"]]
    segments = [Segment(heard(key), prompt()) for key in keys]
    for together, segment in zip(recognizer.recognize(segments), segments, strict=True):
        alone = recognizer.recognize([segment])[0]
        assert (together.text, together.text_llm, together.times) == (alone.text, alone.text_llm, alone.times)
        assert {one.text for one in together.candidates} == {one.text for one in alone.candidates}


def test_joint_choice_takes_the_right_text_where_ctc_errs(model):
    row = results("decode")["generate"]["default"][2]
    found = Recognizer(model, Options("joint", 4)).recognize([Segment(heard(row["key"]), prompt())])[0]
    assert found.text_ctc != row["ref"]
    assert found.text == found.text_joint == row["ref"]


@pytest.mark.parametrize("with_ctc, hotwords", [(True, ()), (True, ("订单", "验证码")), (False, ("订单",))])
def test_nothing_is_invented_where_nobody_speaks(model, with_ctc, hotwords):
    """Below 0.1 words per minute, over 5 minutes of sound; the text without a gate shows what it prevents."""
    if not with_ctc:
        model = FunASRNano.from_pretrained(ROOT / "model", dtype="fp32")
        model.drop_ctc()
    sounds = [s for seed, length in enumerate((0.4, 1.5, 6.0, 8.0)) for _, s in steady_sounds(length, seed)]
    segments = [Segment(samples, prompt(hotwords)) for samples in sounds]
    recognizer = Recognizer(model, Options("joint" if with_ctc else "llm", 2))
    found = [
        one for at in range(0, len(segments), 20) for one in recognizer.recognize(segments[at : at + 20])
    ]
    minutes = sum(len(samples) for samples in sounds) / RATE / 60
    words = sum(len(UNIT.findall(one.text)) for one in found)
    assert minutes > 5 and words / minutes < 0.1
    assert {one.gate.silent for one in found} <= ({"ctc", "level"} if with_ctc else {"level"})
    ungated = Recognizer(model, Options("llm", 1, gate="off", max_length=8)).recognize(segments[:20])
    assert any(one.text for one in ungated)


def test_a_long_recording_says_what_its_parts_say(model, tmp_path):
    """All utterances one after another with pauses, decoded through windows of 4 s."""
    from nest_ssl.decoding.fun_asr_items import items_of_files
    from nest_ssl.decoding.fun_asr_recordings import BatchOptions, decode_items

    rows = results("decode")["generate"]["default"]
    pause = np.zeros(RATE // 2, np.float32)
    write_audio(
        tmp_path / "long.wav", np.concatenate([x for r in rows for x in (heard(r["key"]), pause)]), RATE
    )
    recognizer = Recognizer(model, Options("ctc", 1))
    options = BatchOptions(window_s=4.0, overlap_s=1.0)
    items = items_of_files([tmp_path / "long.wav"], PromptOptions())
    [(_, row, seconds)] = list(decode_items(recognizer, items, options))
    assert seconds == pytest.approx(sum(len(heard(r["key"])) / RATE + 0.5 for r in rows), abs=0.01)
    assert row["score"]["windows"] >= 4
    assert all(stamp["end_time"] <= seconds + model.frame_s for stamp in row["timestamps"])
