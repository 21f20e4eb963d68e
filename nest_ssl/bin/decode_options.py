"""Options of the verb decode, and what they mean for the decoder."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nest_ssl.bin.arguments import Parser, Rare, channel, device, output_file
from nest_ssl.bin.finetune_config import WITHOUT_EFFECT, given_keys
from nest_ssl.checkpoints.funasr_dir import ModelDir
from nest_ssl.config import leaves
from nest_ssl.data.prompts import PromptSettings
from nest_ssl.decoding.fun_asr_gate import GATES
from nest_ssl.decoding.fun_asr_items import PromptOptions, read_hotwords
from nest_ssl.decoding.fun_asr_joint import MODES, JointWeights
from nest_ssl.preflight.context import Context
from nest_ssl.preflight.keys import check_keys

log = logging.getLogger(__name__)

LANGUAGES = {"zh": "中文", "en": "英文", "ja": "日文"}  # as the prompt names them
DTYPES = ("fp32", "bf16", "fp16")
DETAILS = """\
--mode joint takes the texts of the language model's beam and of CTC, and chooses by
w * ln P_ctc + (1 - w) * ln P_llm; --tune-on chooses w on labelled rows.  With --shard I/N each part has its
own --out; joined in order they are the whole.  Words ++KEY=VALUE change the model's configuration."""
# Options that only the language model reads
OF_THE_LLM = ("hotwords", "hotwords_file", "language", "no_itn", "prompt", "prev_text", "max_length")
# Top-level keys that a model is built from; what else FunASR knows is said by an option, or in training alone
BUILT_FROM = (
    *("model_conf", "init_param", "input_size", "frontend", "frontend_conf", "audio_encoder"),
    *("audio_encoder_conf", "audio_adaptor", "audio_adaptor_conf", "llm", "llm_conf", "ctc_decoder"),
    *("ctc_decoder_conf", "ctc_conf", "ctc_vocab_size", "tokenizer", "tokenizer_conf", "dataset_conf"),
)
OF_THE_DATA = ("prompt", "do_think", "sys_prompt", "ctc_tokenizer", "ctc_tokenizer_conf")  # in dataset_conf
SPELLINGS = {  # FunASR's words for options of ours
    "model": "--model DIR",
    "hotwords": "--hotwords A,B",
    "language": "--language NAME",
    "itn": "--no-itn",
    "device": "--device NAME",
    "batch_size": "--batch-size N",
    "bf16": "--dtype bf16",
    "fp16": "--dtype fp16",
    "llm_dtype": "--dtype NAME",
    "llm_conf.llm_dtype": "--dtype NAME",
    "output_dir": "--out FILE",
    "ctc_weight": "--ctc-weight W",
}
ROWS = (".json", ".jsonl", ".list", ".scp", ".txt", ".csv", ".tsv")  # endings of what is no audio


