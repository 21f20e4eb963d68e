"""Score what systems wrote: CER, WER and keyword errors with 95 % bootstrap intervals, as a page of Markdown.

Example:
  python -m nest_ssl.bin.score --hypotheses base=exp/nano/decode/base.jsonl \
    --hypotheses lora=exp/nano/decode/lora.jsonl --baseline base --keywords keywords.txt --out RESULTS.md

Rows are those of nest_ssl.bin.decode: key, reference, text, text_llm, text_ctc.  Each of --fields is a row of
the table for each system, in the order given.  Utterances that failed, or that a file lacks while another or
--references has them, count as deleted, and are named.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
from pathlib import Path

from nest_ssl.bin.arguments import output_file
from nest_ssl.bin.made_by import code_state, hardware, run_lines, training_table
from nest_ssl.bin.terminal import run
from nest_ssl.files.atomic import replaced
from nest_ssl.text.bootstrap import ROUNDS
from nest_ssl.text.error_rates import check_installed
from nest_ssl.text.hypotheses import System, joined_references, read_references, read_system
from nest_ssl.text.keyword_choice import TOP, frequent_terms
from nest_ssl.text.keywords import Keywords, read_keywords
from nest_ssl.text.score_table import as_json, page, summary
from nest_ssl.text.scoring import FIELDS, HEADLINE, KINDS, Scores, score

NO_KEYWORDS = "no term is frequent in {}, so there is no KWER; --keywords FILE gives a list"

log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    check_installed()
    systems = [read_system(name, path) for name, path in arguments.hypotheses]
    stated = read_references(arguments.references) if arguments.references else None
    references = joined_references(systems, stated)
    keywords = keywords_of(arguments)
    scores = score(
        systems,
        references,
        arguments.fields,
        keywords,
        arguments.baseline,
        arguments.rounds,
        arguments.seed,
    )
    write(scores, arguments, argv, systems, keywords)
    for row in scores.rows:
        if row.field == HEADLINE or arguments.out is None:
            print(summary(row))
    lost = sum(len(r.outputs.failed) + len(r.outputs.missing) for r in scores.rows if r.field == HEADLINE)
    if lost:
        print(f"{lost} utterances failed or are missing; they count as deleted")
    return 0


def keywords_of(arguments: argparse.Namespace) -> Keywords | None:
    if arguments.keywords:
        return read_keywords(arguments.keywords)
    if arguments.keywords_from:
        texts = [said.text for said in read_references(arguments.keywords_from).values()]
        terms = frequent_terms(texts, arguments.keywords_top)
        if terms:
            return Keywords(terms)
        log.warning("%s", NO_KEYWORDS.format(listed(arguments.keywords_from)))
    return None


def listed(paths: list[Path]) -> str:
    return ", ".join(map(str, paths))


def write(
    scores: Scores,
    arguments: argparse.Namespace,
    argv: list[str],
    systems: list[System],
    keywords: Keywords | None,
) -> None:
    """Write the page, and what programs read, with the list of keywords."""
    made = [
        f"* Scored by `python -m nest_ssl.bin.score {shlex.join(argv)}`",
        f"* Code: {code_state(Path(__file__).resolve().parents[2])}; scored on {hardware()}",
    ]
    if arguments.keywords_from:
        source = listed(arguments.keywords_from)
        chosen = f"the {arguments.keywords_top} most frequent terms of {source}"
        made.append(f"* Keywords: {chosen if keywords else NO_KEYWORDS.format(source)}")
    made += [f"* {note}" for note in arguments.note]
    for name, folder in arguments.run:
        made += run_lines(name, folder)
    if arguments.out:
        with replaced(arguments.out) as temporary:
            training = training_table(arguments.run)
            text = page(scores, arguments.title, arguments.baseline, made, training)
            temporary.write_text(text, encoding="utf-8")
        print(f"wrote {arguments.out}")
    if arguments.json:
        found = {"hypotheses": {s.name: str(s.path) for s in systems}, **as_json(scores)}
        found["keywords"] = list(keywords.words) if keywords else None
        with replaced(arguments.json) as temporary:
            temporary.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m nest_ssl.bin.score",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--hypotheses",
        type=named,
        action="append",
        nargs="+",
        required=True,
        metavar="NAME=FILE",
        help="JSON lines of a system; may be repeated, the table keeps the order",
    )
    parser.add_argument(
        "--references",
        type=Path,
        action="append",
        metavar="FILE",
        help="manifest or messages lines of the set",
    )
    parser.add_argument("--fields", type=names, default=list(FIELDS), metavar="F,F", help=",".join(FIELDS))
    parser.add_argument(
        "--baseline",
        type=names,
        default=[],
        metavar="NAME,NAME",
        help="gains count against the better of these",
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--keywords", type=Path, metavar="FILE", help="keywords, one a line")
    choice.add_argument(
        "--keywords-from",
        type=Path,
        action="append",
        metavar="FILE",
        help="take the most frequent terms of these training texts as keywords",
    )
    parser.add_argument(
        "--keywords-top", type=positive, default=TOP, metavar="N", help="how many [%(default)s]"
    )
    parser.add_argument(
        "--out", type=output_file, metavar="FILE", help="page of Markdown to write, RESULTS.md"
    )
    parser.add_argument("--json", type=output_file, metavar="FILE", help="the same figures for programs")
    parser.add_argument("--title", default="Results", help="of the page")
    parser.add_argument(
        "--note", action="append", default=[], help="a line for 'How it was made'; repeatable"
    )
    parser.add_argument(
        "--run",
        type=named,
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="run directory of a training: its losses, hours, command and hardware go onto the page",
    )
    parser.add_argument("--rounds", type=positive, default=ROUNDS, metavar="N", help="draws [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="of the draws [%(default)s]")
    arguments = parser.parse_args(argv)
    arguments.hypotheses = [pair for group in arguments.hypotheses for pair in group]
    systems = [name for name, _ in arguments.hypotheses]
    for name in systems:
        if systems.count(name) > 1:
            parser.error(f"--hypotheses: the name {name} comes twice; each system needs its own")
    for name in arguments.baseline:
        if name not in systems:
            parser.error(f"--baseline {name}: --hypotheses has {', '.join(systems)}")
    for field in arguments.fields:
        if field not in (HEADLINE, *KINDS):
            parser.error(f"--fields {field}: a hypothesis has {', '.join((HEADLINE, *KINDS))}")
    if HEADLINE not in arguments.fields:
        parser.error(f"--fields must have {HEADLINE!r}, the headline; it is {','.join(arguments.fields)}")
    return arguments


def named(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r} must be NAME=PATH, such as base=decode/base.jsonl")
    return name, Path(path)


def names(text: str) -> list[str]:
    found = [name.strip() for name in text.split(",") if name.strip()]
    return list(dict.fromkeys(found))


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


if __name__ == "__main__":
    run(main)
