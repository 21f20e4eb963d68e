"""Messages lines as FunASR 1.4.16 read them: its lengths, and the tokens of the sequences it made."""

from pathlib import Path

import pytest

from nest_ssl.data.lengths import speech_length
from nest_ssl.data.messages import read_messages_audio, sequence_length, to_messages
from nest_ssl.data.prompts import PromptSettings
from nest_ssl.files.manifest import read_rows
from nest_ssl.text.llm_tokenizer import LlmTokenizer

pytest.importorskip("tokenizers")
FOLDER = Path(__file__).resolve().parent / "funasr"
CASES = [case for _, case in read_rows(FOLDER / "lines.jsonl")]


@pytest.fixture(scope="module")
def tokenizer() -> LlmTokenizer:
    return LlmTokenizer(FOLDER)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["line"]["key"])
def test_the_sequence_has_as_many_tokens_as_funasr_makes(case, tokenizer):
    frames = [speech_length(seconds) for seconds in case["durations"]]
    assert sequence_length(case["line"], tokenizer, frames) == case["input_ids"]


@pytest.mark.parametrize(
    "case", [case for case in CASES if case["set"] == "train"], ids=lambda case: case["line"]["key"]
)
def test_a_row_becomes_the_line_that_funasr_was_trained_on(case, tokenizer):
    line = case["line"]
    row = {
        "id": line["key"],
        "audio_filepath": read_messages_audio(line)[0],
        "duration": case["durations"][0],
        "text": line["messages"][-1]["content"],
    }
    assert to_messages(row, PromptSettings(), tokenizer) == line


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("en", {"language": "en"}),
        ("noitn", {"itn": False}),
        ("lang", {"target": "中文"}),
    ],
)
def test_prompts_are_those_of_funasr(key, settings, tokenizer):
    (line,) = (case["line"] for case in CASES if case["line"]["key"] == key)
    prompt = PromptSettings(**settings)
    assert prompt.user(read_messages_audio(line)[0]) == line["messages"][1]["content"]
