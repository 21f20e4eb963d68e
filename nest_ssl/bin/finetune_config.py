"""The configuration of a fine-tuning: the model's own, a stage's over it, the command's words over both."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nest_ssl.bin.arguments import ROOT, Parser
from nest_ssl.checkpoints.funasr_dir import read_model_dir
from nest_ssl.config import apply_overrides, load_config, resolved, suggestion
from nest_ssl.data.fun_asr_config import dataset_options
from nest_ssl.data.fun_asr_corpus import data_files
from nest_ssl.files.digests import content_digest
from nest_ssl.preflight.known_keys import SECTIONS

log = logging.getLogger(__name__)

STAGES = ROOT / "conf" / "fun_asr_nano_8k"
PARTS = {
    "encoder": STAGES / "stage1_encoder_adapt.yaml",
    "adaptor": STAGES / "stage2_adaptor_align.yaml",
    "lora": STAGES / "stage3_lora_domain.yaml",
    "all": STAGES / "base_all.yaml",
}
# FunASR's word for each of our options
SPELLINGS = {
    "model": "model",
    "init_param": "init_param",
    "train": "train_data_set_list",
    "valid": "valid_data_set_list",
    "out": "output_dir",
}
WHOLE = ("train_conf", "optim", "optim_conf", "scheduler", "scheduler_conf")  # of the stage, not merged
OF_A_RUN = ("freeze_param", "lora_only", "lora_bias", "ctc_weight", "ctc_detach_encoder", "excludes")
# Top-level keys beside those that the model's own configuration has
KNOWN = frozenset(
    (
        *("seed", "enable_tf32", "debug", "nest_ssl", "freeze_param", "lora_only", "lora_bias"),
        *("ctc_weight", "ctc_detach_encoder", "detach_ctc_decoder", "ctc_vocab_size", "model_conf"),
        *("train_conf", "optim", "optim_conf", "scheduler", "scheduler_conf", "dataset", "dataset_conf"),
        *("tokenizer", "tokenizer_conf", "frontend_conf", "audio_encoder_conf", "audio_adaptor_conf"),
        *("ctc_decoder_conf", "ctc_conf", "llm_conf"),
    )
)
# FunASR's words about its own program; here they say nothing
WITHOUT_EFFECT = (
    "hub",
    "device",
    "ncpu",
    "ngpu",
    "disable_update",
    "trust_remote_code",
    "log_level",
    "is_training",
)
WORD = re.compile(r"(\+{0,2}[A-Za-z_][\w.\[\]]*=|~[A-Za-z_])")


def parse(argv: Sequence[str], description: str | None) -> argparse.Namespace:
    """The options; FunASR's words for them are taken out of `overrides`, which is what is left."""
    parser = Parser(
        "finetune",
        usage="%(prog)s [--part PART] --model DIR --train FILE... --out DIR\n"
        "           [options] [++KEY=VALUE...]",
        description=description,
    )
    add_options(parser)
    arguments = parsed(parser, argv)
    for option, needed in (
        ("model", "model directory"),
        ("train", "training data"),
        ("out", "folder of the run"),
    ):
        if not getattr(arguments, option):
            parser.error(f"give the {needed} with --{option} (or FunASR's ++{SPELLINGS[option]}=)")
    return arguments


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which run it is; preflight has the same."""
    add = parser.add_argument_group("the run").add_argument
    add("--part", choices=PARTS, help="what is trained")
    add("--config", type=Path, metavar="FILE", help="settings in place of conf/fun_asr_nano_8k's of --part")
    add("--model", metavar="DIR", help="model directory to start from")
    add("--init-param", metavar="PATH", help="other weights for that directory, a file or a folder")
    add(
        "--train",
        nargs="+",
        metavar="FILE",
        help="training data: messages, manifest rows, lists of such",
    )
    add("--valid", nargs="+", metavar="FILE", help="validation data, for the choice of the best weights")
    add("--out", metavar="DIR", help="folder of the run; the trained model becomes DIR/model")


def parsed(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse options and words in any order; FunASR's words for options are taken as options."""
    arguments = parser.parse_args([word for word in argv if not WORD.match(word)])
    _take_spellings(arguments, [word for word in argv if WORD.match(word)])
    return arguments