def parse(argv: list[str], description: str | None) -> argparse.Namespace:
    """Give the options; words ++key=value override the model's configuration."""
    overrides = [word for word in argv if word.startswith("++")]
    parser = Parser("decode", description=description, details=DETAILS)
    add = parser.add_argument_group("what is decoded, with what").add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="Fun-ASR model directory")
    add("--init-param", type=Path, metavar="FILE", help=Rare("other weights than the directory's"))
    add("files", type=Path, nargs="*", metavar="FILE", help="audio files; their text is printed")
    add("--manifest", type=Path, action="append", metavar="FILE", help="rows of a manifest; may be repeated")
    add("--messages", type=Path, action="append", metavar="FILE", help="FunASR's JSON lines, the same")
    add("--out", type=output_file, metavar="FILE", help="JSON lines to write; needed for rows")
    add("--shard", type=shard, default=(1, 1), metavar="I/N", help=Rare("this part only, I from 1 [1/1]"))
    add("--channel-selector", type=channel, metavar="N|average", help=Rare("of several [average]"))
    add = parser.add_argument_group("how").add_argument
    add("--mode", choices=MODES, help="[joint; llm where the checkpoint has no CTC weights]")
    add("--beam", type=int, metavar="N", help="of the language model [8 in joint, else 1: greedy]")
    add("--hotwords", metavar="A,B", help="words to expect, besides those of the rows")
    add("--hotwords-file", type=Path, metavar="FILE", help="the same, one word or phrase a line")
    add("--language", metavar="NAME", help="as the prompt names it, 中文; zh, en, ja are known")
    add("--no-itn", action="store_true", help="numbers as they are spoken")
    add("--tune-on", type=Path, action="append", metavar="FILE", help="choose the weight by the CER of these")
    add("--weight-out", type=output_file, metavar="FILE", help="write the chosen weight here")
    add("--ctc-weight", type=joint_weights, metavar="W|FILE", help="0 to 1, or what --weight-out wrote [0.7]")
    add("--length-bonus", type=float, metavar="NATS", help=Rare("in joint, for each CTC token [0]"))
    add("--prompt", metavar="TEXT", help=Rare("a whole prompt in place of language and itn"))
    add("--prev-text", metavar="TEXT", help=Rare("how every answer begins"))
    add("--max-length", type=int, default=512, metavar="N", help=Rare("new tokens [%(default)s]"))
    add("--gate", choices=GATES, default="auto", help=Rare("who tells silence [auto: CTC, then level]"))
    cut = Rare("seconds; longer recordings are cut [%(default)s]")
    add("--window", type=float, default=30.0, metavar="S", help=cut)
    between = Rare("seconds, of windows without a pause between them [%(default)s]")
    add("--overlap", type=float, default=4.0, metavar="S", help=between)
    add = parser.add_argument_group("the run").add_argument
    add("--fresh", action="store_true", help="forget what an earlier run has decoded")
    changed = Rare("forget it only where model or settings have changed")
    add("--fresh-if-changed", action="store_true", help=changed)
    candidates = Rare("rows carry the candidates of the joint choice")
    add("--candidates", action="store_true", help=candidates)
    add("--device", type=device, help="cpu, cuda, cuda:1 ... [a GPU if there is one]")
    add("--dtype", choices=DTYPES, default="fp32", help="of the language model [%(default)s]")
    seconds = "seconds of audio at once [%(default)s]"
    add("--batch-duration", type=float, default=60.0, metavar="S", help=seconds)
    add("--batch-size", type=int, default=16, metavar="N", help=Rare("recordings at once [%(default)s]"))
    arguments = parser.parse_intermixed_args([word for word in argv if not word.startswith("++")])
    arguments.overrides = overrides
    _check_what_is_decoded(parser, arguments)
    _check_how(parser, arguments)
    read = [*(arguments.manifest or ()), *(arguments.messages or ()), *(arguments.tune_on or ())]
    for written in (arguments.out, arguments.weight_out):
        if written is not None and any(written.absolute() == path.absolute() for path in read):
            parser.error(f"{written} is read and would be overwritten; name another file")
    for path in arguments.files:
        if path.is_dir():
            parser.error(f"{path} is a folder; name the audio files in it, such as {path}/*.wav")
        if path.suffix in ROWS:
            parser.error(f"{path} is no audio; rows of a manifest are read with --manifest {path} --out FILE")
    return arguments


def _check_what_is_decoded(parser: Parser, arguments: argparse.Namespace) -> None:
    given = [arguments.manifest, arguments.messages, arguments.files]
    if sum(map(bool, given)) > 1 or not (any(given) or arguments.tune_on):
        parser.error("give one of --manifest FILE, --messages FILE, audio files; or --tune-on FILE alone")
    if not arguments.files and any(given) and not arguments.out:
        parser.error("--out FILE is needed for the results of a manifest or messages file")
    if arguments.tune_on and not arguments.weight_out:
        parser.error("--tune-on needs --weight-out FILE, which keeps the weights")
    if arguments.weight_out and not arguments.tune_on:
        parser.error("--weight-out needs --tune-on FILE")
    if not any(given) and (arguments.out or arguments.shard != (1, 1) or arguments.candidates):
        parser.error(
            "--tune-on alone writes nothing to --out: name what is decoded, or leave --out, --shard "
            "and --candidates away"
        )
    if arguments.candidates and not arguments.out:
        parser.error("--candidates needs --out FILE: what is printed is the text alone")


