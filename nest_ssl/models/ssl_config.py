"""The `model:` section of a masked-token model: resolved, and checked for contradictions."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nest_ssl.config import register_resolvers

log = logging.getLogger(__name__)

SECTIONS = ("preprocessor", "spec_augment", "masking", "quantizer", "encoder", "decoder", "loss")
OTHER_KEYS = (
    *("sample_rate", "num_classes", "num_books", "code_dim", "squeeze_single", "mask_position"),
    *("train_ds", "validation_ds", "test_ds", "optim", "optim_param_groups", "target", "nemo_version"),
)


def model_section(cfg: DictConfig | Mapping[str, Any]) -> DictConfig:
    """A copy of the section with its interpolations resolved, cut loose from the configuration around it.

    Values that are still to be given (`???`, the manifests of datasets) stay so.
    """
    register_resolvers()
    if not isinstance(cfg, DictConfig):
        cfg = OmegaConf.create(dict(cfg))
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
    except OmegaConfBaseException as error:
        raise ValueError(f"model: {str(error).splitlines()[0]}") from error
    section = OmegaConf.create(plain)
    if not isinstance(section, DictConfig):
        raise ValueError(f"model: a mapping of keys is needed, not {type(cfg).__name__}")
    return section


def check_masked_token_config(cfg: DictConfig) -> None:
    """Raise ValueError, naming the key, if a section is missing or two of them contradict each other.

    Unknown keys of the model section itself are only logged: archives of other versions carry some.
    """
    for section in SECTIONS:
        if section not in cfg or not isinstance(cfg[section], DictConfig):
            raise ValueError(f"model.{section} is missing; the sections needed are {', '.join(SECTIONS)}")
    unknown = [key for key in cfg if key not in (*SECTIONS, *OTHER_KEYS)]
    if unknown:
        log.warning("model keys without effect: %s", ", ".join(map(str, unknown)))
    position = cfg.get("mask_position", "pre_conv")
    if position != "pre_conv":
        raise ValueError(f"model.mask_position: {position!r} is not supported yet; use pre_conv")
    _check_widths(cfg)
    _check_frame_rates(cfg)


def _check_widths(cfg: DictConfig) -> None:
    features = cfg.preprocessor.get("features", 64) * cfg.preprocessor.get("frame_splicing", 1)
    for key in ("masking", "quantizer", "encoder"):
        _must_equal(f"{key}.feat_in", cfg[key].get("feat_in"), "preprocessor.features", features)
    _must_equal("decoder.feat_in", cfg.decoder.get("feat_in"), "encoder.d_model", cfg.encoder.get("d_model"))
    classes = cfg.quantizer.get("num_classes")
    _must_equal("decoder.num_classes", cfg.decoder.get("num_classes"), "quantizer.num_classes", classes)
    books = cfg.quantizer.get("num_books", 1)
    _must_equal("decoder.num_decoders", cfg.decoder.get("num_decoders", 1), "quantizer.num_books", books)
    _must_equal("loss.num_decoders", cfg.loss.get("num_decoders", 1), "quantizer.num_books", books)
    squeezed = cfg.quantizer.get("squeeze_single", False)
    for key in ("decoder", "loss"):
        value = cfg[key].get("squeeze_single", False)
        _must_equal(f"{key}.squeeze_single", value, "quantizer.squeeze_single", squeezed)


def _check_frame_rates(cfg: DictConfig) -> None:
    factor = cfg.encoder.get("subsampling_factor", 4)
    for key in ("quantizer", "loss"):
        value = cfg[key].get("combine_time_steps", 1)
        _must_equal(f"{key}.combine_time_steps", value, "encoder.subsampling_factor", factor)
    pad_to = cfg.preprocessor.get("pad_to", 16)
    if not isinstance(pad_to, int) or pad_to <= 0 or pad_to % factor:
        raise ValueError(
            f"model.preprocessor.pad_to: {pad_to} must be a multiple of encoder.subsampling_factor {factor}, "
            "or the last frames would have no token"
        )


def _must_equal(key: str, value: Any, other_key: str, other: Any) -> None:
    if value != other:
        raise ValueError(f"model.{key}: {value} must equal model.{other_key}: {other}")
