"""Score what systems wrote: CER, WER and keyword errors with 95 % bootstrap intervals, compared in pairs and
broken down by codec, loss and noise, as a page of Markdown and as figures for programs.

Example:
  python -m nest_ssl.bin.score --hypotheses base=base.jsonl lora=lora.jsonl \\
      --references test.jsonl --baseline base --keywords keywords.txt \\
      --out SCORES.md --json scores.json

Files are rows of nest_ssl.bin.decode (key, text, text_llm, text_ctc) and manifests, or Kaldi's `text`, or
sclite's .trn. Utterances that failed, or that a file lacks, count as deleted and are named.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from nest_ssl.bin.arguments import Parser, Rare, output_file
from nest_ssl.bin.made_by import code_state, hardware
from nest_ssl.bin.terminal import progress_bar, run
from nest_ssl.files.atomic import replaced
from nest_ssl.files.manifest import write_rows
from nest_ssl.text.alignment_file import LEGEND, aligned_lines
from nest_ssl.text.bootstrap import ROUNDS
from nest_ssl.text.error_rates import check_installed
from nest_ssl.text.hypotheses import (
    System,
    Utterance,
    check_lines,
    joined_references,
    outputs_as_references,
    present_everywhere,
    read_references,
    read_system,
    with_metadata,
)
from nest_ssl.text.keyword_choice import TOP, frequent_terms
from nest_ssl.text.keyword_files import read_keyword_lists, spellings
from nest_ssl.text.keywords import KeywordLists, Keywords
from nest_ssl.text.reading import Languages
from nest_ssl.text.score_json import as_json, utterance_rows
from nest_ssl.text.score_table import page, summary
from nest_ssl.text.scored_text import ScoringRules, words_of
from nest_ssl.text.scores import FIELDS, HEADLINE, KINDS, UNITS, Scores
from nest_ssl.text.scoring import Advance, score
from nest_ssl.text.transcript_files import FORMATS

NO_KEYWORDS = "no term is frequent in {}, so there is no KWER; --keywords FILE gives a list"
SWAPPED = (
    "--references {} has rows of decoding, and --hypotheses {} has none: were the two given for one another?"
)

log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    check_installed()
    rules = rules_of(arguments)
    systems = [read_system(name, path, arguments.format) for name, path in arguments.hypotheses]
    references, left_out = references_of(systems, arguments)
    scores = score(
        systems,
        references,
        arguments.fields,
        keywords_of(arguments, rules, references),
        arguments.baseline,
        arguments.rounds,
        arguments.seed,
        rules=rules,
        compare=arguments.compare,
        unit=arguments.resample_by,
        progress=shown,
    )
    found = {"hypotheses": {s.name: str(s.path) for s in systems}, **as_json(scores)}
    found["counted"]["left_out"] = left_out
    write(found, scores, arguments, argv)
    for row in found["rows"]:
        if row["field"] == HEADLINE or arguments.out is None:
            print(summary(row))
    headlines = [row for row in found["rows"] if row["field"] == HEADLINE]
    if lost := sum(len(row["failed"]) + len(row["missing"]) for row in headlines):
        print(f"{lost} utterances failed or are missing; they count as deleted")
    if left_out:
        print(f"{left_out} utterances that a system or the references lack were left out (--mode present)")
    return 0


def references_of(systems: list[System], arguments: argparse.Namespace) -> tuple[dict[str, Utterance], int]:
    """Give what was said in the utterances to be scored, and how many others were left out."""
    stated = read_references(arguments.references, arguments.format) if arguments.references else None
    if path := outputs_as_references(systems, arguments.references or [], KINDS, arguments.format):
        log.warning("%s", SWAPPED.format(path, systems[0].path))
    foreign: set[str] = set()
    if stated is not None:
        for system in systems:
            check_lines(system, stated)
            foreign |= system.rows.keys() - stated.keys() if arguments.mode == "present" else set()
    for system in systems:
        for key in foreign & system.rows.keys():
            del system.rows[key]
    joined = joined_references(systems, stated)
    kept = present_everywhere(systems, joined) if arguments.mode == "present" else joined
    return with_metadata(kept, arguments.metadata), len(joined) - len(kept) + len(foreign)


def rules_of(arguments: argparse.Namespace) -> ScoringRules:
    return ScoringRules(**{name: getattr(arguments, name) for name in switches()})


def switches() -> dict[str, bool]:
    """Give the rules of scoring that can be switched, with what they are without a word."""
    return {f.name: f.default for f in fields(ScoringRules) if isinstance(f.default, bool)}


def keywords_of(
    arguments: argparse.Namespace, rules: ScoringRules, references: Mapping[str, Utterance]
) -> KeywordLists | None:
    # keywords state no language, and "veinticinco" is 25 in Spanish references, 5G is 五g in Chinese ones
    characters = Languages(references.values()).characters(rules)
    if arguments.keywords:
        return read_keyword_lists(arguments.keywords, *characters)
    if arguments.keywords_from:
        texts = [said.text for said in read_references(arguments.keywords_from).values()]
        terms = frequent_terms(texts, arguments.keywords_top)
        if terms:
            return KeywordLists({"all": Keywords((spellings(term, characters) for term in terms), str)})
        log.warning("%s", NO_KEYWORDS.format(listed(arguments.keywords_from)))
    return None


def listed(paths: list[Path]) -> str:
    return ", ".join(map(str, paths))


@contextmanager
def shown(total: int, unit: str, what: str) -> Iterator[Advance]:
    """Progress of one pass: a bar on the terminal, a line a minute in a log."""
    with progress_bar(total, unit, what) as bar:
        yield bar.update


def write(found: dict, scores: Scores, arguments: argparse.Namespace, argv: list[str]) -> None:
    """Write the files that were asked for."""
    made = [
        f"* Scored by `python -m nest_ssl.bin.score {shlex.join(argv)}`",
        f"* Code: {code_state(Path(__file__).resolve().parents[2])}; scored on {hardware()}",
    ]
    if arguments.keywords_from:
        source = listed(arguments.keywords_from)
        chosen = f"the {arguments.keywords_top} most frequent terms of {source}"
        made.append(f"* Keywords: {chosen if found['keywords'] else NO_KEYWORDS.format(source)}")
    made += [f"* {note}" for note in arguments.note]
    if arguments.out:
        with replaced(arguments.out) as temporary:
            temporary.write_text(page(found, arguments.title, made), encoding="utf-8")
    if arguments.json:
        with replaced(arguments.json) as temporary:
            temporary.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    if arguments.utterances:
        write_rows(arguments.utterances, utterance_rows(scores))
    if arguments.alignments:
        with replaced(arguments.alignments) as temporary, open(temporary, "w", encoding="utf-8") as file:
            for line in alignment_lines(scores):
                file.write(f"{line}\n")
    for path in (arguments.out, arguments.json, arguments.utterances, arguments.alignments):
        if path:
            print(f"wrote {path}")


def alignment_lines(scores: Scores) -> Iterator[str]:
    """Give the words of every reference above those of every system, utterance by utterance."""
    counter = scores.counter
    keywords = next(iter(counter.domains.values()), None)
    headlines = [row for row in scores.rows if row.field == HEADLINE]
    missing = {row.system: set(row.outputs.missing) for row in headlines}
    yield from (*LEGEND, "")
    for i, key in enumerate(counter.keys):
        for row in headlines:
            words = words_of(row.counts.hypotheses[i])
            notes = [row.system] if len(headlines) > 1 else []
            if key in row.outputs.errors:
                notes.append(f"failed: {row.outputs.errors[key]}")
            elif key in missing[row.system]:
                notes.append("missing")
            yield from aligned_lines(key, counter.words[i], words, None, keywords, notes)
            yield ""


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser("score", description=__doc__)
    add_inputs(parser)
    add_counting(parser)
    add_outputs(parser)
    arguments = parser.parse_args(argv)
    arguments.hypotheses = [pair for group in arguments.hypotheses for pair in group]
    for name in ("references", "metadata", "keywords", "keywords_from"):
        setattr(arguments, name, [path for group in getattr(arguments, name) or [] for path in group])
    systems = [name for name, _ in arguments.hypotheses]
    for name in systems:
        if systems.count(name) > 1:
            parser.error(f"--hypotheses: the name {name} comes twice; each system needs its own: NAME=FILE")
    for name in arguments.baseline:
        if name not in systems:
            parser.error(f"--baseline {name}: --hypotheses has {', '.join(systems)}")
    for pair in arguments.compare or []:
        if len(pair) != 2 or not set(pair) <= set(systems):
            parser.error(f"--compare {','.join(pair)}: must be two of {', '.join(systems)}, such as A,B")
    for field in arguments.fields or []:
        if field not in (HEADLINE, *KINDS):
            parser.error(f"--fields {field}: a hypothesis has {', '.join((HEADLINE, *KINDS))}")
    if arguments.fields is not None and HEADLINE not in arguments.fields:
        parser.error(f"--fields must have {HEADLINE!r}, the headline; it is {','.join(arguments.fields)}")
    return arguments


def add_inputs(parser: Parser) -> None:
    group = parser.add_argument_group("what is scored")
    group.add_argument(
        "--hypotheses",
        type=system,
        action="append",
        nargs="+",
        required=True,
        metavar="NAME=FILE",
        help="what each system wrote; the tables keep the order",
    )
    group.add_argument(
        "--references",
        type=Path,
        action="append",
        nargs="+",
        metavar="FILE",
        help="manifest, messages lines or texts of the set [in the rows]",
    )
    group.add_argument(
        "--metadata",
        type=Path,
        action="append",
        nargs="+",
        metavar="FILE",
        help=Rare("manifests to take channel, lang, speaker, duration from"),
    )
    group.add_argument(
        "--format",
        choices=FORMATS,
        default="auto",
        metavar="F",
        help=Rare(f"of texts: {', '.join(FORMATS)} [%(default)s]"),
    )
    group.add_argument(
        "--mode",
        choices=("all", "present"),
        default="all",
        help="present: only utterances that every system has [%(default)s]",
    )
    group.add_argument(
        "--fields", type=names, metavar="F,F", help=Rare(f"outputs to score [{','.join(FIELDS)}]")
    )


def add_counting(parser: Parser) -> None:
    group = parser.add_argument_group("how it is counted and compared")
    choice = group.add_mutually_exclusive_group()
    choice.add_argument(
        "--keywords",
        action="append",
        nargs="+",
        metavar="FILE",
        help="keywords, one a line, [domain] headings; or DOMAIN=FILE",
    )
    choice.add_argument(
        "--keywords-from",
        type=Path,
        action="append",
        nargs="+",
        metavar="FILE",
        help="take the most frequent terms of these texts as keywords",
    )
    group.add_argument(
        "--keywords-top", type=positive, default=TOP, metavar="N", help=Rare("how many [%(default)s]")
    )
    group.add_argument(
        "--baseline", type=names, default=[], metavar="A,B", help="gains count against the better of these"
    )
    group.add_argument(
        "--compare",
        type=names,
        action="append",
        metavar="A,B",
        help="test B against A [the one before, the baseline]; repeatable",
    )
    group.add_argument(
        "--resample-by",
        choices=UNITS,
        default=UNITS[0],
        help="what the bootstrap draws [%(default)s]",
    )
    group.add_argument(
        "--rounds", type=positive, default=ROUNDS, metavar="N", help=Rare("draws [%(default)s]")
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help=Rare("of the draws [%(default)s]"))
    for name, default in switches().items():
        option, word = name.replace("_", "-"), "leave out" if default else "apply"
        group.add_argument(
            f"--no-{option}" if default else f"--{option}",
            dest=name,
            action="store_false" if default else "store_true",
            help=Rare(f"{word} the rule {option} (docs/scoring.md)"),
        )


def add_outputs(parser: Parser) -> None:
    group = parser.add_argument_group("what is written")
    add = group.add_argument
    add("--out", type=output_file, metavar="FILE", help="page of Markdown, SCORES.md")
    add("--json", type=output_file, metavar="FILE", help="all figures for programs, scores.json")
    add("--utterances", type=output_file, metavar="FILE", help="a row for each system and utterance")
    add("--alignments", type=output_file, metavar="FILE", help="references above hypotheses, to read")
    add("--title", default="Scores", metavar="TEXT", help=Rare("of the page [%(default)s]"))
    add("--note", action="append", default=[], help=Rare("a line for 'How it was made'; repeatable"))


def system(text: str) -> tuple[str, Path]:
    """A system's name and file; a file alone has the name of the file."""
    if "=" in text and not Path(text).is_file():
        return named(text)
    return Path(text).stem, Path(text)


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
