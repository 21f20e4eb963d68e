"""The `model:` section of a self-supervised model: resolved, and checked for contradictions."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nest_ssl.config import register_resolvers
from nest_ssl.models.parity import Parity

log = logging.getLogger(__name__)

SECTIONS = ("preprocessor", "spec_augment", "masking", "quantizer", "encoder", "decoder", "loss")
CONTRASTIVE_SECTIONS = ("preprocessor", "spec_augment", "encoder")
CONTRASTIVE_KEYS = (
    *("loss_list", "decoder", "loss", "decoder_out"),
    *("dropout_features", "dropout_features_q", "feature_penalty"),
)
OTHER_KEYS = (
    *("sample_rate", "num_classes", "num_books", "code_dim", "squeeze_single", "mask_position"),
    *("train_ds", "validation_ds", "test_ds", "optim", "optim_param_groups", "target", "nemo_version"),
    *("parity", "post_conv_given"),
)
# Beside an archive's section that looks like one that NeMo edited: the block size that was given.
GIVEN = "post_conv_given"


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


def masked_token_config(cfg: DictConfig) -> DictConfig:
    """The section as the modules are built from: with `mask_position: post_conv` adapted to masking there.

    As in NeMo, quantizer and masking then get the encoder's frames of width d_model, and blocks are counted
    in them (block_size // subsampling_factor); unlike there, the quantizer never stacks such frames
    (combine_time_steps 1), and `cfg` itself is not changed. Raises ValueError as `check_masked_token_config`.
    """
    check_masked_token_config(cfg)
    if cfg.get("mask_position", "pre_conv") == "pre_conv":
        return cfg
    cfg = cfg.copy()
    factor = cfg.encoder.get("subsampling_factor", 4)
    block = cfg.masking.get("block_size", 48) // factor
    if block < 1:
        raise ValueError(
            f"model.masking.block_size: {cfg.masking.block_size} frames are less than one encoder frame of "
            f"{factor}; with mask_position post_conv it still counts the frames before the encoder"
        )
    cfg.masking.update(feat_in=cfg.encoder.d_model, block_size=block)
    cfg.quantizer.update(feat_in=cfg.encoder.d_model, combine_time_steps=1)
    cfg.loss.combine_time_steps = 1
    return cfg


def given_section(config: Mapping[str, Any]) -> dict[str, Any]:
    """The `model:` section of an archive as it was given to the model that was saved.

    NeMo edits the section of a post_conv model while it builds it, and saves the edited one: widths are
    d_model, loss.combine_time_steps is 1, masking.block_size is divided - and would be divided again by every
    restore.  A section with all three marks of that is put back.  One that looks so but was given so is
    told by `post_conv_given`, which `marked_section` writes beside it.
    """
    plain = {str(key): value for key, value in config.items()}
    block = plain.pop(GIVEN, {}).get("block_size")
    if not _looks_edited(plain) or block == plain["masking"].get("block_size"):
        return plain
    section = copy.deepcopy(plain)
    factor = section["encoder"].get("subsampling_factor", 4)
    features = section["encoder"]["feat_in"]
    section["masking"].update(feat_in=features, block_size=block or section["masking"]["block_size"] * factor)
    section["quantizer"]["feat_in"] = features
    section["loss"]["combine_time_steps"] = factor
    return section


def marked_section(section: Mapping[str, Any]) -> dict[str, Any]:
    """The section to save: with a mark where `given_section` would take it for one that NeMo edited."""
    if not _looks_edited(section):
        return dict(section)
    return {**section, GIVEN: {"block_size": section["masking"].get("block_size", 48)}}


def _looks_edited(section: Mapping[str, Any]) -> bool:
    if section.get("mask_position") != "post_conv" or "masking" not in section:
        return False
    width = section["encoder"].get("d_model")
    widths = [section[key].get("feat_in") for key in ("masking", "quantizer")]
    return widths == [width, width] and section["loss"].get("combine_time_steps", 1) == 1


def check_masked_token_config(cfg: DictConfig) -> None:
    """Raise ValueError, naming the key, if a section is missing or two of them contradict each other.

    Unknown keys of the model section itself are only logged: archives of other versions carry some.
    """
    for section in SECTIONS:
        if section not in cfg or not isinstance(cfg[section], DictConfig):
            raise ValueError(f"model.{section} is missing; the sections needed are {', '.join(SECTIONS)}")
        for key in Parity().of_section(section):
            if key in cfg[section]:
                raise ValueError(f"model.{section}.{key} is no key of NeMo's; model.parity decides on it")
    unknown = [key for key in cfg if key not in (*SECTIONS, *OTHER_KEYS)]
    if unknown:
        log.warning("model keys without effect: %s", ", ".join(map(str, unknown)))
    if any(cfg.spec_augment.get(key, 0) for key in ("freq_masks", "time_masks", "rect_masks")):
        log.warning("model.spec_augment has no effect in masked-token models, as in NeMo; masking has")
    position = cfg.get("mask_position", "pre_conv")
    if position not in ("pre_conv", "post_conv"):
        raise ValueError(f"model.mask_position: {position!r} is not pre_conv or post_conv")
    _check_widths(cfg, position)
    _check_frame_rates(cfg, position)


def check_contrastive_config(cfg: DictConfig) -> None:
    """Raise ValueError, naming the key, if the section of a contrastive model lacks a part.

    Unknown keys of the model section itself are only logged.
    """
    losses = ("loss_list",) if "loss_list" in cfg else ("decoder", "loss")
    for section in (*CONTRASTIVE_SECTIONS, *losses):
        if section not in cfg or not isinstance(cfg[section], DictConfig):
            raise ValueError(
                f"model.{section} is missing; the sections needed are {', '.join(CONTRASTIVE_SECTIONS)}, and "
                "loss_list or decoder and loss"
            )
    known = (*CONTRASTIVE_SECTIONS, *CONTRASTIVE_KEYS, *OTHER_KEYS)
    unknown = [key for key in cfg if key not in known]
    if unknown:
        log.warning("model keys without effect: %s", ", ".join(map(str, unknown)))
    for key in ("dropout_features", "dropout_features_q"):
        value = cfg.get(key) or 0.0
        if not isinstance(value, int | float) or not 0.0 <= value < 1.0:
            raise ValueError(f"model.{key}: {value!r} is not a share from 0 to 1")


def _check_widths(cfg: DictConfig, position: str) -> None:
    features = cfg.preprocessor.get("features", 64) * cfg.preprocessor.get("frame_splicing", 1)
    for key in ("masking", "quantizer", "encoder") if position == "pre_conv" else ("encoder",):
        _must_equal(f"{key}.feat_in", cfg[key].get("feat_in"), "preprocessor.features", features)
    feat_out = cfg.encoder.get("feat_out", -1) or -1
    key, width = ("feat_out", feat_out) if feat_out > 0 else ("d_model", cfg.encoder.get("d_model"))
    _must_equal("decoder.feat_in", cfg.decoder.get("feat_in"), f"encoder.{key}", width)
    classes = cfg.quantizer.get("num_classes")
    _must_equal("decoder.num_classes", cfg.decoder.get("num_classes"), "quantizer.num_classes", classes)
    books = cfg.quantizer.get("num_books", 1)
    _must_equal("decoder.num_decoders", cfg.decoder.get("num_decoders", 1), "quantizer.num_books", books)
    _must_equal("loss.num_decoders", cfg.loss.get("num_decoders", 1), "quantizer.num_books", books)
    squeezed = cfg.quantizer.get("squeeze_single", False)
    for key in ("decoder", "loss"):
        value = cfg[key].get("squeeze_single", False)
        _must_equal(f"{key}.squeeze_single", value, "quantizer.squeeze_single", squeezed)


def _check_frame_rates(cfg: DictConfig, position: str) -> None:
    """Mel frames per encoder frame; with post_conv the masks and tokens are encoder frames already."""
    factor = (
        1 if cfg.encoder.get("subsampling", "striding") is None else cfg.encoder.get("subsampling_factor", 4)
    )
    reduced = cfg.encoder.get("reduction_factor", 1) if cfg.encoder.get("reduction") else 1
    if position == "post_conv":
        if reduced > 1:
            raise ValueError(
                "model.encoder.reduction: with mask_position post_conv the frames must stay as many"
            )
        return
    name = "encoder.subsampling_factor" + (" times encoder.reduction_factor" if reduced > 1 else "")
    for key in ("quantizer", "loss"):
        _must_equal(
            f"{key}.combine_time_steps", cfg[key].get("combine_time_steps", 1), name, factor * reduced
        )
    pad_to = cfg.preprocessor.get("pad_to", 16)
    if factor * reduced > 1 and (not isinstance(pad_to, int) or pad_to <= 0 or pad_to % (factor * reduced)):
        raise ValueError(
            f"model.preprocessor.pad_to: {pad_to} must be a multiple of {name} {factor * reduced}, "
            "or the last frames would have no token"
        )


def _must_equal(key: str, value: Any, other_key: str, other: Any) -> None:
    if value != other:
        raise ValueError(f"model.{key}: {value} must equal model.{other_key}: {other}")
