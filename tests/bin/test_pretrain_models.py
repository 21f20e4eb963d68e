"""The pretrain verb with the other model classes."""

import pytest
from omegaconf import OmegaConf

from nest_ssl.bin import pretrain
from nest_ssl.models.ssl_models import EncDecMaskedTokenPredModel, SpeechEncDecSelfSupervisedModel
from tests.golden.cases import SAMPLE
from tests.resume.runs import CHECKOUT, TINY, make_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("pretrain") / "corpus", count=12)


def run(corpus, folder, *words):
    files = {"train_ds": "train", "validation_ds": "dev"}
    data = [f"model.{key}.manifest_filepath={corpus}/{name}.jsonl" for key, name in files.items()]
    ends = [f"exp_manager.explicit_log_dir={folder}", "model.train_ds.num_workers=0", "trainer.max_steps=2"]
    assert pretrain.main([*words, *data, *ends]) == 0
    return folder / "final.nemo"


def test_the_target_says_the_class(corpus, tmp_path):
    config = ("--config", str(CHECKOUT / "conf" / "nest_fast-conformer.yaml"))
    more = (
        "+model.target=EncDecMaskedTokenPredModel",
        "model.mask_position=post_conv",
        "+model.parity=fixed",
    )
    final = run(corpus, tmp_path / "run", *config, *TINY, *more)
    assert type(EncDecMaskedTokenPredModel.restore_from(final)) is EncDecMaskedTokenPredModel


def test_a_contrastive_configuration_is_trained(corpus, tmp_path):
    model = OmegaConf.load(SAMPLE / "ssl_contrastive_gumbel_mlm" / "config.yaml")
    model.spec_augment.patch_size = 16
    model.loss_list.mlm.start_step = 1
    data = {"manifest_filepath": "???", "sample_rate": 16000, "batch_size": 2, "num_workers": 0}
    model.train_ds, model.validation_ds = data, data
    trainer = {"devices": 1, "accelerator": "cpu", "max_steps": 2, "precision": 32, "log_every_n_steps": 1}
    config = {"name": "contrastive", "model": model, "trainer": trainer, "exp_manager": {}}
    OmegaConf.save(OmegaConf.create(config), tmp_path / "contrastive.yaml")
    final = run(corpus, tmp_path / "run", "--config", str(tmp_path / "contrastive.yaml"))
    assert type(SpeechEncDecSelfSupervisedModel.restore_from(final)) is SpeechEncDecSelfSupervisedModel
    lines = [line for line in (tmp_path / "run" / "train.log").read_text().splitlines() if " loss " in line]
    assert ["mlm_loss nan" in line for line in lines] == [True, False]
    assert all("contrastive_loss" in line for line in lines)
