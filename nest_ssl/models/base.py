"""What all self-supervised models have in common: a configuration, parts built from it, an archive."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from nest_ssl.checkpoints.nemo_archive import read_nemo, write_nemo
from nest_ssl.checkpoints.state import load_state, portable_state
from nest_ssl.config import build
from nest_ssl.losses.targets import TARGETS as LOSSES
from nest_ssl.models.parameter_groups import parameter_groups
from nest_ssl.models.parity import Parity
from nest_ssl.models.registry import CLASSES, model_class, names_of
from nest_ssl.models.ssl_config import given_section, marked_section, model_section
from nest_ssl.modules.masked_batch_norm import use_valid_frames
from nest_ssl.modules.targets import NOT_HERE
from nest_ssl.modules.targets import TARGETS as MODULES

Loss = tuple[Tensor, Tensor, dict[str, Tensor]]


class SelfSupervisedModel(nn.Module):
    """A model built from the `model:` section `cfg` (DictConfig or mapping), kept in `self.cfg` as given.

    Datasets are not built here, so their `???` may stay.
    """

    preprocessor: Any
    encoder: Any

    def __init__(self, cfg: DictConfig | Mapping[str, Any]) -> None:
        super().__init__()
        self.cfg = model_section(cfg)
        self.parity = Parity.from_config(self.cfg.get("parity"))

    # ------------------------------------------------------------------ training

    def training_loss(self, batch: Any) -> Loss:
        raise NotImplementedError

    @torch.no_grad()
    def validation_loss(self, batch: Any) -> Loss:
        """As `training_loss`, without gradient; masks are drawn at random here too, as in NeMo."""
        return self.training_loss(batch)

    def parameter_groups(self, optim_cfg: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Groups for the optimiser: all parameters, split as `model.optim_param_groups` says."""
        return parameter_groups(self, self.cfg.get("optim_param_groups"))

    # ------------------------------------------------------------------ archives

    def save_to(self, save_path: str | os.PathLike) -> None:
        """Write a .nemo archive, which NeMo and `restore_from` read."""
        config = OmegaConf.to_container(self.cfg, resolve=False)
        assert isinstance(config, dict)
        known = next(
            cls for cls in type(self).__mro__ if cls.__name__ in CLASSES
        )  # for a user's subclass too
        section = marked_section({str(key): value for key, value in config.items()})
        write_nemo(save_path, section, portable_state(self), target=names_of(known.__name__)[0])

    @classmethod
    def restore_from(
        cls, restore_path: str | os.PathLike, map_location: Any = "cpu", strict: bool = True
    ) -> Any:
        """The model of a .nemo archive, whose `target` decides the class; in training mode.

        `strict` false lets keys be missing or left over (counted in the log), never shapes differ.
        Raises ValueError for a damaged archive or another class of model.
        """
        config, state = read_nemo(restore_path, map_location)
        target = str(config.get("target"))
        found = model_class(target)
        if found is None or not issubclass(found, cls):
            raise ValueError(f"{restore_path}: target {target!r} is not supported as a {cls.__name__}")
        model = found(given_section(config))
        every_key = () if strict else ("",)
        load_state(model, state, str(restore_path), allowed_missing=every_key, allowed_unexpected=every_key)
        return model.to(map_location) if isinstance(map_location, str | torch.device) else model

    # ------------------------------------------------------------------ parts

    def _built(self, section: Mapping[str, Any], name: str) -> Any:
        """What a section describes; `name` is its dotted key within the model section."""
        name = f"model.{name}"
        kind = name.rpartition(".")[2]
        target = section.get("_target_")
        why = NOT_HERE.get(str(target).rpartition(".")[2])
        if why is not None:
            raise ValueError(f"{name}._target_: {target}: {why}")
        try:
            part = build(section, {**MODULES, **LOSSES}, name, **self.parity.of_section(kind))
        except ValueError as error:
            message = str(error)  # a module knows the option that is wrong, not the section that it stands in
            raise ValueError(message if message.startswith(name) else f"{name}.{message}") from error
        if kind == "encoder" and self.parity.batch_norm == "valid":
            use_valid_frames(part)
        return part


def check_form(
    name: str,
    signal: Tensor | None,
    length: Tensor | None,
    processed: Tensor | None,
    processed_length: Tensor | None,
) -> None:
    """Raise ValueError unless either the waveform `name` or its features are given, with a length."""
    has_signal = signal is not None and length is not None
    has_processed = processed is not None and processed_length is not None
    if has_signal == has_processed:
        raise ValueError(
            f"give either {name} and {name}_length, or processed_{name.removeprefix('input_')} and its length"
        )
