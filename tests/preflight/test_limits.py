"""Limits: what each would drop, FunASR's batches, and suggested values that agree with each other."""

import json

import numpy as np
import pytest
import yaml

from nest_ssl.bin.preflight import main
from nest_ssl.preflight.limits import funasr_batches, suggested_limits
from nest_ssl.preflight.run import Context, run_checks


class Letters:
    """A tokenizer of one token per character."""

    vocab_size = 300
    special_in = staticmethod(lambda text: None)

    def encode(self, text):
        return [ord(character) for character in text]

    def decode(self, ids):
        return "".join(map(chr, ids))

    def count(self, text):
        return len(text)

    def counts(self, texts):
        return [len(text) for text in texts]


def rows_of(path, frames):
    lines = []
    for number, length in enumerate(frames):
        user = f"语音转写：<|startofspeech|>!/nowhere/{number}.wav<|endofspeech|>"
        turns = [{"role": "user", "content": user}, {"role": "assistant", "content": "abc"}]
        lines.append({"key": f"k{number}", "messages": turns, "speech_length": length, "text_length": 3})
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def test_the_table_counts_each_limit_in_its_own_unit(tmp_path):
    # 3500 tokens are 35 s of audio in the sampler; 8000 are 80 s in the index, 480 s in the dataset.
    train = rows_of(tmp_path / "train.jsonl", [5, 1000, 3400, 3600, 9000, 19000])
    context = Context(
        {"dataset_conf": {"max_source_length": 8000, "max_token_length": 3500, "batch_size": 6000}},
        train=[train],
        tokenizer=Letters(),
    )
    table = next(f.table for f in run_checks(context).findings if f.code == "P3.table")
    rows = {line[:29].strip(): int(line[67:75]) for line in table[1:]}
    assert rows["max_source_length   index"] == 2
    assert rows["min_source_length   index"] == 1
    assert rows["max_source_length   dataset"] == 0
    assert rows["max_token_length    sampler"] == 3
    assert rows["max_token_length    dataset"] == 0
    assert rows["all"] == 4


@pytest.mark.parametrize("seed", range(3))
def test_funasr_batches_keep_both_bounds_and_every_row(seed):
    units = np.random.default_rng(seed).integers(10, 900, 500)
    batches = funasr_batches(units, 3000, 8, sort_size=100)
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    for batch in batches:
        assert len(batch) == 1 or (units[batch].max() * len(batch) <= 3000 and len(batch) <= 8)


def test_suggested_limits_drop_what_the_percentile_says_and_no_more(tmp_path):
    frames = list(range(101, 301))
    context = Context({}, train=[rows_of(tmp_path / "train.jsonl", frames)], tokenizer=Letters())
    resolved, conf = suggested_limits(context, 99.0)
    assert int(resolved.keep(context.lengths).sum()) == 198
    assert conf["max_source_length"] == 298
    assert conf["max_token_length"] >= 298 + 3
    again = Context({"dataset_conf": conf}, train=context.train, tokenizer=Letters())
    said = [finding.what for finding in run_checks(again).findings if finding.code == "P3.drops"]
    assert said and all("would drop 2 of 200 rows" in what for what in said)


def test_suggested_limits_are_written_for_finetune(world, tmp_path, capsys):
    out = tmp_path / "limits.yaml"
    status = main(world.argv("--suggest-limits", "99.5", "--limits-out", str(out)))
    assert status == 0
    conf = yaml.safe_load(out.read_text())["dataset_conf"]
    longest = max(row["speech_length"] for row in world.rows())
    assert conf["max_source_length"] == longest
    assert f"++dataset_conf.max_source_length={longest}" in capsys.readouterr().out


def test_limits_are_suggested_from_training_data_alone(capsys):
    with pytest.raises(SystemExit):
        main(["--model", "m", "--suggest-limits", "99.5"])
    assert "--suggest-limits needs --train" in capsys.readouterr().err
