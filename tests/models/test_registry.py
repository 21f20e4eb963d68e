"""Which class a target or a section means."""

import pytest
import torch

from nest_ssl.models.registry import CLASSES, model_class, model_class_of, names_of
from nest_ssl.models.ssl_models import (
    EncDecDenoiseMaskedTokenPredModel,
    EncDecMaskedTokenPredModel,
    SpeechEncDecSelfSupervisedModel,
)
from tests.models.small import small_config, small_model


@pytest.mark.parametrize("class_name", CLASSES)
def test_every_name_of_a_class_gives_it(class_name):
    for name in names_of(class_name):
        assert model_class(name).__name__ == class_name
    assert names_of(class_name)[0].startswith("nemo.collections.asr.models.")


def test_a_section_without_target_is_nest():
    assert model_class_of(small_config()) is EncDecDenoiseMaskedTokenPredModel


def test_target_decides():
    assert model_class_of({"target": "EncDecMaskedTokenPredModel"}) is EncDecMaskedTokenPredModel
    with pytest.raises(ValueError, match=r"model\.target: 'os\.system' is not supported"):
        model_class_of({"target": "os.system"})
    assert model_class("os.system") is None


def test_an_encoder_without_losses_is_restored(tmp_path):
    config = small_model().cfg
    section = {key: config[key] for key in ("preprocessor", "encoder", "spec_augment")}
    torch.manual_seed(0)
    model = SpeechEncDecSelfSupervisedModel({**section, "loss_list": {}})
    model.save_to(tmp_path / "encoder.nemo")
    restored = SpeechEncDecSelfSupervisedModel.restore_from(tmp_path / "encoder.nemo")
    assert all(key.startswith(("preprocessor.", "encoder.")) for key in restored.state_dict())


def test_an_archive_of_another_class_is_refused(tmp_path):
    model = EncDecDenoiseMaskedTokenPredModel(small_config())
    model.save_to(tmp_path / "nest.nemo")
    assert type(EncDecMaskedTokenPredModel.restore_from(tmp_path / "nest.nemo")) is type(model)
    with pytest.raises(ValueError, match="not supported as a SpeechEncDecSelfSupervisedModel"):
        SpeechEncDecSelfSupervisedModel.restore_from(tmp_path / "nest.nemo")