def _check_how(parser: Parser, arguments: argparse.Namespace) -> None:
    """Refuse options that the mode, or another option, would pass over in silence."""
    mode = arguments.mode
    if arguments.tune_on and (arguments.ctc_weight or mode not in (None, "joint")):
        parser.error("--tune-on chooses the weights of --mode joint; leave --ctc-weight and other modes away")
    of_joint = {"--ctc-weight": arguments.ctc_weight, "--length-bonus": arguments.length_bonus is not None}
    of_joint["--candidates"] = arguments.candidates
    given = [name for name, value in of_joint.items() if value]
    if mode in ("llm", "ctc") and given:
        parser.error(f"{', '.join(given)}: of --mode joint; --mode {mode} does not read it")
    of_llm = [name for name in OF_THE_LLM if getattr(arguments, name) != parser.get_default(name)]
    if mode == "ctc" and of_llm:
        words = ", ".join(f"--{name.replace('_', '-')}" for name in of_llm)
        parser.error(f"{words}: for the language model, which --mode ctc does not ask; take joint or llm")
    if arguments.prompt is not None and (arguments.language or arguments.no_itn):
        parser.error("--prompt is the whole prompt; leave --language and --no-itn away")


def refuse_unread_words(words: Sequence[str], directory: ModelDir) -> None:
    """ValueError for a ++key=value word that nobody reads in decoding, with the known key that is nearest, or
    the option that is meant; FunASR's words about its own program are told and left."""
    given = given_keys(words)
    device: Any = None  # keys alone are looked at; the default would load torch
    for finding in check_keys(Context(directory.config, directory.path, overrides=given, device=device)):
        if finding.level == "error" and finding.code == "KEY.unknown":
            raise ValueError(f"++{finding.what}. {finding.cure}")
    for key, value in leaves(given):
        top, _, below = key.partition(".")
        if option := SPELLINGS.get(key) or SPELLINGS.get(top):
            raise ValueError(f"++{key}={value} is not read in decoding; the option is {option}")
        if top in WITHOUT_EFFECT:
            log.warning("++%s=%s has no effect here", key, value)
        elif top not in BUILT_FROM or (top == "dataset_conf" and below.split(".")[0] not in OF_THE_DATA):
            raise ValueError(f"++{key}={value} is not read in decoding; leave it away")


def prompt_options(arguments: argparse.Namespace, config: dict[str, Any]) -> PromptOptions:
    """Give the prompts of the options; where none says anything, dataset_conf.prompt of the model."""
    language = arguments.language
    chosen = {
        "target": LANGUAGES.get(language, language),
        "itn": False if arguments.no_itn else None,
        "prompt": arguments.prompt,
    }
    chosen = {key: value for key, value in chosen.items() if value is not None}
    settings = PromptSettings.from_config(chosen or (config.get("dataset_conf") or {}).get("prompt"))
    words = [word.strip() for word in (arguments.hotwords or "").split(",") if word.strip()]
    if arguments.hotwords_file:
        words += read_hotwords(arguments.hotwords_file)
    return PromptOptions(settings, tuple(dict.fromkeys(words)), arguments.prev_text, bool(chosen))


def chosen_weights(arguments: argparse.Namespace) -> JointWeights:
    """Give the weights of the joint choice by the options."""
    weights = arguments.ctc_weight or JointWeights()
    if arguments.length_bonus is not None:
        weights = JointWeights(weights.ctc_weight, arguments.length_bonus)
    return weights


def joint_weights(text: str) -> JointWeights:
    """A number from 0 to 1, or a JSON file with ctc_weight and length_bonus."""
    try:
        return JointWeights(float(text))
    except ValueError as error:
        path = Path(text)
        if not path.is_file():
            raise argparse.ArgumentTypeError(
                f"{text!r} is neither a number from 0 to 1 nor a file"
            ) from error
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return JointWeights(float(found["ctc_weight"]), float(found.get("length_bonus", 0.0)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise argparse.ArgumentTypeError(
            f"{path} has no weights, as --weight-out writes them: {error}"
        ) from error


def shard(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if not slash or not number.isdigit() or not count.isdigit() or not 1 <= int(number) <= int(count):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 1 to N, such as 1/4")
    return int(number), int(count)