def configuration(arguments: argparse.Namespace) -> dict[str, Any]:
    """FunASR's flat configuration of the run, resolved, with the record of its start in nest_ssl.base.

    Raises ValueError or FileNotFoundError with cause and way out for anything unknown or not there.
    """
    found = read_model_dir(arguments.model, init_param=arguments.init_param)
    base = dict(found.config)
    former = dict(base.get("nest_ssl") or {})
    for key in OF_A_RUN:
        base.pop(key, None)
    base["nest_ssl"] = {"history": former["history"]} if former.get("history") else {}
    stage_file = arguments.config or (PARTS[arguments.part] if arguments.part else None)
    stage = load_config(stage_file) if stage_file else OmegaConf.create({})
    _check_top(stage, base, str(stage_file))
    for key in WHOLE:
        if key in stage:
            base.pop(key, None)
    try:
        config = cast(DictConfig, OmegaConf.merge(OmegaConf.create(base), stage))
    except OmegaConfBaseException as error:
        raise ValueError(f"{stage_file}: {str(error).splitlines()[0]}") from error
    OmegaConf.set_struct(config, False)
    apply_overrides(config, arguments.overrides)
    _check_top(config, base, "overrides")
    config.train_data_set_list = arguments.train
    config.valid_data_set_list = arguments.valid
    if arguments.out is not None:  # preflight may be asked without one
        out = Path(arguments.out)
        if Path(found.path).resolve() in (out.resolve(), Path(out, "model").resolve()):
            raise ValueError(
                f"--out {out} holds the model that training starts from ({found.path}), which the "
                "run would overwrite; name another folder"
            )
        config.output_dir = str(out)
    config.init_param = str(found.weights_path)
    plain = resolved(config, "configuration")
    plain["nest_ssl"] = {
        **plain["nest_ssl"],
        "stage": arguments.part or plain["nest_ssl"].get("stage") or "finetune",
        "base": {
            "directory": str(found.path),
            "stage": former.get("stage"),
            "weights": str(found.weights_path),
            "digest": content_digest(found.weights_path),
        },
    }
    return plain


def check_inputs(config: dict[str, Any]) -> None:
    """Raise for data files that are not there and for wrong data options, before the model is loaded."""
    dataset_options(config.get("dataset_conf"))
    for key in ("train_data_set_list", "valid_data_set_list"):
        if config[key]:
            data_files(config[key], name=key)


def seed_of(config: dict[str, Any]) -> int:
    """The seed of the run, 0 where none is given; ValueError for what is no whole number."""
    seed = config.get("seed")
    if seed is None:
        return 0
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ValueError(f"seed: {seed!r} is not a whole number")
    return seed


def given_keys(words: Sequence[str]) -> dict[str, Any]:
    """{dotted key: value} of the words that set one."""
    scratch = OmegaConf.create({})
    apply_overrides(scratch, ["++" + word.lstrip("+") for word in words if not word.startswith("~")])
    return {
        word.lstrip("+").partition("=")[0]: OmegaConf.select(scratch, word.lstrip("+").partition("=")[0])
        for word in words
        if not word.startswith("~")
    }


def _take_spellings(arguments: argparse.Namespace, words: Sequence[str]) -> None:
    """Move FunASR's words for the options from the overrides to the options."""
    arguments.overrides = []
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        option = next((name for name, theirs in SPELLINGS.items() if key == theirs), None)
        if key in WITHOUT_EFFECT:
            log.warning("%s has no effect here", word)
            continue
        if option is None or word.startswith("~"):
            arguments.overrides.append(word)
            continue
        if getattr(arguments, option):
            raise ValueError(f"{word}: --{option.replace('_', '-')} says this already; give one of them")
        if option in ("train", "valid"):
            scratch = OmegaConf.create({})
            apply_overrides(scratch, [f"++value={value}"])
            listed = OmegaConf.to_container(scratch)["value"]  # type: ignore[index,call-overload]
            setattr(arguments, option, [listed] if isinstance(listed, str) else listed)
        else:
            setattr(arguments, option, None if value == "null" else value)


def _check_top(config: DictConfig, base: dict[str, Any], where: str) -> None:
    known = {*KNOWN, *base}
    for key in map(str, config):
        if key not in known:
            inside = [f"{section}.{key}" for section, keys in SECTIONS.items() if key in keys.split()]
            way = f"did you mean {' or '.join(inside)}?" if inside else suggestion(key, sorted(known))
            raise ValueError(f"{where}: the key {key!r} is not supported; {way}")
