"""Make manifests from data of other tools, divide them into train, dev and test, or check them.

Examples:
  python -m nest_ssl.bin.manifest --from kaldi --in data/train --out data/all.jsonl
  python -m nest_ssl.bin.manifest --in data/all.jsonl --out-dir data/manifests --split-by speaker
  python -m nest_ssl.bin.manifest --check data/manifests/*.jsonl --sample-rate 8000
"""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from nest_ssl.bin.arguments import Parser, Rare
from nest_ssl.bin.terminal import progress_bar, run
from nest_ssl.data.manifest_check import Checked, Problem, check_manifests, check_source
from nest_ssl.data.sources.build import READERS, BuildOptions, SourceReport, beside, build_manifest
from nest_ssl.data.sources.record import SourceOptions
from nest_ssl.data.splits import SPLITS, SplitOptions, SplitReport, split_manifests
from nest_ssl.files.atomic import replaced
from nest_ssl.files.system import usable_cpus

log = logging.getLogger(__name__)

SHOWN_PROBLEMS = 20


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    if arguments.check:
        return check(arguments)
    if arguments.kind:
        return convert(arguments)
    options = SplitOptions(
        split_by=arguments.split_by,
        dev=arguments.dev,
        test=arguments.test,
        min_duration=arguments.min_duration,
        max_duration=arguments.max_duration,
        seed=arguments.seed,
        drop_bad=arguments.drop_bad,
    )
    report = split_manifests([Path(name) for name in arguments.inputs], arguments.out_dir, options)
    print(table(report))
    print(f"manifests in {arguments.out_dir}")
    return 0


def table(report: SplitReport) -> str:
    """The report as it is printed."""
    facts = report.as_dict()
    width = max([len(reason) for reason in facts["dropped"]] + [len(split) for split in SPLITS]) + 2
    lines = [f"{'split':{width}}{'rows':>9}{'hours':>11}{'keys':>9}"]
    for split, values in facts["splits"].items():
        lines.append(f"{split:{width}}{values['rows']:9}{values['hours']:11.4f}{values['keys']:9}")
    lines.append(f"{'dropped':{width}}{sum(report.dropped_rows.values()):9}")
    for reason, values in facts["dropped"].items():
        lines.append(f"{'  ' + reason:{width}}{values['rows']:9}{values['hours']:11.4f}")
    return "\n".join(lines)


def convert(arguments: argparse.Namespace) -> int:
    """Write a manifest of data that another tool keeps."""
    with progress_bar(None, "utt", arguments.kind) as bar:
        report = build_manifest(
            arguments.kind, arguments.inputs, arguments.out, build_options(arguments), bar.update
        )
    print(source_table(report))
    print(f"manifest {arguments.out}, left out {beside(arguments.out, 'dropped.jsonl')}")
    return 0


def build_options(arguments: argparse.Namespace) -> BuildOptions:
    """The options of --from."""
    source = SourceOptions(
        root=arguments.root,
        texts=arguments.text,
        allow_pipes=arguments.allow_pipes,
        audio_column=arguments.audio_column,
        text_column=arguments.text_column,
        id_column=arguments.id_column,
        split=arguments.split,
    )
    return BuildOptions(
        source=source,
        audio_dir=arguments.audio_dir,
        convert=arguments.convert,
        jobs=arguments.jobs,
        drop_bad=arguments.drop_bad,
        min_duration=arguments.min_duration,
        max_duration=arguments.max_duration,
        sample_rate=arguments.sample_rate,
    )


def source_table(report: SourceReport) -> str:
    """The report of --from as it is printed: rows, what is worth a look, what was left out and why."""
    facts = report.as_dict()
    lines = [f"rows {report.rows}, {report.seconds / 3600:.4f} h"]
    rates = ", ".join(f"{count} of {rate} Hz" for rate, count in facts["rows_by_sample_rate"].items())
    if rates:
        lines.append(f"  {rates}")
    for name, count in facts.items():
        if name.startswith("rows_") and isinstance(count, int) and count:
            lines.append(f"  {count} {name.removeprefix('rows_').replace('_', ' ')}")
    lines.append(f"left out {sum(values['rows'] for values in facts['dropped'].values())}")
    lines += [f"  {values['rows']} {reason}" for reason, values in facts["dropped"].items()]
    return "\n".join(lines)


def check(arguments: argparse.Namespace) -> int:
    """Check manifests; all problems go to a file, the first of them to the terminal."""
    kinds: Counter[str] = Counter()
    named = str(arguments.check[0]).rstrip("/")
    path = arguments.problems or Path(f"{named}.problems.txt")
    rows = None if arguments.kind else sum(map(count_lines, arguments.check))
    with ExitStack() as stack, progress_bar(rows, "row", "check") as bar:
        checked = Checked(advance=bar.update)
        file = None
        for problem in problems_of(arguments, checked):
            if file is None:
                file = stack.enter_context(open(stack.enter_context(replaced(path)), "w", encoding="utf-8"))
            file.write(f"{problem}\n")
            if sum(kinds.values()) < SHOWN_PROBLEMS:
                print(problem)
            kinds[problem.kind] += 1
    total = sum(kinds.values())
    print(f"checked {checked.rows} rows, {checked.seconds / 3600:.3f} h, {total} problems")
    for kind, count in kinds.most_common():
        print(f"  {kind} {count}")
    if checked.several_channels:
        print(
            f"{checked.several_channels} rows have several channels: training on them needs channel_selector"
        )
    if checked.in_archives:
        print(f"{checked.in_archives} rows name members of archives: their audio was not looked at")
    if total:
        print(f"all of them are in {path}")
        return 1
    if arguments.problems is None:
        path.unlink(missing_ok=True)  # of a former check
    return 0


