"""Messages lines: every field of a line, and every fault of a file."""

import json
from pathlib import Path

import numpy as np
import pytest

from nest_ssl.data.messages import check_messages, read_messages_audio, sequence_length, to_messages
from nest_ssl.data.prompts import PromptSettings, prompt_tokens
from nest_ssl.files.audio import write_audio
from nest_ssl.files.manifest import write_rows
from nest_ssl.text.llm_tokenizer import LlmTokenizer
from tests.data_room.small_tokenizer import write_tokenizer

pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> LlmTokenizer:
    return LlmTokenizer(write_tokenizer(tmp_path_factory.mktemp("tokenizer")))


def row(**changed) -> dict:
    return {"id": "u1", "audio_filepath": "/data/u1.wav", "duration": 2.1, "text": "你好"} | changed


def line_of(tokenizer, prompt: PromptSettings | None = None, **changed) -> dict:
    return to_messages(row(**changed), prompt or PromptSettings(), tokenizer)


def test_a_line_has_funasr_fields_and_no_other(tokenizer):
    assert line_of(tokenizer, subset="L", source="wenet", lang="zh") == {
        "key": "u1",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "语音转写：<|startofspeech|>!/data/u1.wav<|endofspeech|>"},
            {"role": "assistant", "content": "你好"},
        ],
        "speech_length": 208,
        "text_length": 2,
    }


@pytest.mark.parametrize(
    ("settings", "text", "prompt"),
    [
        ({}, "好", "语音转写："),
        ({"language": "en"}, "ok", "Speech transcription:"),
        ({"target": "中文"}, "好", "语音转写成中文："),
        ({"language": "en", "target": "Chinese"}, "ok", "Transcribe speech into Chinese:"),
        ({"itn": False}, "好", "语音转写，不进行文本规整："),
        ({"itn": False, "target": "英文"}, "好", "语音转写成英文，不进行文本规整："),
        ({"itn": "auto"}, "二零二五", "语音转写，不进行文本规整："),
        ({"itn": "auto"}, "2025年", "语音转写："),
        ({"itn": "auto"}, "好的。", "语音转写："),
        ({"prompt": "请转写："}, "好", "请转写："),
    ],
)
def test_the_prompt_can_be_set(tokenizer, settings, text, prompt):
    line = line_of(tokenizer, PromptSettings.from_config(settings), text=text)
    assert line["messages"][1]["content"] == f"{prompt}<|startofspeech|>!/data/u1.wav<|endofspeech|>"


def test_the_system_message_can_be_set_or_left_out(tokenizer):
    assert line_of(tokenizer, PromptSettings(system="Be brief."))["messages"][0]["content"] == "Be brief."
    roles = [turn["role"] for turn in line_of(tokenizer, PromptSettings(system=None))["messages"]]
    assert roles == ["user", "assistant"]


def test_hot_words_go_where_they_are_wanted(tokenizer):
    words = {"hotwords": "订单, 物流", "asr_hotwords": ["订单"], "one_pass_result": "我想", "noised": True}
    field = line_of(tokenizer, PromptSettings(hotwords="field"), **words)
    assert field["hotwords"] == ["订单", "物流"] and field["asr_hotwords"] == ["订单"]
    assert field["one_pass_result"] == "我想" and field["noised"] is True
    none = line_of(tokenizer, PromptSettings(hotwords="none"), **words)
    assert "hotwords" not in none and "asr_hotwords" not in none
    written = line_of(tokenizer, PromptSettings(hotwords="prompt"), hotwords=["订单", "物流"])
    assert written["messages"][1]["content"].startswith(
        "请结合上下文信息，更加准确地完成语音转写任务。如果没有相关信息，我们会留空。\n\n\n**上下文信息：**\n\n\n"
        "热词列表：[订单, 物流]\n语音转写：<|startofspeech|>!"
    )
    assert "hotwords" not in written


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lang": "zh"}, r"prompt\.lang: there is no such key"),
        ({"language": "fr"}, r"prompt\.language is one of zh, en, not 'fr'"),
        ({"itn": "no"}, r"prompt\.itn is true, false or auto, not 'no'"),
        ({"itn": False, "language": "en"}, r"prompt\.itn: False is known for Chinese prompts only"),
        ({"hotwords": True}, r"prompt\.hotwords is one of none, field, prompt, not True"),
        ({"system": ""}, r"prompt\.system is a text or null, not ''"),
        ("听", r"prompt: keys such as \{target: 英文\} are needed, not '听'"),
        ({"prompt": "听<|startofspeech|>"}, r"prompt\.prompt: .* holds control tokens"),
    ],
)
def test_a_bad_prompt_setting_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        PromptSettings.from_config(settings)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"text": " "}, "text is ' ': a line without text"),
        ({"text": None}, "text is None"),
        ({"text": "好<|im_end|>"}, "text has '<|im_end|>', which the language model reads as a command"),
        ({"text": "<|startofspeech|>"}, "reads as a command"),
        ({"offset": 1.5}, "offset is 1.5, but FunASR reads whole files"),
        ({"channel_selector": 1}, "channel_selector is 1, but FunASR averages"),
        ({"duration": None}, "duration is None"),
        ({"duration": True}, "duration is True"),
        ({"duration": 0.02}, "below 25 ms"),
        ({"audio_filepath": None}, "no audio_filepath"),
        ({"audio_filepath": "a.wav"}, "a.wav is relative"),
        ({"audio_filepath": "/a\nb.wav"}, "line break"),
        ({"audio_filepath": "/a<|endofspeech|>.wav"}, "control token"),
        ({"hotwords": 3}, "hotwords is a list of words"),
    ],
)
def test_rows_that_funasr_would_misread_are_refused(tokenizer, changed, message):
    with pytest.raises(ValueError) as caught:
        line_of(tokenizer, **changed)
    assert message in str(caught.value)


