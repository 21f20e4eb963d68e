"""Send the speech of a manifest through telephone channels drawn at random, and write down what was drawn.

Example:
  python -m nest_ssl.bin.simulate --manifest data/prompts.jsonl --noise-manifest data/noise.jsonl \\
      --out data/telephone --seed 17

writes data/telephone/ and data/telephone.jsonl, with all processors of this machine.  Over several machines:
give each `--shard I/N`, then run once with `--merge`.  The same command again goes on where it was stopped;
the result does not depend on the number of workers or shards.  Settings of the channels
(conf/telephone.yaml) are changed by KEY=VALUE words, such as channel.noise.probability=0.
Ends with status 3 when more utterances failed than --max-error-rate allows.
"""

from __future__ import annotations

import argparse
import logging
import re
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from nest_ssl.bin.corpus_options import add_corpus_options, finish, run_corpus
from nest_ssl.bin.terminal import run
from nest_ssl.config import load_config
from nest_ssl.telephone.corpus import TelephoneCorpus
from nest_ssl.telephone.presets import CONFIG, Mix, mix_from_config

log = logging.getLogger(__name__)

ROOM_PROBABILITY = 0.25  # where the settings have no rooms
DEFAULT_KIND = "music"  # of recordings given without one


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    corpus = TelephoneCorpus(
        manifest=arguments.manifest,
        out=arguments.out,
        mix=chosen_mix(arguments),
        seed=arguments.seed,
        copies=arguments.copies,
        recordings=recordings(arguments.noise_manifest),
        out_rate=arguments.out_rate,
        split_seed=arguments.split_seed,
        format=arguments.format,
    )
    run_corpus(corpus, arguments)
    return finish(corpus, arguments)


def chosen_mix(arguments: argparse.Namespace) -> Mix:
    """Read the mix, or the mix of the one preset, and drop what is missing where that was asked for."""
    config = load_config(arguments.config, arguments.overrides)
    if arguments.room_dir:
        config = with_rooms(config, arguments.room_dir)
    mix = mix_from_config(config, arguments.mix)
    if arguments.preset:
        mix = mix.only(arguments.preset)
    return mix.without_missing() if arguments.missing == "drop" else mix


def with_rooms(config: DictConfig, folder: Path) -> DictConfig:
    """Give the settings with the recorded room responses of a folder in place of the computed ones."""
    if not folder.is_dir():
        raise FileNotFoundError(f"--room-dir {folder} is no folder")
    before = config.channel.get("room") or {}
    room = {"probability": before.get("probability", ROOM_PROBABILITY), "folder": str(folder)}
    changed = OmegaConf.to_container(config)
    changed["channel"]["room"] = room  # type: ignore[index,call-overload]
    return OmegaConf.create(changed)  # type: ignore[return-value]


def recordings(words: list[str]) -> dict[str, Path]:
    """Give the path of each kind of noise from words [KIND=]PATH; ValueError for a kind given twice."""
    found: dict[str, Path] = {}
    for word in words:
        match = re.fullmatch(r"([A-Za-z][\w-]*)=(.+)", word)
        kind, path = (match[1], match[2]) if match and not Path(word).exists() else (DEFAULT_KIND, word)
        if kind in found:
            raise ValueError(
                f"--noise-manifest {word}: noise kind {kind} has {found[kind]} already; give each kind once"
            )
        found[kind] = Path(path)
    return found


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m nest_ssl.bin.simulate",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--manifest", type=Path, required=True, help="JSON lines; audio of any kind")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder; the manifest is written as OUT.jsonl"
    )
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument(
        "--noise-manifest",
        action="append",
        default=[],
        metavar="[KIND=]PATH",
        help="recordings of a kind of noise, as a manifest or a folder; repeat it for\n"
        f"more kinds. Without KIND: {DEFAULT_KIND}",
    )
    parser.add_argument("--room-dir", type=Path, help="recorded room responses, in place of computed ones")
    parser.add_argument("--config", type=Path, default=CONFIG, help="presets and mixes [%(default)s]")
    parser.add_argument("--mix", default="default", help="name of a mix of --config [%(default)s]")
    parser.add_argument("--preset", help="use this preset only, not the mix")
    parser.add_argument(
        "--missing",
        choices=("refuse", "drop"),
        default="refuse",
        help="presets whose codecs are not on this machine: end with what to\n"
        "install, or leave them out and scale the rest [%(default)s]",
    )
    parser.add_argument("--copies", type=_positive, default=1, help="channels per utterance [%(default)s]")
    parser.add_argument("--out-rate", type=int, choices=(8000, 16000), default=16000, help="Hz [%(default)s]")
    parser.add_argument(
        "--split-seed",
        type=int,
        default=0,
        help="--seed of the later `manifest --split-by key`: keeps babble within\na split [%(default)s]",
    )
    add_corpus_options(parser)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="changes to --config")
    return parser.parse_intermixed_args(argv)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


if __name__ == "__main__":
    run(main)
