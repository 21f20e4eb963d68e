"""Send the speech of a manifest through telephone channels drawn at random, and write down what was drawn.

Example:
  python -m nest_ssl.bin.simulate --manifest data/prompts.jsonl --noise-manifest data/noise.jsonl \\
      --out data/telephone --seed 17

writes data/telephone/ and data/telephone.jsonl.  Over several processes or machines: give each
`--shard I/N`, then run once with `--merge`.  The same command again goes on where it was stopped; the
result does not depend on the number of shards.  Settings of the channels (conf/telephone.yaml) are changed
by KEY=VALUE words, for example presets.pstn_g711u.weight=0.5 or channel.noise.probability=0.
"""

from __future__ import annotations

import argparse
import logging
import re
import time
from pathlib import Path

from nest_ssl.bin.terminal import progress_bar, run
from nest_ssl.config import load_config
from nest_ssl.telephone.corpus import TelephoneCorpus, TooManyErrors, merge, run_shard
from nest_ssl.telephone.presets import mix_from_config

log = logging.getLogger(__name__)

DEFAULT_CONFIG = Path(__file__).resolve().parents[2] / "conf" / "telephone.yaml"
TOO_MANY_ERRORS = 3  # exit status


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    mix = mix_from_config(load_config(arguments.config, arguments.overrides))
    if arguments.preset:
        mix = mix.only(arguments.preset)
    corpus = TelephoneCorpus(
        manifest=arguments.manifest,
        out=arguments.out,
        mix=mix,
        seed=arguments.seed,
        copies=arguments.copies,
        noise_manifest=arguments.noise_manifest,
        out_rate=arguments.out_rate,
        split_seed=arguments.split_seed,
    )
    if not arguments.merge:
        simulate(corpus, arguments.shard)
    if arguments.merge or arguments.shard == (1, 1):
        try:
            rows, errors = merge(corpus, arguments.max_error_rate)
        except TooManyErrors as error:
            log.error("%s", error)
            return TOO_MANY_ERRORS
        log.info("simulate manifest %s.jsonl rows %d errors %d", arguments.out, rows, errors)
    return 0


def simulate(corpus: TelephoneCorpus, shard: tuple[int, int]) -> None:
    """Run one shard with a progress bar (of the first shard only: several would write over each other)."""
    number, count = shard
    started = time.monotonic()
    total = len(range(number - 1, len(corpus.index), count)) * corpus.copies
    if number == 1:
        with progress_bar(total, "utt", f"simulate {number}/{count}") as bar:
            result = run_shard(corpus, number, count, bar.update)
    else:
        result = run_shard(corpus, number, count)
    speed = result.audio_s / result.cpu_s if result.cpu_s > 0 else 0.0
    log.info(
        "simulate shard %d/%d utterances %d written %d already_done %d errors %d hours %.3f "
        "wall_s %.1f cpu_s %.1f audio_s/cpu_s %.0f",
        number, count, result.outputs, result.written, result.resumed, result.errors, result.audio_s / 3600,
        time.monotonic() - started, result.cpu_s, speed,
    )  # fmt: skip


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m nest_ssl.bin.simulate",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--manifest", type=Path, required=True, help="JSON lines; audio of any rate, mono")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder; the manifest is written as OUT.jsonl"
    )
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--noise-manifest", type=Path, help="recordings for the noise kind `music`")
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="presets and mix [%(default)s]")
    parser.add_argument("--preset", help="use this preset only, not the mix")
    parser.add_argument("--copies", type=_positive, default=1, help="channels per utterance [%(default)s]")
    parser.add_argument("--out-rate", type=int, choices=(8000, 16000), default=16000, help="Hz [%(default)s]")
    parser.add_argument(
        "--split-seed",
        type=int,
        default=0,
        help="--seed of the later `manifest --split-by key`: keeps babble within\na split [%(default)s]",
    )
    parser.add_argument("--max-error-rate", type=_share, default=0.01, help="of all utterances [%(default)s]")
    parser.add_argument(
        "--shard", type=_shard, default=(1, 1), metavar="I/N", help="this part only, I from 1"
    )
    parser.add_argument("--merge", action="store_true", help="all shards are done: write the manifest")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="changes to --config")
    return parser.parse_intermixed_args(argv)


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 1 to N, for example 1/4")
    return int(match[1]), int(match[2])


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to 1")
    return share


if __name__ == "__main__":
    run(main)