def count_lines(path: str) -> int:
    """How many rows a manifest has; 0 if it cannot be read, which the check itself says better."""
    try:
        with open(path, "rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except OSError:
        return 0


def problems_of(arguments: argparse.Namespace, checked: Checked) -> Iterator[Problem]:
    """The problems of manifests, or with --from of other data."""
    if arguments.kind:
        return check_source(arguments.kind, arguments.check, checked, build_options(arguments))
    paths = [Path(name) for name in arguments.check]
    return check_manifests(paths, checked, arguments.sample_rate, arguments.decode, arguments.jobs)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        "manifest",
        usage="%(prog)s --from KIND --in PATH --out FILE [options]\n"
        "       %(prog)s --in FILE --out-dir DIR [options]\n"
        "       %(prog)s --check FILE... [options]",
        description=__doc__,
        epilog="docs/manifests.md shows every kind of input and the fields of a row.",
    )
    add = parser.add_argument
    add("--in", dest="inputs", action="append", metavar="PATH", help="what is read; may be repeated")
    add("--min-duration", type=float, metavar="S", help="seconds; shorter rows are left out")
    add("--max-duration", type=float, metavar="S", help="seconds; longer rows are left out")
    add("--drop-bad", action="store_true", help="leave out and count what cannot be used, no error")
    jobs = min(16, 4 * usable_cpus())
    readers = Rare("readers of audio [4 a core, at most 16]")
    add("--jobs", "--threads", type=int, default=jobs, metavar="N", help=readers)
    add_source_options(parser)
    group = parser.add_argument_group("dividing (rows with the same --split-by value stay together)")
    add = group.add_argument
    add("--out-dir", type=Path, metavar="DIR", help="folder of train, dev and test.jsonl")
    add("--split-by", default="key", metavar="FIELD", help="[%(default)s]")
    add("--dev", type=float, default=0.05, metavar="X", help="share of the field's values [%(default)s]")
    add("--test", type=float, default=0.05, metavar="X", help="share of the field's values [%(default)s]")
    add("--seed", type=int, default=0, metavar="N", help="another one divides otherwise [%(default)s]")
    add = parser.add_argument_group("checking (exit status 1 if there is a problem)").add_argument
    add("--check", nargs="+", metavar="FILE", help="manifests; with --from, its kind of data")
    rate = "that all audio should have, also with --from [any]"
    add("--sample-rate", type=int, metavar="HZ", help=rate)
    add("--decode", action="store_true", help="decode all audio: finds damage behind headers")
    add("--problems", type=Path, metavar="FILE", help=Rare("list of problems [FILE.problems.txt]"))
    arguments = parser.parse_args(argv)
    refuse_contradictions(parser, arguments)
    return arguments


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """The options of --from."""
    add = parser.add_argument_group("reading data of other tools").add_argument
    add("--from", dest="kind", choices=tuple(READERS), metavar="KIND", help=", ".join(READERS))
    add("--out", type=Path, metavar="FILE", help="manifest; beside it FILE.dropped.jsonl, FILE.report.json")
    add("--root", type=Path, metavar="DIR", help="where relative paths start [here, or beside the list]")
    add("--audio-dir", type=Path, metavar="DIR", help="audio that is in no file of its own is written here")
    whole = Rare("write there, too, what can only be decoded from its start on")
    add("--convert", action="store_true", help=whole)
    add("--allow-pipes", action="store_true", help="kaldi, lhotse: run commands (without a shell)")
    add("--text", type=Path, metavar="FILE", help="funasr: transcripts of a wav.scp [text beside it]")
    add("--split", metavar="NAME", help=Rare("huggingface: train, test, ... [all]"))
    for column in ("audio", "text", "id"):
        by_name = Rare(f"huggingface: column of the {column} [by usual names]")
        add(f"--{column}-column", metavar="NAME", help=by_name)


def refuse_contradictions(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End with a message where the options do not say one thing."""
    if bool(arguments.check) == bool(arguments.inputs):
        parser.error("give either --in PATH with --out FILE or --out-dir DIR, or --check FILE")
    if arguments.inputs and arguments.kind and arguments.out is None:
        parser.error("--from needs --out FILE")
    if arguments.inputs and arguments.kind and arguments.out_dir is not None:
        parser.error(
            "--from writes one manifest: give --out FILE, and divide it by a second call with --out-dir"
        )
    if arguments.inputs and not arguments.kind and arguments.out_dir is None:
        parser.error("--in needs --out-dir DIR, or --from KIND with --out FILE")


if __name__ == "__main__":
    run(main)
