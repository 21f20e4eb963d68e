"""What simulate and upsample share: workers, shards, resuming, errors, the line at the end."""

from __future__ import annotations

import argparse
import logging
import re
import time

from nest_ssl.bin.arguments import Rare
from nest_ssl.bin.progress import corpus_progress
from nest_ssl.files.system import usable_cpus
from nest_ssl.telephone.jobs import Job, TooManyErrors, merge, run_shard
from nest_ssl.telephone.writer import FORMATS

TOO_MANY_ERRORS = 3  # exit status

log = logging.getLogger(__name__)


def add_corpus_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every verb that makes one corpus into another."""
    add = parser.add_argument_group("the run").add_argument
    workers = "processes; 0: one a core [0, and 1 with --shard]"
    add("--workers", type=_count, metavar="N", help=workers)
    add("--shard", type=_shard, metavar="I/N", help="this part only, I from 1")
    add("--merge", action="store_true", help="all shards are done: write the manifest")
    add("--force", action="store_true", help="make anew what OUT has of other settings (else refused)")
    add("--max-error-rate", type=_share, default=0.01, metavar="X", help="of all utterances [%(default)s]")
    add("--format", choices=tuple(FORMATS), default="flac", help=Rare("16 bits [%(default)s]"))


def run_corpus(job: Job, arguments: argparse.Namespace) -> None:
    """Run the shard that was asked for, unless only merging was."""
    if arguments.merge:
        return
    shard = number, count = arguments.shard or (1, 1)
    workers = arguments.workers
    if workers is None:
        workers = 1 if count > 1 else 0
    started = time.monotonic()
    total = len(range(number - 1, len(job.index), count)) * job.copies
    with corpus_progress(total, job.verb, shard) as progress:
        result = run_shard(job, number, count, workers or usable_cpus(), arguments.force, progress.advance)
    wall_s = time.monotonic() - started
    reasons = " ".join(f"{kind} {errors}" for kind, errors in sorted(result.reasons.items()))
    log.info(
        "%s shard %d/%d utterances %d written %d already_done %d errors %d%s hours %.3f "
        "wall_s %.1f cpu_s %.1f audio_s/cpu_s %.0f audio_s/s %.0f",
        job.verb, number, count, result.outputs, result.written, result.resumed, result.errors,
        f" ({reasons})" if reasons else "", result.audio_s / 3600, wall_s, result.cpu_s,
        result.audio_s / max(result.cpu_s, 1e-9), result.audio_s / max(wall_s, 1e-9),
    )  # fmt: skip


def finish(job: Job, arguments: argparse.Namespace) -> int:
    """Write the manifest where this run was the last; gives the exit status."""
    if arguments.merge or (arguments.shard or (1, 1))[1] == 1:
        try:
            rows, errors = merge(job, arguments.max_error_rate)
        except TooManyErrors as error:
            log.error("%s", error)
            return TOO_MANY_ERRORS
        log.info("%s manifest %s.jsonl rows %d errors %d", job.verb, job.out, rows, errors)
    return 0


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 1 to N, for example 1/4")
    return int(match[1]), int(match[2])


def _count(text: str) -> int:
    if not text.isdigit() or int(text) > 4096:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes, 0 for all processors")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to 1")
    return share
