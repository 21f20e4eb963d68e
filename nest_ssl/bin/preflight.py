"""Check a fine-tuning before its first step: data, front end, weights, limits, memory, disk.

Examples:
  python -m nest_ssl.bin.preflight --part encoder --model Fun-ASR-Nano-2512 \\
      --train train.jsonl --valid dev.jsonl --out exp/stage1
  python -m nest_ssl.bin.preflight --model Fun-ASR-Nano-2512 --train train.jsonl \\
      --suggest-limits 99.5

Takes what nest_ssl.bin.finetune takes, which runs the same checks; all but --model may be left out, and
what cannot be looked at then is named.  Each finding says what was seen, what it causes, and the cure.  Exit
status 1 if there is an error, with --strict also for a warning.  docs/preflight.md lists the checks.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from nest_ssl.bin import finetune_config
from nest_ssl.bin.arguments import Parser, device, output_file
from nest_ssl.bin.terminal import run


def main(argv: list[str]) -> int:
    arguments = parse(argv)

    # the words are right: only now torch, which takes seconds
    from nest_ssl.bin.preflight_run import context_of, write_limits
    from nest_ssl.preflight.run import run_checks

    context = context_of(arguments)
    report = run_checks(context)
    print(report.as_json() if arguments.json else report.text())
    if arguments.limits_out is not None:
        write_limits(arguments.limits_out, context, arguments.suggest_limits)
    return int(report.failed(arguments.strict))


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        "preflight",
        usage="%(prog)s [--part PART] --model DIR [options] [++KEY=VALUE...]",
        description=__doc__,
    )
    finetune_config.add_options(parser)
    add = parser.add_argument_group("the check").add_argument
    add("--device", type=device, metavar="NAME", help="of the run: cpu, cuda, ... [a GPU if there is one]")
    add("--world-size", type=int, default=1, metavar="N", help="ranks of the run [%(default)s]")
    add("--files", type=_files, default=200, metavar="N|all", help="audio files opened a set [%(default)s]")
    probe = "one forward and backward pass [where it takes seconds]"
    add("--probe", action=argparse.BooleanOptionalAction, help=probe)
    add("--suggest-limits", type=_percentile, metavar="P", help="limits that keep P %% of the rows")
    add("--limits-out", type=output_file, metavar="FILE", help="write those limits here, as YAML")
    add("--strict", action="store_true", help="warnings are errors")
    add("--json", action="store_true", help="print one JSON object")
    arguments = finetune_config.parsed(parser, argv)
    if not arguments.model:
        parser.error("give the model directory with --model (or FunASR's ++model=)")
    if arguments.limits_out is not None and arguments.suggest_limits is None:
        parser.error("--limits-out needs --suggest-limits P")
    if arguments.suggest_limits is not None and not arguments.train:
        parser.error("--suggest-limits needs --train FILE, whose lengths they come from")
    return arguments


def _files(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor all")
    return int(text)


def _percentile(text: str) -> float:
    try:
        value = float(text.lstrip("p"))
    except ValueError:
        value = -1.0
    if not 0 < value < 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentile between 0 and 100, such as 99.5")
    return value


if __name__ == "__main__":
    run(main)
