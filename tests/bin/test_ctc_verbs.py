"""tokenizer, finetune_ctc, transcribe and extract_features as their users call them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from nest_ssl.bin import extract_features, finetune_ctc, tokenizer, transcribe
from nest_ssl.files.audio import write_audio
from nest_ssl.models.ctc_models import EncDecCTCModelBPE
from tests.models.ctc_small import SMALL
from tests.models.ctc_small import small_model as small_ctc_model
from tests.models.small import small_model as nest_model

TEXTS = ["Press 1.", "hello", "", "x" * 90, "Go on!", "one"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Six recordings: one without text, one with more text than frames; a tokenizer; a NEST model."""
    folder = tmp_path_factory.mktemp("ctc corpus")
    rng = np.random.default_rng(0)
    rows = []
    for i, text in enumerate(TEXTS):
        write_audio(folder / f"{i}.wav", (rng.normal(size=16000 + 800 * i) * 0.05).astype(np.float32), 16000)
        rows.append({"audio_filepath": f"{i}.wav", "duration": 1 + 0.05 * i, "text": text, "id": f"u{i}"})
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--manifest", str(folder / "all.jsonl"), "--out", str(folder / "tokenizer"), "--kind", "char"]
    assert tokenizer.main(words) == 0
    (folder / "other.jsonl").write_text(json.dumps({"text": "eh"}) + "\n")
    words = ["--manifest", str(folder / "other.jsonl"), "--out", str(folder / "other"), "--kind", "char"]
    assert tokenizer.main(words) == 0
    nest_model().save_to(folder / "nest.nemo")
    return folder


def finetune(corpus: Path, run: Path, *more: str) -> str:
    words = [
        f"model.tokenizer.dir={corpus}/tokenizer",
        f"model.train_ds.manifest_filepath={corpus}/all.jsonl",
        f"model.validation_ds.manifest_filepath={corpus}/all.jsonl",
        f"exp_manager.explicit_log_dir={run}",
        "exp_manager.create_tensorboard_logger=false",
        "model.train_ds.batch_duration=4",
        "trainer.accelerator=cpu",
        "trainer.max_steps=3",
        "trainer.val_check_interval=2",
        "trainer.log_every_n_steps=1",
    ]
    assert finetune_ctc.main([*words, *more]) == 0
    return (run / "train.log").read_text()


def test_a_nest_encoder_is_fine_tuned_decoded_and_read_for_features(corpus, tmp_path, capsys):
    log = finetune(corpus, tmp_path / "run", f"init_from_nemo_model={corpus}/nest.nemo")
    assert re.search(
        r"initial weights: init_from_nemo_model .*: loaded .*; 0 missing; 0 un.*\(decoder\)", log
    )
    assert "{'without text': 1, \"text longer than the encoder's frames\": 1}" in log
    assert "val_cer" in log and "val_wer" in log
    model = EncDecCTCModelBPE.restore_from(tmp_path / "run" / "best.nemo")
    assert model.cfg.encoder.d_model == nest_model().cfg.encoder.d_model

    nemo = str(tmp_path / "run" / "final.nemo")
    hypotheses, summary = tmp_path / "h.jsonl", tmp_path / "s.json"
    for more in ([], ["--beam", "4"]):
        words = ["--manifest", f"{corpus}/all.jsonl", "--out", str(hypotheses), "--summary", str(summary)]
        assert transcribe.main(["--model", nemo, *words, *more]) == 0
        rows = [json.loads(line) for line in hypotheses.read_text().splitlines()]
        assert [row["id"] for row in rows] == [f"u{i}" for i in range(6)]
        figures = json.loads(summary.read_text())
        assert figures["scored"] == 5 and figures["without_reference"] == 1
        assert figures["character_errors"] == sum(row["character_errors"] for row in rows if row["text"])
    capsys.readouterr()
    assert transcribe.main(["--model", nemo, f"{corpus}/0.wav"]) == 0
    assert capsys.readouterr().out.strip() == rows_by_greedy(model, nemo, corpus)

    words = ["--model", nemo, "--manifest", f"{corpus}/all.jsonl", "--out", str(tmp_path / "features")]
    assert extract_features.main([*words, "--layers", "all"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "features" / "features.jsonl").read_text().splitlines()]
    first = np.load(tmp_path / "features" / rows[0]["feature_filepath"])
    assert first.shape == (2, 24, rows[0]["feature_frames"])
    (tmp_path / "features" / rows[0]["feature_filepath"]).unlink()
    capsys.readouterr()
    assert extract_features.main([*words, "--layers", "all"]) == 0
    assert "5 were there before" in capsys.readouterr().out
    with pytest.raises(ValueError, match="features of other settings"):
        extract_features.main([*words, "--layers", "0"])


def rows_by_greedy(model: EncDecCTCModelBPE, nemo: str, corpus: Path) -> str:
    from nest_ssl.files.audio import read_audio

    model = EncDecCTCModelBPE.restore_from(nemo).eval()
    audio, _ = read_audio(corpus / "0.wav")
    with torch.no_grad():
        _, length, best = model(
            input_signal=torch.from_numpy(audio)[None], input_signal_length=torch.tensor([len(audio)])
        )
    return model.texts_of([best[0, : int(length)].tolist()])[0].strip()


