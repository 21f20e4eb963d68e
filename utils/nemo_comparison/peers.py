"""NeMo's names, its version, and pairs of models of one configuration."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from nest_ssl.config import load_config, resolved
from nest_ssl.models.ssl_models import EncDecDenoiseMaskedTokenPredModel as OurModel

CONFIG = Path(__file__).resolve().parents[2] / "conf" / "nest_fast-conformer.yaml"
SMALL = (
    *("model.num_classes=256", "model.encoder.n_layers=2", "model.encoder.d_model=64"),
    *("model.encoder.n_heads=4", "model.encoder.subsampling_conv_channels=32"),
    *("model.optim.lr=0.05", "model.optim.sched.warmup_steps=4"),  # a peak of 3e-3, reached within the steps
)
NO_DROPOUT = tuple(f"model.encoder.{key}=0.0" for key in ("dropout", "dropout_pre_encoder", "dropout_att"))


class NeMoMissing(Exception):
    """NeMo cannot be imported by this Python."""


class Peers:
    """NeMo's names and the settings of the comparison."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        # Imported here: that takes many seconds, and only what is asked for needs it.
        try:
            from nemo.collections.asr.data import ssl_dataset as nemo_dataset
            from nemo.collections.asr.models.ssl_models import EncDecDenoiseMaskedTokenPredModel
            from nemo.collections.asr.modules import ssl_modules
            from nemo.utils import logging as nemo_logging
        except ImportError as error:
            raise NeMoMissing(
                f"NeMo cannot be imported by {sys.executable} ({error}); make an environment of its own, "
                "python3.11 -m venv DIR && DIR/bin/pip install 'nemo_toolkit[asr]', and run this script with "
                "DIR/bin/python"
            ) from error
        nemo_logging.setLevel(nemo_logging.CRITICAL)
        self.model = EncDecDenoiseMaskedTokenPredModel
        self.modules = ssl_modules
        self.dataset = nemo_dataset
        self.path, self.overrides = arguments.config, arguments.overrides
        self.seed, self.steps, self.pairs = arguments.seed, arguments.steps, arguments.pairs
        self.frames = arguments.frames
        self.version = importlib.metadata.version("nemo_toolkit")
        self.sampler = "nemo2" if int(self.version.split(".")[0]) < 3 else "nemo3"

    def config(self, *extra: str) -> DictConfig:
        """The resolved `model:` section without datasets; `extra` overrides are applied last."""
        overrides = [*SMALL, *self.overrides, *extra, "~model.train_ds", "~model.validation_ds"]
        section = resolved(load_config(self.path, overrides).model, "model")
        return OmegaConf.create(section)

    def pair(self, *extra: str) -> tuple[torch.nn.Module, torch.nn.Module]:
        """Our model and NeMo's with the initial weights of the same seed."""
        models = []
        for cls in (OurModel, self.model):
            torch.manual_seed(self.seed)
            models.append(cls(cfg=self.config(*extra)))
        ours, nemo = models
        ours.mask_processor.sampler = self.sampler  # type: ignore[union-attr]
        return ours, nemo


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What is printed and logged inside is of no interest."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
