"""Our messages lines in FunASR's own dataset class, in a process of its own; skipped where funasr is absent.

A folder made by `pip install --target DIR --no-deps funasr kaldiio kaldi-native-fbank` can be named by the
environment variable NEST_FUNASR.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nest_ssl.data.length_limits import LengthLimits, as_columns, row_lengths
from nest_ssl.data.lengths import lfr_frames
from nest_ssl.data.messages import check_messages, sequence_length, to_messages
from nest_ssl.data.prompts import PromptSettings, prompt_tokens
from nest_ssl.files.audio import write_audio
from nest_ssl.files.manifest import read_rows, write_rows
from nest_ssl.text.llm_tokenizer import LlmTokenizer
from tests.data_room.small_tokenizer import write_tokenizer

FUNASR = os.environ.get("NEST_FUNASR", "")

# What is asked of FunASR: its index, its samples, its batches.  torchaudio is left out, as funasr allows:
# where it does not fit torch it cannot be imported; librosa then resamples, and soxr's HQ stands for it here.
PROGRAM = """
import json, sys, types
import soxr
from transformers import PreTrainedTokenizerFast
sys.modules["torchaudio"] = None
sys.modules["librosa"] = types.SimpleNamespace(
    resample=lambda y, orig_sr, target_sr: soxr.resample(y, orig_sr, target_sr, quality="HQ")
)
from funasr.datasets.fun_asr_datasets.datasets import FunASR as Index
from funasr.register import tables
from funasr.datasets.audio_datasets.samplers import CustomDistributedBufferDynamicBatchSampler as Sampler
from funasr.frontends.wav_frontend import WavFrontend

path, tokenizer, conf = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
dataset = tables.dataset_classes["FunASR"](
    path,
    index_ds="FunASR",
    frontend=WavFrontend(fs=16000, lfr_m=7, lfr_n=6, dither=0.0),
    tokenizer=PreTrainedTokenizerFast(tokenizer_file=tokenizer + "/tokenizer.json"),
    batch_type="token",
    retry=1,
    **conf,
)
batches = list(Sampler(dataset, sort_size=1024, is_training=False, shuffle=False, **conf))
samples = [dataset[i] for i in range(len(dataset))]
collated = [len(dataset.collator([samples[i] for i in batch])["input_ids"]) for batch in batches]
print("RESULT", json.dumps({
    "keys": [content["key"] for content in dataset.index_ds.contents],
    "source_len": [dataset.get_source_len(i) for i in range(len(dataset))],
    "tokens": [len(s["input_ids"]) for s in samples],
    "audio_tokens": [s["fake_token_len"].tolist() for s in samples],
    "speech_lengths": [int(s["speech_lengths"][0]) for s in samples],
    "batches": [len(batch) for batch in batches],
    "collated": collated,
}))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, LlmTokenizer, dict, list[dict]]:
    """Messages of 24 files from 0.1 to 9 s at 8 and 16 kHz, with the limits that keep them all."""
    folder = tmp_path_factory.mktemp("funasr")
    tokenizer = LlmTokenizer(write_tokenizer(folder / "tokenizer"))
    texts = ["你好，请问有什么可以帮您？", "Number ten, please.", "好的 OK 再见", "嗯"]
    rng = np.random.default_rng(4)
    rows = []
    for i in range(24):
        rate = (8000, 16000)[i % 2]
        samples = rng.integers(800, 72000) * rate // 8000 + i
        write_audio(folder / f"u{i}.wav", (0.1 * rng.standard_normal(samples)).astype(np.float32), rate)
        rows.append(
            {
                "id": f"u{i}",
                "audio_filepath": f"u{i}.wav",
                "duration": samples / rate,
                "text": texts[i % 4] * (1 + i % 3),
            }
        )
    prompt = PromptSettings(itn="auto")
    path = folder / "train.jsonl"
    write_rows(path, (to_messages(row, prompt, tokenizer, folder / "manifest.jsonl") for row in rows))
    lengths = as_columns([row_lengths(row, tokenizer, prompt_tokens(prompt, tokenizer)) for row in rows])
    conf = LengthLimits().funasr_limits(lengths, batch_size=2000, batch_size_sample_max=6)["dataset_conf"]
    return path, tokenizer, conf, rows


@pytest.fixture(scope="module")
def funasr(made) -> dict:
    """What FunASR makes of that file with those limits."""
    if not FUNASR and importlib.util.find_spec("funasr") is None:
        pytest.skip("funasr is not installed, and NEST_FUNASR names no folder with it")
    path, tokenizer, conf, _ = made
    environment = {**os.environ, "PYTHONPATH": FUNASR} if FUNASR else dict(os.environ)
    command = [sys.executable, "-c", PROGRAM, str(path), str(tokenizer.folder), json.dumps(conf)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "RESULT" in done.stdout, done.stdout[-2000:] + done.stderr[-3000:]
    return json.loads(done.stdout.rpartition("RESULT")[2])


@pytest.mark.slow
def test_funasr_keeps_every_line_under_our_limits(made, funasr):
    _, _, conf, rows = made
    assert funasr["keys"] == [row["id"] for row in rows]
    assert sum(funasr["batches"]) == len(rows)
    assert funasr["collated"] == funasr["batches"], "the collator has dropped samples"
    assert max(funasr["source_len"]) <= conf["max_token_length"]


@pytest.mark.slow
def test_funasr_counts_the_lengths_that_we_write(made, funasr):
    path, tokenizer, _, _ = made
    lines = [line for _, line in read_rows(path)]
    assert funasr["source_len"] == [line["speech_length"] + line["text_length"] for line in lines]
    assert funasr["speech_lengths"] == [lfr_frames(line["speech_length"]) for line in lines]
    assert funasr["tokens"] == [sequence_length(line, tokenizer, [line["speech_length"]]) for line in lines]


def test_the_lines_made_here_pass_the_check(made):
    path, tokenizer, conf, _ = made
    assert check_messages(path, tokenizer, conf).problems == []