def test_the_same_encoder_with_random_weights_is_another_start(corpus, tmp_path):
    log = finetune(corpus, tmp_path / "run", f"init_config_from={corpus}/nest.nemo", "trainer.max_steps=1")
    assert "initial weights: random, seed 0" in log
    model = EncDecCTCModelBPE.restore_from(tmp_path / "run" / "final.nemo")
    assert model.cfg.encoder.subsampling_conv_channels == 8


def test_parts_of_several_files_are_taken_as_in_pre_training(corpus, tmp_path):
    log = finetune(
        corpus,
        tmp_path / "run",
        f"init_from_ptl_ckpt={{low: {{path: '{corpus}/nest.nemo', exclude: [layers.1]}}}}",
        f"+init_from_ptl_ckpt.top.path='{corpus}/nest.nemo'",
        "+init_from_ptl_ckpt.top.include=[encoder.layers.1]",
        "trainer.max_steps=1",
    )
    lines = re.findall(r"initial weights: (\S+) .*: loaded (\d+) tensors", log)
    assert [name for name, _ in lines] == ["init_from_ptl_ckpt.low", "init_from_ptl_ckpt.top"]
    taken = [key for key in nest_model().state_dict() if key.startswith(("encoder.", "preprocessor."))]
    top = [key for key in taken if key.startswith("encoder.layers.1")]
    assert [int(count) for _, count in lines] == [len(taken) - len(top), len(top)]
    model = EncDecCTCModelBPE.restore_from(tmp_path / "run" / "final.nemo")
    assert model.cfg.encoder.d_model == nest_model().cfg.encoder.d_model


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("init_from_pretrained_model=nvidia/x", r"not fetched by name here; download .*nvidia/x"),
        ("model.tokenizer.dir=nowhere", r"nowhere.*does not exist; python -m nest_ssl\.bin\.tokenizer"),
        ("+model.train_ds.noise_manifest=x", r"model\.train_ds\.noise_manifest is no option"),
        ("+model.train_ds.is_tarred=true", r"model\.train_ds\.is_tarred=True is not supported"),
        (
            "model.tokenizer.dir={corpus}/other",
            r"train_ds: 5 of 5 texts have char.* tokenizer.*: 'x' 90, 'o' ",
        ),
        ("init_from_nemo_model=nowhere.nemo", r"nowhere\.nemo does not exist"),
        ("model.freeze=[ears]", r"model\.freeze: 'ears'"),
    ],
)
def test_what_cannot_be_done_is_refused_by_key(corpus, tmp_path, override, message):
    with pytest.raises((ValueError, OSError), match=message):
        finetune(corpus, tmp_path / "run", *SMALL, override.format(corpus=corpus))


def test_characters_that_the_tokenizer_lacks_are_named(corpus, tmp_path, caplog):
    rows = [json.loads(line) for line in (corpus / "all.jsonl").read_text().splitlines()]
    rows[1]["text"] = "hello 你好"
    (corpus / "some.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    finetune(
        corpus, tmp_path / "run", *SMALL, f"model.train_ds.manifest_filepath={corpus}/some.jsonl",
        "model.validation_ds=null", "trainer.max_steps=1",
    )  # fmt: skip
    assert "model.train_ds: 1 of 5 texts have characters that the tokenizer does not have" in caplog.text
    assert "'你' 1, '好' 1" in caplog.text


@pytest.fixture(scope="module")
def untrained(corpus) -> Path:
    """A CTC model with random weights."""
    small_ctc_model().save_to(corpus / "untrained.nemo")
    return corpus / "untrained.nemo"


def test_words_that_the_model_cannot_write_are_named_or_refused(corpus, untrained, caplog):
    audio = ["--model", str(untrained), f"{corpus}/0.wav", "--beam", "2"]
    (corpus / "words.txt").write_text("hello\nпривет\n", encoding="utf-8")
    assert transcribe.main([*audio, "--words", f"{corpus}/words.txt"]) == 0
    assert "does not write the characters of 1 of 2 words: привет" in caplog.text
    (corpus / "words.txt").write_text("привет\n", encoding="utf-8")
    with pytest.raises(ValueError, match="does not write the characters of 1 of 1 words: привет"):
        transcribe.main([*audio, "--words", f"{corpus}/words.txt"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "gpu"], "'gpu' cannot be used"),
        (["--out", "{corpus}"], "is a folder; name a file in it"),
        (["--channel-selector", "left"], "'left' is neither a number nor average"),
        (["--words", "words.txt"], "--words needs --beam N"),
    ],
)
def test_a_wrong_option_is_refused_before_the_work(corpus, untrained, capsys, words, message):
    words = [word.format(corpus=corpus) for word in words]
    with pytest.raises(SystemExit):
        transcribe.main(["--model", str(untrained), f"{corpus}/0.wav", *words])
    assert message in capsys.readouterr().err


def test_a_folder_is_no_model_to_transcribe_with(corpus):
    with pytest.raises(ValueError, match=r"is a folder; name a \.nemo in it"):
        transcribe.main(["--model", str(corpus), f"{corpus}/0.wav"])
