"""The verb finetune: three stages in a chain, FunASR's words, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from nest_ssl.bin import finetune
from nest_ssl.bin.arguments import ROOT
from nest_ssl.bin.finetune_config import configuration, given_keys, parse
from tests.fun_asr_tiny import make_corpus, make_model_dir

QUICK = [
    "++train_conf.max_epoch=1",
    "++train_conf.use_bf16=false",
    "++train_conf.tensorboard=false",
    "++train_conf.accelerator=cpu",
    "++scheduler_conf.warmup_steps=1",
    "++dataset_conf.num_workers=0",
]


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finetune")
    make_model_dir(folder / "base")
    make_corpus(folder / "audio", 6, prefix="train")
    make_corpus(folder / "audio", 3, seed=1, prefix="dev")
    return folder


def words(given: Path, out: Path, *more: str, model: Path | None = None) -> list[str]:
    audio = given / "audio"
    train, valid = audio / "train.messages.jsonl", audio / "dev.manifest.jsonl"
    options = {"--model": model or given / "base", "--train": train, "--valid": valid, "--out": out}
    return [*(str(word) for pair in options.items() for word in pair), *QUICK, *more]


def config_of(given: Path, *more: str) -> dict:
    arguments = parse(words(given, given / "nowhere", *more), None)
    return configuration(arguments)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path / "model.pt", weights_only=True)["state_dict"]


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """The parts with a tensor that changed; `lora` for adapters that came or changed."""
    parts = {k.split(".")[0] for k in before if k in after and not torch.equal(before[k], after[k])}
    new = {"lora" if ".lora_" in key else key for key in after.keys() - before.keys()}
    return parts | new


def test_three_stages_each_change_their_part_and_say_where_they_began(given, tmp_path):
    model = given / "base"
    for part, parts in (
        ("encoder", {"audio_encoder"}),
        ("adaptor", {"audio_adaptor", "ctc_decoder", "ctc"}),
        ("lora", {"lora"}),
    ):
        out = tmp_path / part
        assert finetune.main(words(given, out, "--part", part, model=model)) == 0
        assert changed(weights(model), weights(out / "model")) == parts
        record = yaml.safe_load((out / "config.yaml").read_text())["nest_ssl"]
        assert record["stage"] == part
        assert record["base"]["directory"] == str(model)
        log = (out / "train.log").read_text()
        assert f"stage {part} from {model}" in log
        assert "part llm parameters" in log
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        assert rows[0]["kind"] == "validation"
        assert rows[0]["step"] == 0
        for kept in (out / "checkpoints").glob("step-*/model.safetensors"):
            assert kept.stat().st_size < (out / "model" / "model.pt").stat().st_size
        model = out / "model"
    stages = [
        entry["stage"] for entry in yaml.safe_load((model / "config.yaml").read_text())["nest_ssl"]["history"]
    ]
    assert stages == ["encoder", "adaptor", "lora"]
    before = (model / "model.pt").stat().st_mtime_ns
    assert (
        finetune.main(words(given, tmp_path / "lora", "--part", "lora", model=tmp_path / "adaptor" / "model"))
        == 0
    )
    assert "nothing to do" in (tmp_path / "lora" / "train.log").read_text()
    assert (model / "model.pt").stat().st_mtime_ns == before


def test_a_training_that_only_harms_says_so_last_and_again(given, tmp_path):
    words_of_run = words(given, tmp_path / "out", "--part", "adaptor", "++optim_conf.lr=30.0")
    for _ in range(2):
        assert finetune.main(words_of_run) == 0
        last = (tmp_path / "out" / "train.log").read_text().splitlines()[-1]
        assert "before the first step: by it the training has not helped" in last
        assert f"{tmp_path / 'out' / 'model'} has the trained weights" in last
        assert last.endswith(f"go on from the model before, {given / 'base'}")
    record = yaml.safe_load((tmp_path / "out" / "model" / "config.yaml").read_text())["nest_ssl"]["weights"]
    assert record["monitor"] == "val_loss" and record["value"] >= record["start"]
    assert "audio_adaptor" in changed(weights(given / "base"), weights(tmp_path / "out" / "model"))


def test_funasrs_own_command_is_taken(given, tmp_path):
    audio = given / "audio"
    command = [
        f"++model={given / 'base'}",
        f"++train_data_set_list={audio / 'train.messages.jsonl'}",
        f"++valid_data_set_list=[{audio / 'dev.messages.jsonl'}]",
        f"++output_dir={tmp_path / 'out'}",
        "++audio_adaptor_conf.freeze=false",
        "++ctc_decoder_conf.freeze=true",
        "++train_conf.effective_save_name_excludes=None",
        "++hub=ms",
        *QUICK,
    ]
    assert finetune.main(command) == 0
    # FunASR has no CTC loss, whatever ctc_weight its configuration has, and no switch for the head
    assert changed(weights(given / "base"), weights(tmp_path / "out" / "model")) == {"audio_adaptor"}
    rows = (tmp_path / "out" / "metrics.jsonl").read_text()
    assert all("ctc_loss" not in json.loads(line) for line in rows.splitlines())


def test_a_stage_takes_its_own_training_section_and_merges_the_others(given):
    config = config_of(given, "--part", "adaptor")
    stage = yaml.safe_load((ROOT / "conf/fun_asr_nano_8k/stage2_adaptor_align.yaml").read_text())
    assert config["optim_conf"] == stage["optim_conf"]
    assert config["train_conf"]["keep_nbest_models"] == 5
    assert "use_deepspeed" not in config["train_conf"]
    assert config["audio_encoder_conf"]["freeze"] is True
    assert config["audio_encoder_conf"]["output_size"] == 16
    assert config["ctc_weight"] == 0.5
    assert config["ctc_detach_encoder"] is True


@pytest.mark.parametrize(("part", "lr"), [("encoder", 1e-4), ("adaptor", 5e-5), ("lora", 1e-5)])
def test_the_stages_have_the_learning_rates_of_the_experiment(given, part, lr):
    config = config_of(given, "--part", part)
    assert config["optim_conf"]["lr"] == lr
    assert config["scheduler"] == "warmuplr"
    assert (config["ctc_weight"] > 0) == (part != "lora")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["++train_conf.max_step=5"], r"train_conf\.max_step is not supported; did you mean max_steps"),
        (["++optim_conf.lr_rate=5"], r"optim_conf\.lr_rate: AdamW has no such option"),
        (["++optim=adammw"], "optim_conf.name: 'adammw' is not one of"),
        (["++scheduler=cosine"], "scheduler_conf.name: 'cosine' is not one of"),
        (["++ctc_wieght=1"], r"the key 'ctc_wieght' is not supported; did you mean ctc_weight"),
        (["++devices=2"], r"the key 'devices' is not supported; did you mean train_conf\.devices"),
        (["++train_conf.monitor=val_cer"], r"train_conf\.monitor: 'val_cer'.*did you mean val_ctc_cer"),
        (["++dataset_conf.batchsize=5"], r"dataset_conf\.batchsize is no option.*did you mean batch_size"),
        (["++audio_adaptor_conf.freeze=false"], "audio_adaptor .* of .* instead of 0"),
        (["++init_param=missing.pt"], "init_param: .*missing.pt"),
        (["++model=elsewhere"], "--model says this already"),
    ],
)
def test_mistakes_end_in_a_message_that_names_them(given, tmp_path, more, message):
    with pytest.raises((ValueError, OSError), match=message):
        finetune.main(words(given, tmp_path / "out", "--part", "encoder", *more))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, r"train_data_set_list: .*none\.jsonl does not exist"),
        ("wav.scp", b"utt1 /data/utt1.wav", r"wav\.scp does not end in \.jsonl.*names 'utt1 /data/utt1.wav'"),
        ("a.wav", b"RIFF\xff\xfe", r"a\.wav does not end in \.jsonl.*is no text at all"),
    ],
)
def test_data_that_are_no_rows_are_refused_before_the_model_is_read(given, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    arguments = words(given, tmp_path / "out", "--part", "encoder")
    arguments[arguments.index("--train") + 1] = str(tmp_path / name)
    with pytest.raises((ValueError, OSError), match=message):
        finetune.main(arguments)
    assert not (tmp_path / "out").exists()


def test_a_word_without_effect_is_said_to_have_none(given, tmp_path, caplog):
    parse(words(given, tmp_path, "++device=cuda"), None)
    assert "++device=cuda has no effect here" in caplog.text


def test_a_resume_is_checked_again_where_its_settings_changed(given, tmp_path, capsys):
    command = words(given, tmp_path / "out", "--part", "adaptor")
    assert finetune.main(command) == 0
    capsys.readouterr()
    assert finetune.main(command) == 0
    assert "preflight" not in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"P1\.fs"):
        finetune.main([*command, "++frontend_conf.fs=8000"])
    assert finetune.main([*command, "++optim_conf.lr=1e-5"]) == 0
    assert "RUN.stale" in capsys.readouterr().out


def test_words_may_stand_between_the_options(given):
    arguments = parse(
        ["--train", "a.jsonl", "++optim_conf.lr=1", "--model", "m", "++out=x", "--out", "o", "b=2"], None
    )
    assert (arguments.train, arguments.out) == (["a.jsonl"], "o")
    assert given_keys(arguments.overrides) == {"optim_conf.lr": 1, "out": "x", "b": 2}


def test_the_folder_of_the_model_is_not_taken_for_the_run(given):
    before = sorted(path.name for path in (given / "base").iterdir())
    with pytest.raises(ValueError, match=r"--out .*base holds the model that training starts from"):
        finetune.main(words(given, given / "base", "--part", "encoder"))
    assert sorted(path.name for path in (given / "base").iterdir()) == before
