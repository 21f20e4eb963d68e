"""Write what an experiment found: RESULTS.md to read anywhere, report.html to look at in a browser.

An experiment is the folder EXP_DIR/TAG of a recipe, or any folder with run directories in it; one that is
half done, or running, has a report too.  Questions come first: did the losses fall, what did each stage do to
the error rate, how much memory and time did it take, where did it help.

Example:
  python -m nest_ssl.bin.report egs/asterisk/exp/small --aim cer_gain=0.25 --aim cer=0.40
"""

from __future__ import annotations

import argparse
import logging
import math
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path

from nest_ssl.bin.arguments import Parser
from nest_ssl.bin.made_by import code_state, hardware
from nest_ssl.bin.terminal import run
from nest_ssl.files.atomic import replaced
from nest_ssl.report.answer import CHANCE, MET, NOT_MET, Aims, Answer
from nest_ssl.report.experiment import Experiment, read_experiment
from nest_ssl.report.folders import experiments_in, is_experiment
from nest_ssl.report.html_page import html_page
from nest_ssl.report.results_page import results_page
from nest_ssl.report.spectrograms import choose_example

ROOT = Path(__file__).resolve().parents[2]
AIMS = [each.name for each in fields(Aims)]
NAMED = 5  # experiments that an error lists

log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    check_is_experiment(arguments.experiment)
    above = (Path.cwd(), ROOT)
    experiment = read_experiment(
        arguments.experiment,
        data_reports=arguments.data_report,
        title=arguments.title,
        aims=replace(Aims(), **dict(arguments.aim)),
        environment={"report written by": code_state(ROOT), "report written on": hardware()},
        above=above,
    )
    example = None
    if arguments.channel_example:
        try:
            example = choose_example(*arguments.channel_example)
        except ValueError as error:  # the rest of the report is no worse for it
            log.warning("no channel example: %s", error)
            experiment.missing.append(f"no channel example: {error}")
    written = {
        "RESULTS.md": results_page(experiment, above),
        "report.html": html_page(experiment, example, datetime.now()),
    }
    for name, text in written.items():
        with replaced(experiment.folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    print("\n".join(summary(experiment)))
    for name in written:
        print(f"wrote {experiment.folder / name}")
    return 0


def check_is_experiment(folder: Path) -> None:
    """Raise FileNotFoundError for what is no folder, ValueError for one without a trace of an experiment."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"{folder} {what}; give the folder of an experiment, EXP_DIR/TAG")
    if is_experiment(folder):
        return
    if tags := experiments_in(folder):
        named = ", ".join(map(str, tags[:NAMED])) + (", ..." if len(tags) > NAMED else "")
        raise ValueError(f"{folder} is no experiment but holds {len(tags)}; give one: {named}")
    raise ValueError(
        f"{folder} is no experiment: it has no run directory (with metrics.jsonl or env.json), no "
        "scores.json and no .done/.stages; give EXP_DIR/TAG"
    )


def summary(experiment: Experiment) -> list[str]:
    """Give the answers for the terminal, a line each."""
    return [f"{answer.question} {_verdict(answer)}{answer.answer}" for answer in experiment.answers]


def _verdict(answer: Answer) -> str:
    return f"{answer.verdict.capitalize()}. " if answer.verdict in (MET, NOT_MET, CHANCE) else ""


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser("report", description=__doc__)
    add = parser.add_argument
    add("experiment", type=Path, metavar="EXP_DIR/TAG", help="folder of the experiment")
    add(
        "--aim",
        type=aim,
        action="append",
        default=[],
        metavar="NAME=SHARE",
        help=f"what is to be reached, repeatable: {', '.join(AIMS)}",
    )
    add("--title", metavar="TEXT", help="of both pages [the folder's name]")
    add(
        "--data-report",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="of data preparation, repeatable [those in the recipe's data folder]",
    )
    add(
        "--channel-example",
        type=Path,
        nargs=2,
        metavar=("SOURCE.jsonl", "SIMULATED.jsonl"),
        help="manifests before and after the channel: one utterance is shown",
    )
    return parser.parse_args(argv)


def aim(text: str) -> tuple[str, float | None]:
    """A name of Aims with a share between 0 and 1, or none: NAME=none takes a default aim away."""
    name, equals, value = text.partition("=")
    if name not in AIMS or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=SHARE with a NAME of {', '.join(AIMS)}")
    if value == "none":
        return name, None
    try:
        share = float(value)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: {value!r} is no share from 0 to 1, as in {name}=0.25")
    return name, share


if __name__ == "__main__":
    run(main)