def test_text_length_is_refused_without_a_tokenizer():
    with pytest.raises(ValueError, match="text_length counts tokens of the language model: give the folder"):
        to_messages(row(), PromptSettings(), None)


def test_a_relative_path_is_taken_from_the_manifest(tokenizer, tmp_path):
    write_audio(tmp_path / "u1.wav", np.zeros(800, np.float32), 8000)
    line = to_messages(row(audio_filepath="u1.wav"), PromptSettings(), tokenizer, tmp_path / "m.jsonl")
    assert read_messages_audio(line) == [str(tmp_path / "u1.wav")]
    assert read_messages_audio(line_of(tokenizer, audio_filepath="https://a/b.wav")) == ["https://a/b.wav"]


def test_sequence_length_adds_prompt_audio_and_text(tokenizer):
    line = line_of(tokenizer)
    layout = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n语音转写：",
        "<|im_end|>\n<|im_start|>assistant\n",
        "你好<|im_end|>",
    )
    assert sequence_length(line, tokenizer, [208]) == sum(map(tokenizer.count, layout)) + 5
    assert prompt_tokens(PromptSettings(), tokenizer) == sum(map(tokenizer.count, layout[:2]))


@pytest.fixture
def lines(tokenizer, tmp_path) -> list[dict]:
    """Three sound lines, 8 and 16 kHz."""
    made = []
    for i, (rate, count) in enumerate([(8000, 9000), (16000, 30000), (8000, 4321)]):
        path = tmp_path / f"u{i}.wav"
        write_audio(path, np.full(count, 0.1, np.float32), rate)
        changed = {
            "id": f"u{i}",
            "audio_filepath": str(path),
            "duration": count / rate,
            "text": "你好" * (i + 1),
        }
        made.append(line_of(tokenizer, **changed))
    return made


def check(lines: list, tmp_path: Path, tokenizer, **options):
    path = tmp_path / "train.jsonl"
    write_rows(path, lines)
    return check_messages(path, tokenizer, **options)


def test_sound_lines_pass(lines, tmp_path, tokenizer):
    report = check(lines, tmp_path, tokenizer, limits={"max_source_length": 300, "max_token_length": 200})
    assert report.problems == [] and report.lines == 3 and report.tokens_verified
    assert report.seconds == pytest.approx(9000 / 8000 + 30000 / 16000 + 4321 / 8000)


def change(line: dict, **changed) -> dict:
    return {**json.loads(json.dumps(line)), **changed}


def turn(line: dict, number: int, **changed) -> dict:
    line = change(line)
    line["messages"][number] |= changed
    return line


