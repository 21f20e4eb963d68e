"""Make manifests of train, dev and test, or check manifests.

Example:
  python -m nest_ssl.bin.manifest --in data/prompts.jsonl --in data/telephone.jsonl \\
      --out-dir data/manifests --split-by key --dev 0.05 --test 0.05 --min-duration 0.5 --max-duration 20

writes train.jsonl, dev.jsonl, test.jsonl, dropped.jsonl (id and reason of each dropped row) and report.json.
All rows with the same value of the --split-by field go to the same split, whatever their language or codec;
where a value goes depends on it and --seed alone, so it stays there when data are added.

  python -m nest_ssl.bin.manifest --check data/manifests/{train,dev,test}.jsonl --sample-rate 16000

names every row with a problem, an id that two of the manifests share included; exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from nest_ssl.bin.terminal import progress_bar, run
from nest_ssl.data.manifest_check import Checked, check_manifests
from nest_ssl.data.splits import SPLITS, SplitOptions, SplitReport, split_manifests
from nest_ssl.files.atomic import replaced

log = logging.getLogger(__name__)

SHOWN_PROBLEMS = 20


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    if arguments.check:
        return check(arguments)
    options = SplitOptions(
        split_by=arguments.split_by,
        dev=arguments.dev,
        test=arguments.test,
        min_duration=arguments.min_duration,
        max_duration=arguments.max_duration,
        seed=arguments.seed,
        drop_bad=arguments.drop_bad,
    )
    report = split_manifests(arguments.inputs, arguments.out_dir, options)
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


def check(arguments: argparse.Namespace) -> int:
    """Check manifests; all problems go to a file, the first of them to the terminal."""
    kinds: Counter[str] = Counter()
    checked = Checked()
    path = arguments.problems or Path(f"{arguments.check[0]}.problems.txt")
    with ExitStack() as stack, progress_bar(None, "row", "check") as bar:
        file = None
        for problem in check_manifests(
            arguments.check, checked, arguments.sample_rate, arguments.decode, arguments.threads
        ):
            if file is None:
                file = stack.enter_context(open(stack.enter_context(replaced(path)), "w", encoding="utf-8"))
            file.write(f"{problem}\n")
            if sum(kinds.values()) < SHOWN_PROBLEMS:
                print(problem)
            kinds[problem.kind] += 1
            bar.update(checked.rows - bar.n)
    total = sum(kinds.values())
    print(f"checked {checked.rows} rows, {checked.seconds / 3600:.3f} h, {total} problems")
    for kind, count in kinds.most_common():
        print(f"  {kind} {count}")
    if checked.several_channels:
        print(
            f"{checked.several_channels} rows have several channels: training on them needs channel_selector"
        )
    if total:
        print(f"all of them are in {path}")
        return 1
    if arguments.problems is None:
        path.unlink(missing_ok=True)  # of a former check
    return 0


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m nest_ssl.bin.manifest",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    make = parser.add_argument_group("making")
    make.add_argument(
        "--in", dest="inputs", type=Path, action="append", metavar="FILE", help="a manifest; may be repeated"
    )
    make.add_argument("--out-dir", type=Path, help="folder of what is written")
    make.add_argument("--split-by", default="key", metavar="FIELD", help="[%(default)s]")
    make.add_argument("--dev", type=float, default=0.05, help="share of the field's values [%(default)s]")
    make.add_argument("--test", type=float, default=0.05, help="share of the field's values [%(default)s]")
    make.add_argument("--min-duration", type=float, metavar="S", help="seconds; shorter rows are dropped")
    make.add_argument("--max-duration", type=float, metavar="S", help="seconds; longer rows are dropped")
    make.add_argument("--seed", type=int, default=0, help="another one gives another division [%(default)s]")
    make.add_argument(
        "--drop-bad", action="store_true", help="drop rows that cannot be used, instead of stopping"
    )
    checks = parser.add_argument_group("checking")
    checks.add_argument("--check", type=Path, nargs="+", metavar="FILE", help="manifests to check")
    checks.add_argument("--sample-rate", type=int, help="Hz that all audio should have [any]")
    checks.add_argument("--decode", action="store_true", help="decode all audio: finds damage behind headers")
    checks.add_argument("--problems", type=Path, metavar="FILE", help="list of problems [FILE.problems.txt]")
    checks.add_argument(
        "--threads",
        type=int,
        default=min(16, 4 * (os.cpu_count() or 1)),
        help="readers of audio [%(default)s]",
    )
    arguments = parser.parse_args(argv)
    if bool(arguments.check) == bool(arguments.inputs):
        parser.error("give either --in FILE with --out-dir DIR, or --check FILE")
    if arguments.inputs and arguments.out_dir is None:
        parser.error("--in needs --out-dir DIR")
    return arguments


if __name__ == "__main__":
    run(main)
