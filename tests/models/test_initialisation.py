"""Starting from other models' weights: what is taken, what is told, what is refused."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf

from nest_ssl.checkpoints.lightning_ckpt import write_lightning
from nest_ssl.checkpoints.safetensors_dir import write_safetensors_dir
from nest_ssl.models.initialisation import check_init_keys, initialise, initialise_from_config
from tests.models.small import small_model


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A model and the folder of its checkpoints: model.nemo, model.ckpt, export/."""
    folder = tmp_path_factory.mktemp("source")
    model = small_model(seed=1)
    model.save_to(folder / "model.nemo")
    write_lightning(folder / "model.ckpt", {}, model.state_dict())
    write_safetensors_dir(folder / "export", {"sample_rate": 16000}, model.state_dict())
    return model.state_dict(), folder


def same(state, other):
    return {key for key, value in state.items() if torch.equal(value, other[key])}


@pytest.mark.parametrize("name", ["model.nemo", "model.ckpt", "export", "export/model.safetensors"])
def test_every_form_of_a_checkpoint_is_taken(source, name):
    state, folder = source
    model = small_model(seed=2)
    account = initialise(model, folder / name)
    assert same(model.state_dict(), state) == set(state)
    assert account.values == sum(value.numel() for value in state.values())


def test_include_and_exclude_are_parts_of_names(source):
    state, folder = source
    model = small_model(seed=2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    account = initialise(model, folder / "model.nemo", include=["encoder."], exclude=["layers.1", "conv.0"])
    chosen = {key for key in state if "encoder." in key and "layers.1" not in key and "conv.0" not in key}
    assert set(account.loaded) == chosen
    assert chosen <= same(model.state_dict(), state)
    assert set(state) - chosen <= same(model.state_dict(), before)
    assert set(account.excluded) == set(account.untouched) == set(state) - chosen
    assert f"loaded {len(chosen)} tensors" in account.told()
    assert f"{len(state) - len(chosen)} excluded (preprocessor, encoder, quantizer" in account.told()


def larger():
    return small_model("model.encoder.n_layers=3", seed=2)


def test_what_is_missing_is_an_error_unless_told(source):
    state, folder = source
    model = larger()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(
        ValueError, match=r"model\.nemo does not fit.* missing: encoder\.layers\.2.*strict: false"
    ):
        initialise(model, folder / "model.nemo")
    assert same(model.state_dict(), before) == set(before)
    account = initialise(model, folder / "model.nemo", strict=False)
    assert set(state) <= same(model.state_dict(), state | {k: before[k] for k in account.missing})
    assert all(key.startswith("encoder.layers.2") for key in account.missing)


def test_what_is_left_over_is_an_error_unless_told(source):
    model = small_model("model.encoder.n_layers=1", seed=2)
    with pytest.raises(ValueError, match=r" unexpected: encoder\.layers\.1"):
        initialise(model, source[1] / "model.nemo")
    assert initialise(model, source[1] / "model.nemo", strict=False).unexpected
    assert not initialise(model, source[1] / "model.nemo", exclude=["layers.1"]).unexpected


def test_another_shape_is_an_error_always(source):
    model = small_model("model.num_classes=16", seed=2)
    with pytest.raises(ValueError, match=r"of another shape: .*codebooks.*name them in exclude"):
        initialise(model, source[1] / "model.nemo", strict=False)
    initialise(model, source[1] / "model.nemo", exclude=["codebooks", "decoder"])


@pytest.mark.parametrize("strict", [True, False])
def test_loading_nothing_is_an_error(source, strict):
    with pytest.raises(ValueError, match=r"nothing to load.*\['encodr'\]"):
        initialise(small_model(), source[1] / "model.nemo", include=["encodr"], strict=strict)


def test_the_encoder_of_a_post_conv_model_is_taken_out_of_its_wrapper(goldens):
    from nest_ssl.checkpoints.source import read_source

    path = goldens / "nemo" / "tiny_post_conv.nemo"
    state = read_source(path).state
    section = OmegaConf.create(read_source(goldens / "nemo" / "tiny_denoise.nemo").config)
    model = type(small_model())(section)
    initialise(model, path, include=["preprocessor", "encoder"])
    for key, tensor in model.encoder.state_dict().items():
        wrapped = key.replace("pre_encode.", "pre_encode.pre_encode.")
        assert torch.equal(tensor, state[f"encoder.{wrapped}"]), key


def test_a_configuration_names_one_file_or_several(source):
    state, folder = source
    model = small_model(seed=2)
    (line,) = initialise_from_config(model, {"init_from_ptl_ckpt": str(folder / "model.ckpt")})
    assert line.startswith(f"init_from_ptl_ckpt {folder}/model.ckpt: loaded {len(state)} tensors")
    model = small_model(seed=2)
    config = OmegaConf.create(
        {
            "init_from_nemo_model": {
                "a": {"path": str(folder / "model.nemo"), "include": ["encoder."]},
                "b": {"path": str(folder / "export"), "exclude": ["encoder."], "strict": False},
            }
        }
    )
    lines = initialise_from_config(model, config)
    assert [line.split()[0] for line in lines] == ["init_from_nemo_model.a", "init_from_nemo_model.b"]
    assert same(model.state_dict(), state) == set(state)


def test_without_a_key_nothing_is_done():
    assert initialise_from_config(small_model(), {"init_from_nemo_model": None, "model": {}}) == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"init_from_nemo_model": "a", "init_from_ptl_ckpt": "b"}, "only one of them"),
        ({"init_from_pretrained_model": {"m": {"name": "ssl_large"}}}, r"by name here.*ssl_large.*path"),
        ({"init_from_nemo_model": {"path": "x.nemo"}}, r"init_from_nemo_model\.path: needs a path"),
        ({"init_from_nemo_model": {"m": {"path": "x", "includes": []}}}, r"\.m\.includes.*mean include"),
        ({"init_from_nemo_model": {"m": {"path": "x", "include": "enc"}}}, r"\.m\.include: 'enc' is not"),
        ({"init_from_nemo_model": {"m": {"path": "x", "strict": "no"}}}, r"\.m\.strict: 'no'"),
        ({"init_from_nemo_model": ["x"]}, "a path or"),
    ],
)  # fmt: skip
def test_keys_that_cannot_be_followed_are_refused_before_any_file_is_read(config, message):
    with pytest.raises(ValueError, match=message):
        check_init_keys(OmegaConf.create(config))
