"""FunASR's model directories: every variant of the layout is read, every silent failure has its message."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from nest_ssl.checkpoints.funasr_dir import is_model_dir, model_files, read_model_dir
from tests.fun_asr_tiny import CONFIGURATION, make_model_dir, model_config


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return make_model_dir(tmp_path / "base")


def rewrite(directory: Path, **keys: Any) -> None:
    """Change keys of config.yaml."""
    path = directory / "config.yaml"
    config = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**config, **keys}, sort_keys=False))


def test_a_directory_is_read_with_every_path_absolute(directory):
    found = read_model_dir(directory)
    assert found.weights_path == directory / "model.pt"
    assert found.files["llm"] == found.files["tokenizer"] == directory / "Qwen3-0.6B"
    assert found.files["ctc_vocab"] == directory / "multilingual.tiktoken"
    assert found.config["init_param"] == str(directory / "model.pt")
    assert found.config["tokenizer_conf"]["init_param_path"] == str(directory / "Qwen3-0.6B")
    assert found.config["dataset_conf"]["audio_adaptor_downsample_rate"] == 1  # an interpolation in the file
    assert found.notes == ()


def test_without_configuration_json_the_files_are_found_beside(directory):
    (directory / "configuration.json").unlink()
    found = read_model_dir(directory)
    assert found.weights_path == directory / "model.pt"
    assert found.files["llm"] == directory / "Qwen3-0.6B"
    assert found.files["ctc_vocab"] == directory / "multilingual.tiktoken"


def test_overrides_win_over_file_path_metas_which_win_over_config_yaml(directory, tmp_path):
    other = shutil.copytree(directory / "Qwen3-0.6B", tmp_path / "other")
    rewrite(directory, enable_tf32=False, debug=True)
    words = [f"++llm_conf.init_param_path={other}", "++llm_conf.use_lora=true", "++debug=false"]
    found = read_model_dir(directory, words)
    assert found.files["llm"] == other
    assert found.config["llm_conf"]["use_lora"] is True
    assert (found.config["debug"], found.config["enable_tf32"]) == (False, False)
    nested = read_model_dir(directory, {"llm_conf": {"use_lora": True}}).config["llm_conf"]
    assert (nested["use_lora"], nested["hub"]) == (True, "hf")  # a nested override keeps its neighbours


def test_a_relative_directory_and_init_param(directory, monkeypatch):
    monkeypatch.chdir(directory.parent)
    shutil.copy(directory / "model.pt", directory / "model.pt.ep3")
    for init_param in ("base/model.pt.ep3", "model.pt.ep3"):  # from here, or from the directory
        assert read_model_dir("base", init_param=init_param).weights_path.samefile(directory / "model.pt.ep3")
    assert read_model_dir("base", ["++init_param=model.pt.ep3"]).weights_path.name == "model.pt.ep3"


# ---------------------------------------------------------------------- the four ways to the wrong weights


def test_no_weights_and_no_configuration_json(tmp_path):
    directory = make_model_dir(tmp_path / "base", configuration=False)
    (directory / "model.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.yaml but no weights.*Copy model\.pt there"):
        read_model_dir(directory)


@pytest.mark.parametrize("init_param", ["FunAudioLLM/Fun-ASR-Nano-2512", "exp/nowhere/model.pt"])
def test_an_init_param_that_does_not_exist_stops(directory, init_param):
    with pytest.raises(FileNotFoundError, match="FunASR would start from random weights") as raised:
        read_model_dir(directory, init_param=init_param)
    assert ("a name on a hub" in str(raised.value)) == (init_param.startswith("FunAudio"))


def test_a_wrong_file_name_gets_the_names_that_are_there(directory):
    with pytest.raises(FileNotFoundError, match=r"do not exist; .*base has model\.pt"):
        read_model_dir(directory, init_param=directory / "model.pt.best")


def test_configuration_json_without_its_weights(directory):
    (directory / "model.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"names the weights 'model\.pt'.*random weights"):
        read_model_dir(directory)


def test_an_output_directory_that_points_at_the_base_asks_which_is_meant(directory, tmp_path):
    trained = make_model_dir(tmp_path / "exp", configuration=False, seed=1)
    rewrite(trained, init_param=str(directory / "model.pt"))
    with pytest.raises(ValueError, match="gives the base model, not the trained one") as raised:
        read_model_dir(trained)
    assert f"init_param={trained / 'model.pt'}" in str(raised.value)
    assert read_model_dir(trained, init_param=trained / "model.pt").weights_path == trained / "model.pt"
    (trained / "model.pt").rename(trained / "model.pt.ep2")
    with pytest.raises(ValueError, match=r"no model\.pt but model\.pt\.ep2.*say which are meant"):
        read_model_dir(trained)


@pytest.mark.parametrize("stored", [None, "model.pt", "./model.pt", "FunAudioLLM/Fun-ASR-Nano-2512"])
def test_what_config_yaml_may_say_of_its_own_weights(tmp_path, stored):
    directory = make_model_dir(tmp_path / "base", configuration=False)
    rewrite(directory, init_param=stored)
    found = read_model_dir(directory)
    assert found.weights_path == directory / "model.pt"
    told = any(f"init_param {stored} does not exist" in note for note in found.notes)
    assert told == (stored is not None and "Fun" in stored)


def test_an_absolute_init_param_of_a_directory_without_weights_is_taken(directory, tmp_path):
    settings = make_model_dir(tmp_path / "settings", configuration=False)
    (settings / "model.pt").unlink()
    rewrite(settings, init_param=str(directory / "model.pt"))
    found = read_model_dir(settings)
    assert found.weights_path == directory / "model.pt"
    assert "the weights are" in found.notes[0]


@pytest.mark.parametrize("inner", ["", "checkpoints/step-4"])
def test_the_folder_of_a_run_is_no_model_directory(directory, tmp_path, inner):
    """Its config.yaml names the weights that the training began with: they would pass for the result."""
    run = tmp_path / "run"
    folder = make_model_dir(run / inner, configuration=False)
    (folder / "model.pt").unlink()
    base = {"stage": "encoder", "base": {"directory": str(directory), "stage": None}}
    rewrite(folder, init_param=str(directory / "model.pt"), nest_ssl=base)
    with pytest.raises(ValueError, match="is written when the run is complete"):
        read_model_dir(folder)
    make_model_dir(run / "model")
    with pytest.raises(ValueError, match=f"of a run.*give {run / 'model'}"):
        read_model_dir(folder)
    assert read_model_dir(folder, init_param=directory / "model.pt").path == folder


# ---------------------------------------------------------------------- other files


def test_a_missing_language_model_folder(directory):
    shutil.rmtree(directory / "Qwen3-0.6B")
    with pytest.raises(FileNotFoundError, match=r"init_param_path is Qwen3-0\.6B.*needs no weights"):
        read_model_dir(directory)


def test_a_folder_without_config_json(directory):
    (directory / "Qwen3-0.6B" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no config\.json \(tokenizer\.json"):
        read_model_dir(directory)


def test_a_path_of_another_machine_falls_back_to_the_same_name_here_and_says_so(tmp_path):
    directory = make_model_dir(tmp_path / "base", configuration=False)
    rewrite(directory, llm_conf={"init_param_path": "/elsewhere/Qwen3-0.6B"})
    found = read_model_dir(directory)
    assert found.files["llm"] == directory / "Qwen3-0.6B"
    assert "/elsewhere/Qwen3-0.6B does not exist" in found.notes[0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"AA 0", "multilingual.tiktoken:1: no unit of a tokenizer: .*padding"),
        (b"AA==", "multilingual.tiktoken:1: .*not `BASE64 RANK`"),
        (b"AA== zero", "multilingual.tiktoken:1: .*invalid literal"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git-lfs pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"", "is empty"),
    ],
)
def test_a_bad_tiktoken_file(directory, line, message):
    (directory / "multilingual.tiktoken").write_bytes(line)
    with pytest.raises(ValueError, match=message):
        read_model_dir(directory)


def test_am_mvn_beside_is_taken_as_funasr_does(tmp_path):
    directory = make_model_dir(tmp_path / "base", configuration=False)
    (directory / "am.mvn").write_text("<Nnet>")
    assert read_model_dir(directory).config["frontend_conf"]["cmvn_file"] == str(directory / "am.mvn")
    (directory / "configuration.json").write_text(json.dumps(CONFIGURATION))  # which does not name it
    assert read_model_dir(directory).config["frontend_conf"]["cmvn_file"] is None


# ---------------------------------------------------------------------- what is no model directory


def test_what_is_no_model_directory_is_named(directory, tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist; nothing is downloaded"):
        read_model_dir("FunAudioLLM/Fun-ASR-Nano-2512")
    with pytest.raises(FileNotFoundError, match=r"has no config\.yaml; it has base.*base is meant"):
        read_model_dir(tmp_path)
    with pytest.raises(ValueError, match="is a file; a model is given by the directory"):
        read_model_dir(directory / "model.pt")
    rewrite(directory, model="SenseVoiceSmall")
    with pytest.raises(ValueError, match="model is 'SenseVoiceSmall'"):
        read_model_dir(directory)
    assert not is_model_dir(directory)
    assert not is_model_dir(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "not readable as JSON"), ('{"file_path_metas": []}', "file_path_metas is list"), ("[]", "JSON")],
)
def test_a_damaged_configuration_json(directory, content, message):
    (directory / "configuration.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_model_dir(directory)


def test_an_interpolation_that_leads_nowhere_is_named(directory):
    rewrite(directory, output_dir="${nothing.here}")
    with pytest.raises(ValueError, match=r"config\.yaml.*nothing\.here"):
        read_model_dir(directory)


def test_the_files_of_a_configuration_in_memory(directory):
    files = model_files(model_config(), directory)
    assert files["llm"] == directory / "Qwen3-0.6B"
    assert files["ctc_vocab"] == directory / "multilingual.tiktoken"
