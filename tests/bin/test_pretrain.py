"""The pretrain verb as its users call it: what it makes, and what it says of bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

import nest_ssl
from nest_ssl.bin import pretrain
from nest_ssl.models.ssl_models import EncDecDenoiseMaskedTokenPredModel
from tests.resume.runs import CHECKOUT, TINY, make_corpus

CONFIG = CHECKOUT / "conf" / "nest_fast-conformer.yaml"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("pretrain") / "corpus", count=12)


def arguments(
    corpus: Path, run: Path, *more: str, config: tuple[str, ...] = ("--config", str(CONFIG))
) -> list[str]:
    return [
        *config,
        f"model.train_ds.manifest_filepath={corpus}/train.jsonl",
        f"model.validation_ds.manifest_filepath={corpus}/dev.jsonl",
        f"exp_manager.explicit_log_dir={run}",
        "model.train_ds.num_workers=0",
        "trainer.max_steps=2",
        *TINY,
        *more,
    ]


def test_nemos_way_of_naming_the_configuration_works(corpus, tmp_path):
    config = ("--config-path", str(CONFIG.parent), "--config-name", CONFIG.stem)
    assert pretrain.main(arguments(corpus, tmp_path / "run", config=config)) == 0
    model = EncDecDenoiseMaskedTokenPredModel.restore_from(tmp_path / "run" / "final.nemo")
    assert model.cfg.encoder.d_model == 16


def test_a_run_directory_holds_what_the_documentation_says(corpus, tmp_path):
    run = tmp_path / "run"
    more = ["exp_manager.create_tensorboard_logger=true", "model.train_ds.num_workers=1"]
    assert pretrain.main(arguments(corpus, run, *more)) == 0
    assert {path.name for path in run.iterdir()} >= {
        "train.log", "metrics.jsonl", "config.yaml", "env.json", "final.nemo", "tensorboard", "checkpoints",
    }  # fmt: skip
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["trainer"]["max_steps"] == 2
    assert config["trainer"]["seed"] == 0
    environment = json.loads((run / "env.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__
    assert environment["nest_ssl"] == nest_ssl.__version__
    assert list((run / "tensorboard").glob("events.*"))
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names[-1] == "SSL-NEST-FastConformer.nemo"
    assert any(name.endswith("step=2-last") for name in names)


def test_a_second_configuration_is_laid_over_the_first_and_words_over_both(corpus, tmp_path):
    over = tmp_path / "small.yaml"
    over.write_text(
        "trainer: {num_sanity_val_steps: -1, max_steps: 9}\n"
        "model: {optim: {lr: 0.25}, train_ds: {batch_size: null, batch_duration: 7}}\n"
    )
    run, config = tmp_path / "run", ("--config", str(CONFIG), "--config", str(over))
    assert pretrain.main(arguments(corpus, run, config=config)) == 0
    kept = yaml.safe_load((run / "config.yaml").read_text())
    assert (kept["model"]["optim"]["lr"], kept["model"]["train_ds"]["batch_duration"]) == (0.25, 7)
    assert kept["trainer"]["max_steps"] == 2, "words of the command come last"
    assert kept["model"]["optim"]["betas"] == [0.9, 0.98], "what it does not name stays"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "validation"] == [0, 2]
    over.write_text("modle: {optim: {lr: 0.25}}\n")
    with pytest.raises(ValueError, match=r"small\.yaml: the top-level key 'modle'.*did you mean model"):
        pretrain.main(arguments(corpus, run, config=config))


@pytest.mark.parametrize("weighting", ["frames", "nemo"])
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_both_precisions_and_weightings_train(corpus, tmp_path, precision, weighting):
    options = [f"trainer.precision={precision}", f"trainer.loss_weighting={weighting}"]
    assert pretrain.main(arguments(corpus, tmp_path / "run", *options)) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if row["kind"] == "train"]
    assert len(losses) == 2
    assert all(1 < loss < 6 for loss in losses)  # ln 32 = 3.5 for guesses at random


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.encoder.n_layer=2", r"model\.encoder\.n_layer.*did you mean model\.encoder\.n_layers"),
        ("+trainer.fast_dev_run=true", r"trainer\.fast_dev_run: True is not supported"),
        ("trainer.precision=16", r"trainer\.precision: 16"),
        ("model.optim.name=lion", r"model\.optim\.name: 'lion'"),
        ("model.train_ds.is_tarred=true", r"model\.train_ds\.is_tarred"),
        ("model.encoder.self_attention_model=rope", r"model\.encoder.*self_attention_model.*rope"),
        ("model.encoder._target_=os.system", r"os\.system.*not one of the known names"),
        ("model.train_ds.batch_size=1000", r"model\.train_ds"),
        ("model.train_ds.manifest_filepath=nowhere.jsonl", r"nowhere\.jsonl"),
        ("~model.validation_ds.manifest_filepath", r"model\.validation_ds\.manifest_filepath"),
        ("trainer.accelerator=gpu", r"PyTorch sees no GPU"),
    ],
)
def test_what_cannot_be_done_is_refused_by_key_before_anything_is_written(
    corpus, tmp_path, override, message
):
    if override == "trainer.accelerator=gpu" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises((ValueError, OSError), match=message):
        pretrain.main(arguments(corpus, tmp_path / "run", override))
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_the_stock_yaml_without_manifests_names_the_keys_to_give(tmp_path):
    with pytest.raises(ValueError, match=r"model\.train_ds.*manifest_filepath"):
        pretrain.main(
            ["--config", str(CONFIG), f"exp_manager.explicit_log_dir={tmp_path}", "trainer.accelerator=cpu"]
        )


def test_a_misspelt_section_is_refused(corpus, tmp_path):
    text = CONFIG.read_text().replace("exp_manager:", "exp_manger:")
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"'exp_manger' is not supported; did you mean exp_manager"):
        pretrain.main(["--config", str(tmp_path / "bad.yaml")])


def test_an_empty_manifest_is_named(corpus, tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    override = f"model.train_ds.manifest_filepath={tmp_path}/empty.jsonl"
    with pytest.raises(ValueError, match=r"empty\.jsonl"):
        pretrain.main(arguments(corpus, tmp_path / "run", override))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupted_flac_is_named_with_manifest_and_line(corpus, tmp_path, workers):
    damaged = make_corpus(tmp_path / "damaged corpus", count=12)
    audio = damaged / "2.flac"
    content = bytearray(audio.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    audio.write_bytes(bytes(content))
    options = ["trainer.max_steps=4", f"model.train_ds.num_workers={workers}"]
    with pytest.raises(ValueError, match=r"train\.jsonl:3: .*2\.flac"):
        pretrain.main(arguments(damaged, tmp_path / "run", *options))


def test_another_run_in_the_same_directory_needs_leave_to_go_on(corpus, tmp_path):
    pretrain.main(arguments(corpus, tmp_path / "run"))
    with pytest.raises(
        ValueError, match=r"has checkpoints of a former run; set exp_manager\.resume_if_exists"
    ):
        pretrain.main(arguments(corpus, tmp_path / "run", "exp_manager.resume_if_exists=false"))


def test_more_steps_go_on_and_the_change_is_logged(corpus, tmp_path):
    pretrain.main(arguments(corpus, tmp_path / "run"))
    pretrain.main(arguments(corpus, tmp_path / "run", "trainer.max_steps=3"))
    log = (tmp_path / "run" / "train.log").read_text()
    assert "configuration changed: trainer.max_steps: 2 -> 3" in log
    assert "resumed from" in log
    assert "step 3/3" in log


def test_the_interface_of_the_command_line(capsys):
    for argv in ([], ["--config", "a", "--config-name", "b"]):
        with pytest.raises(SystemExit) as caught:
            pretrain.parse(argv)
        assert caught.value.code == 2
    parsed = pretrain.parse(["trainer.max_steps=2", "--config", "a.yaml", "~model.optim", "+x=1"])
    assert parsed.overrides == ["trainer.max_steps=2", "~model.optim", "+x=1"]
    by_name = pretrain.parse(["--config-path", "conf", "--config-name", "nest.yaml"])
    assert by_name.config == [Path("conf/nest.yaml")]
    assert pretrain.parse(["--config", "a", "--config", "b"]).config == [Path("a"), Path("b")]


@pytest.fixture(scope="module")
def pretrained(corpus, tmp_path_factory) -> Path:
    """The folder of a finished run of two steps."""
    run = tmp_path_factory.mktemp("pretrained") / "run"
    assert pretrain.main(arguments(corpus, run)) == 0
    return run


def parameters_of(run: Path) -> dict[str, torch.Tensor]:
    return dict(EncDecDenoiseMaskedTokenPredModel.restore_from(run / "final.nemo").named_parameters())


@pytest.mark.parametrize("source", ["checkpoints/*-last", "."])
def test_a_run_starts_from_the_weights_of_another(corpus, pretrained, tmp_path, source):
    (path,) = pretrained.glob(source) if source != "." else [pretrained]
    more = [
        f"+init_from_nemo_model={path}",
        "model.optim.lr=0",
        "~model.optim.sched",
        "trainer.seed=5",
        "trainer.max_steps=1",
    ]
    assert pretrain.main(arguments(corpus, tmp_path / "run", *more)) == 0
    before, after = parameters_of(pretrained), parameters_of(tmp_path / "run")
    assert all(torch.equal(before[key], value) for key, value in after.items())
    log = (tmp_path / "run" / "train.log").read_text()
    assert (
        f"init_from_nemo_model {path}: loaded {len(before) + 5} tensors" in log
    )  # 2 of features, 3 of a norm


def test_a_resumed_run_does_not_start_over_from_the_other(corpus, pretrained, tmp_path):
    more = [f"+init_from_nemo_model.nest.path={pretrained}", "+init_from_nemo_model.nest.include=[encoder]"]
    assert pretrain.main(arguments(corpus, tmp_path / "run", *more)) == 0
    more = ["+init_from_nemo_model=gone.nemo", "trainer.max_steps=3"]
    assert pretrain.main(arguments(corpus, tmp_path / "run", *more)) == 0
    log = (tmp_path / "run" / "train.log").read_text()
    assert log.count("init_from_nemo_model.nest ") == 1
    assert "7 excluded (preprocessor, quantizer, mask_processor, decoder)" in log
    assert "step 3/3" in log


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+init_from_nemo_model=nowhere.nemo", r"nowhere\.nemo does not exist"),
        (
            "+init_from_pretrained_model=ssl_en_nest",
            r"not fetched by name.*ssl_en_nest.*init_from_nemo_model",
        ),
        ("+init_from_nemo=x", r"'init_from_nemo' is not supported; did you mean init_from_nemo_model"),
    ],
)
def test_a_start_that_cannot_be_made_is_refused(corpus, tmp_path, override, message):
    with pytest.raises((ValueError, OSError), match=message):
        pretrain.main(arguments(corpus, tmp_path / "run", override))


def test_the_archive_is_written_once_at_the_end(corpus, tmp_path, monkeypatch):
    written = []
    save_to = EncDecDenoiseMaskedTokenPredModel.save_to
    monkeypatch.setattr(
        EncDecDenoiseMaskedTokenPredModel,
        "save_to",
        lambda model, path: (written.append(Path(path)), save_to(model, path))[1],
    )
    options = ["exp_manager.checkpoint_callback_params.always_save_nemo=true", "trainer.max_steps=1"]
    assert pretrain.main(arguments(corpus, tmp_path / "run", *options)) == 0
    nemo = tmp_path / "run" / "checkpoints" / "SSL-NEST-FastConformer.nemo"
    assert written == [nemo]
    assert nemo.read_bytes() == (tmp_path / "run" / "final.nemo").read_bytes()
