"""Send speech through telephone channels drawn at random, and write down what was drawn.

Example:
  python -m nest_ssl.bin.simulate --manifest data/prompts.jsonl --noise-manifest data/noise.jsonl \\
      --out data/telephone --seed 17

writes data/telephone/ and data/telephone.jsonl, with all processors of this machine.  Over several machines:
give each --shard I/N, then run once with --merge.  The same command again goes on where it was stopped;
the result does not depend on the number of workers or shards.  KEY=VALUE words change the settings of the
channels, such as channel.noise.probability=0.  Exit status 3: more utterances failed than --max-error-rate.
"""

from __future__ import annotations

import argparse
import logging
import re
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from nest_ssl.bin.arguments import Parser, Rare
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
    parser = Parser("simulate", description=__doc__)
    add = parser.add_argument_group("what is simulated").add_argument
    add("--manifest", type=Path, required=True, metavar="FILE", help="JSON lines; audio of any kind")
    add("--out", type=Path, required=True, metavar="DIR", help="folder; the manifest is DIR.jsonl")
    add("--seed", type=int, required=True, metavar="N", help="of all draws")
    add("--copies", type=_positive, default=1, metavar="N", help="channels per utterance [%(default)s]")
    add("--out-rate", type=int, choices=(8000, 16000), default=16000, help="Hz [%(default)s]")
    later = Rare("--seed of the later `manifest --split-by key`: babble stays in a split [%(default)s]")
    add("--split-seed", type=int, default=0, metavar="N", help=later)
    add = parser.add_argument_group("channels").add_argument
    add("--preset", metavar="NAME", help="this preset alone, not a mix, for example mobile_gsm_fr")
    add("--mix", default="default", metavar="NAME", help="mix of --config: default, china, ... [%(default)s]")
    noise = f"recordings of a kind of noise [{DEFAULT_KIND}], manifest or folder; repeatable"
    add("--noise-manifest", action="append", default=[], metavar="[KIND=]PATH", help=noise)
    add("--room-dir", type=Path, metavar="DIR", help="recorded room responses, not computed ones")
    missing = "presets whose codec is not here: end, or do without [%(default)s]"
    add("--missing", choices=("refuse", "drop"), default="refuse", help=missing)
    add("--config", type=Path, default=CONFIG, metavar="FILE", help="presets, mixes [conf/telephone.yaml]")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="changes to --config")
    add_corpus_options(parser)
    return parser.parse_intermixed_args(argv)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


if __name__ == "__main__":
    run(main)