FAULTS = [
    (lambda line: change(line, messages=[]), "bad messages", "not a list of turns"),
    (lambda line: change(line, messages=[{"role": "user"}]), "bad messages", "a role and a content"),
    (lambda line: {"key": "a"}, "bad messages", "None"),
    (lambda line: turn(line, 2, role="user"), "bad roles", "system, user, user"),
    (lambda line: change(line, messages=line["messages"][:2]), "bad roles", "system, user"),
    (lambda line: turn(line, 2, content=" "), "no text", "' '"),
    (lambda line: turn(line, 2, content="好<|im_end|>"), "control token", "<|im_end|>"),
    (lambda line: turn(line, 1, content="你好"), "bad audio", "0 of"),
    (lambda line: turn(line, 1, content=2 * line["messages"][1]["content"]), "bad audio", "2 of"),
    (lambda line: turn(line, 1, content="<|startofspeech|>/a.wav<|endofspeech|>"), "bad audio", "is not !"),
    (lambda line: turn(line, 1, content="<|startofspeech|>!a.wav<|endofspeech|>"), "relative path", "a.wav"),
    (
        lambda line: turn(line, 1, content="<|startofspeech|>!/none/a.wav<|endofspeech|>"),
        "missing audio",
        "does not exist",
    ),
    (lambda line: change(line, speech_length=None), "bad speech_length", "None"),
    (lambda line: change(line, speech_length=0), "bad speech_length", "0"),
    (lambda line: change(line, speech_length=[1, 2]), "bad speech_length", "[1, 2]"),
    (lambda line: change(line, text_length=2.0), "bad text_length", "2.0"),
    (lambda line: change(line, speech_length=line["speech_length"] + 1), "wrong speech_length", "is stated"),
    (lambda line: change(line, speech_length=line["speech_length"] // 6), "wrong speech_length", "60-ms"),
    (
        lambda line: change(line, speech_length=line["speech_length"] // 2),
        "wrong speech_length",
        "sample rate",
    ),
    (lambda line: change(line, text_length=7), "wrong text_length", "7 is stated, the text has 4 LLM tokens"),
]


@pytest.mark.parametrize(("fault", "kind", "detail"), FAULTS)
def test_each_fault_is_named_with_file_and_line(lines, tmp_path, tokenizer, fault, kind, detail):
    report = check([lines[0], fault(lines[1]), lines[2]], tmp_path, tokenizer)
    assert [problem.kind for problem in report.problems] == [kind]
    assert detail in report.problems[0].detail
    assert str(report.problems[0]).startswith(f"{tmp_path / 'train.jsonl'}:2: {kind}: ")
    assert report.by_kind == {kind: 1}


def test_doubles_are_found_across_files(lines, tmp_path, tokenizer):
    write_rows(tmp_path / "dev.jsonl", [change(lines[0], key="other")])
    write_rows(tmp_path / "train.jsonl", [*lines, change(lines[2])])
    report = check_messages([tmp_path / "train.jsonl", tmp_path / "dev.jsonl"], tokenizer)
    assert report.by_kind == {"double audio": 2, "double key": 1}
    assert f"also in {tmp_path / 'train.jsonl'}:1" in report.problems[-1].detail


def test_what_is_no_line_is_found_and_the_rest_is_checked(lines, tmp_path, tokenizer):
    path = tmp_path / "train.jsonl"
    path.write_text(
        f"{json.dumps(lines[0])}\n{{no json\n\n[1]\n{json.dumps(change(lines[1], text_length=9))}\n"
    )
    report = check_messages(path, tokenizer)
    assert [(p.line, p.kind) for p in report.problems] == [
        (2, "bad JSON"),
        (4, "bad JSON"),
        (5, "wrong text_length"),
    ]
    (tmp_path / "empty.jsonl").write_text("")
    assert check_messages(tmp_path / "empty.jsonl", tokenizer).by_kind == {"empty file": 1}


def test_damaged_audio_is_found(lines, tmp_path, tokenizer):
    path = Path(read_messages_audio(lines[0])[0])
    path.write_bytes(path.read_bytes()[:3000])
    assert check(lines, tmp_path, tokenizer).by_kind == {"unreadable audio": 1}


def test_lines_that_funasr_would_leave_out_are_found(lines, tmp_path, tokenizer):
    speech = [line["speech_length"] for line in lines]
    tight = {"max_source_length": sorted(speech)[1], "min_source_length": sorted(speech)[1]}
    assert check(lines, tmp_path, tokenizer, limits=tight).by_kind == {"left out by FunASR": 2}
    assert check(lines, tmp_path, tokenizer, limits={"max_target_length": 5}).by_kind == {
        "left out by FunASR": 1
    }
    report = check(lines, tmp_path, tokenizer, limits={"max_token_length": max(speech)})
    assert "speech_length + text_length" in report.problems[0].detail


def test_without_a_tokenizer_the_report_says_so(lines, tmp_path):
    report = check([change(line, text_length=99) for line in lines], tmp_path, None)
    assert not report.tokens_verified and report.problems == []


def test_audio_behind_a_url_is_counted_not_opened(lines, tmp_path, tokenizer):
    line = turn(lines[0], 1, content="语音转写：<|startofspeech|>!https://a.b/c.wav<|endofspeech|>")
    report = check([line], tmp_path, tokenizer)
    assert report.problems == [] and report.not_opened == 1


def test_lines_of_several_turns_are_checked_turn_by_turn(lines, tmp_path, tokenizer):
    both = [*lines[0]["messages"], *lines[1]["messages"][1:]]
    line = {
        "messages": both,
        "speech_length": [lines[i]["speech_length"] for i in (0, 1)],
        "text_length": [lines[i]["text_length"] for i in (0, 1)],
    }
    assert check([line], tmp_path, tokenizer).problems == []
    line["speech_length"][1] += 3
    assert check([line], tmp_path, tokenizer).by_kind == {"wrong speech_length": 1}
