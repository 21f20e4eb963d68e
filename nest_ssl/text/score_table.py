"""The page of scores in Markdown, made from the object that score_json gives and scores.json holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nest_ssl.text.conditions import MEANINGS
from nest_ssl.text.keywords import DEFINITION
from nest_ssl.text.scores import COMPARED, FEW, HEADLINE

NAMED = 5  # keys that a line lists
UNSAID = 20  # keywords in no reference that a line lists
SHOWN_VALUES = 12  # of one condition; scores.json has all
METRIC_NAMES = {"cer": "CER", "wer": "WER", "kwer": "KWER", "cer_outside_keywords": "CER outside keywords"}
DASH = "-"

Found = Mapping[str, Any]


def page(found: Found, title: str, made: Sequence[str]) -> str:
    """Give SCORES.md: all of score_lines, and how it was made.

    made: lines of Markdown on commands, code, seeds and machines.
    """
    lines = [f"# {title}", "", *score_lines(found), "## How it was made", "", *made]
    return "\n".join(lines).rstrip() + "\n"


def score_lines(found: Found) -> list[str]:
    """Give the Markdown of everything in scores.json, sections with headings of the second level."""
    sections = (headline_lines, comparison_lines, keyword_lines, condition_lines, counted_lines)
    return [line for section in (*sections, definition_lines) for line in section(found)]


def headline_lines(found: Found) -> list[str]:
    """Give the table of all systems and outputs, with what was not decoded; no heading."""
    rows, baseline = found["rows"], found.get("baseline") or []
    metrics = [metric for metric in METRIC_NAMES if any(row.get(metric) for row in rows)]
    heads = ["system", "output", *(METRIC_NAMES[metric] for metric in metrics)]
    if baseline:
        heads += [f"relative CER gain over {_better(baseline)}", "p of gain"]
    lines = [_cells(heads), "|---" * len(heads) + "|"]
    for row in rows:
        mark = "**" if row["field"] == HEADLINE else ""
        cells = [row["system"], f"{mark}{row['kind']}{mark}", *(_rate(row.get(m), mark) for m in metrics)]
        lines.append(_cells(cells + (_gain(row.get("gain")) if baseline else [])))
    drawn = (found.get("bootstrap") or {}).get("unit", "utterance")
    lines += ["", f"In per cent, with 95 % bootstrap intervals over {drawn}s; bold: the headline output."]
    if baseline:
        lines[-1] += (
            " Relative gain: the share of the baseline's errors that is gone; below 0 there are more. p: how "
            "often a difference as large would come by chance if the two were equally good."
        )
    for lacking in found.get("not_decoded") or []:
        lines.append(
            f"{lacking['system']} has no {lacking['field']} in its rows: that output was not decoded, or the "
            "model has none."
        )
    return [*lines, ""]


def comparison_lines(found: Found) -> list[str]:
    """Give the section of paired comparisons between systems, of the headline output."""
    pairs: dict[tuple[str, str], dict[str, Found]] = {}
    for one in found.get("comparisons") or []:
        if one["field"] == HEADLINE:
            pairs.setdefault((one["a"], one["b"]), {})[one["metric"]] = one
    if not pairs:
        return []
    metrics = [metric for metric in COMPARED if any(metric in of for of in pairs.values())]
    heads = ["from", "to", *(f"{METRIC_NAMES[metric]}, change in points" for metric in metrics)]
    heads += [f"p of {METRIC_NAMES[metric]}" for metric in metrics]
    lines = ["## Comparisons", "", _cells(heads), "|---" * len(heads) + "|"]
    for (a, b), of in pairs.items():
        changes = [_change(of.get(metric)) for metric in metrics]
        lines.append(_cells([a, b, *changes, *(_p_values(of.get(metric)) for metric in metrics)]))
    lines += [
        "",
        "Below 0: fewer errors. p, twice: by the bootstrap draws of the interval / by swapping the two "
        "systems in random utterances. It is how often a difference as large would come by chance if the two "
        "were equally good; it does not say how large the difference is, and of 20 comparisons of equal "
        "systems one has a p below 0.05.",
        "",
    ]
    return lines


def keyword_lines(found: Found) -> list[str]:
    """Give the section of keywords by domain, of the headline output."""
    rows = [row for row in found["rows"] if row["field"] == HEADLINE and row.get("keywords")]
    if not rows:
        return []
    heads = ["system", "domain", "KWER", "recall", "precision", "F1", "said", "heard", "false"]
    heads += ["false an hour, speech without keywords", "false an hour, silence"]
    lines = ["## Keywords", "", _cells(heads), "|---" * len(heads) + "|"]
    for row in rows:
        for name, domain in row["keywords"].items():
            shares = [_percent(domain[key]) for key in ("recall", "precision", "f1")]
            counts = [str(domain[key]) for key in ("expected", "heard", "false")]
            alarms = [_per_hour(domain, "without_keywords"), _per_hour(domain, "silence")]
            cells = [row["system"], name, _rate(domain["kwer"]), *shares, *counts, *alarms]
            lines.append(_cells(cells))
    return [
        *lines,
        "",
        "Shares in per cent; said, heard and false are counts, of references, hypotheses and false keywords. "
        f"False an hour: in brackets how many hours there are; {DASH}: none, or no utterance states how long "
        "it is.",
        "",
    ]


def condition_lines(found: Found) -> list[str]:
    """Give the section with a table for each condition: its values, and every system's rates there."""
    rows = [row for row in found["rows"] if row["field"] == HEADLINE]
    names = list(dict.fromkeys(name for row in rows for name in row.get("conditions") or {}))
    same = found.get("same_for_all") or {}
    if not names and not same:
        return []
    lines = ["## By condition", ""]
    if same:
        told = ", ".join(f"{name}: {value}" for name, value in same.items())
        lines += [f"The same for all utterances: {told}.", ""]
    for name in names:
        lines += _condition(rows, name)
    if names:
        rounds = found["bootstrap"]["condition_rounds"]
        lines += [
            f"Intervals: {rounds} draws among the utterances of the group. *: fewer than {FEW} of them, too "
            "few for its figures to say much. p: two-sided, of equal CER in the group, from the same draws; "
            "of twenty groups in which nothing has changed, one is below 0.05 by chance.",
            "",
        ]
    return lines


def _condition(rows: Sequence[Found], name: str) -> list[str]:
    metrics = [m for m in COMPARED if any(row.get(m) for row in rows)]
    heads = [name, "utterances", "hours", "system", *(METRIC_NAMES[metric] for metric in metrics)]
    if len(rows) > 1:
        heads.append("p of CER")
    lines = [f"### {name[0].upper()}{name[1:]}", "", f"{_sentence(MEANINGS.get(name, name))}", ""]
    lines += [_cells(heads), "|---" * len(heads) + "|"]
    values = list(dict.fromkeys(value for row in rows for value in row["conditions"].get(name, {})))
    for value in values[:SHOWN_VALUES]:
        first = True
        for row in rows:
            group = row["conditions"].get(name, {}).get(value)
            if group is None:
                continue
            number = f"{group['utterances']}{'*' if group['few'] else ''}"
            cells = [value, number, f"{group['hours']:.2f}"] if first else ["", "", ""]
            cells += [row["system"], *(_rate(group.get(m)) for m in metrics)]
            if len(rows) > 1:
                p = group.get("p")
                cells.append(DASH if _none(p) else f"{_p(p)} against {group['against']}")
            lines.append(_cells(cells))
            first = False
    if len(values) > SHOWN_VALUES:
        lines += ["", f"and {len(values) - SHOWN_VALUES} more, in scores.json."]
    return [*lines, ""]


def counted_lines(found: Found) -> list[str]:
    """Give the section on what was counted, and what failed or was missing."""
    facts = found["counted"]
    audio = f"{facts['audio_s'] / 60:.1f} min of audio"
    if facts["audio_s"] >= 36_000:
        audio = f"{facts['audio_s'] / 3600:.1f} h of audio"
    if facts["without_duration"]:
        audio += f" ({facts['without_duration']} utterances state no duration)"
    lines = [
        "## What was counted",
        "",
        f"{facts['utterances']} utterances, {audio}, {facts['characters']} reference characters, "
        f"{facts['words']} reference words; {facts['without_speech']} references are empty "
        "(all that is written there is an insertion).",
    ]
    if "keywords" in facts:
        lines.append(
            f"{facts['keywords']} keywords stand {facts['keyword_occurrences']} times in the references, "
            f"with {facts['keyword_characters']} characters."
        )
    if unsaid := found.get("keywords_not_said"):
        shown = ", ".join(f"`{word}`" for word in unsaid[:UNSAID]) + (", ..." if len(unsaid) > UNSAID else "")
        lines.append(f"In no reference, as whole words: {len(unsaid)} keywords, {shown}.")
    if left_out := facts.get("left_out"):
        lines.append(
            f"{left_out} utterances that a system or the references lack were left out, as --mode present "
            "asks for; an utterance that failed counts as an empty text, each character and word of it as a "
            "deletion."
        )
    else:
        lines.append(
            "Nothing is left out: an utterance that failed, or that a file lacks, counts as an empty text, "
            "each character and word of it as a deletion."
        )
    heads = ["system", "output", "failed", "missing", "without this output", "empty texts"]
    lines += ["", _cells(heads), "|---" * len(heads) + "|"]
    for row in found["rows"]:
        if row["field"] == HEADLINE or row["absent"]:
            counts = (len(row["failed"]), len(row["missing"]), len(row["absent"]), row["empty"])
            lines.append(_cells([row["system"], row["kind"], *map(str, counts)]))
    for row in found["rows"]:
        lost = [*row["failed"], *row["missing"]]
        if row["field"] == HEADLINE and lost:
            shown = ", ".join(f"`{key}`" for key in lost[:NAMED]) + (", ..." if len(lost) > NAMED else "")
            lines += ["", f"{row['system']}: failed or missing: {shown}"]
    return [*lines, ""]


def definition_lines(found: Found) -> list[str]:
    """Give the section that defines every figure."""
    drawn = found["bootstrap"]
    lines = ["## Definitions", "", "* Text, of references and hypotheses alike:"]
    lines += [f"  * {_sentence(rule)}" for rule in found.get("rules") or []]
    lines += [
        "* CER, WER: substitutions, deletions and insertions over the characters (spaces included) or words "
        "of the references, summed over the set, as jiwer counts them.",
    ]
    if "keywords" in found["counted"]:
        lines.append(f"* {DEFINITION}")
        lines.append(
            "* CER outside keywords: the errors of CER that are not on keyword characters, over the other "
            "characters of the references."
        )
        lines.append(
            "* False keywords an hour: over utterances in whose reference no keyword stands, and over those "
            "with an empty reference, where the manifest states how long they are."
        )
    unit = drawn.get("unit", "utterance")
    of = f"{drawn.get('units', 'all')} {unit}s" if unit == "utterance" else f"{drawn['units']} {unit}s, whole"
    lines.append(
        f"* Intervals: {drawn['rounds']} draws of as many as there are, out of {of}, with replacement (seed "
        f"{drawn['seed']}), the same draws for all rows; 2.5 % and 97.5 % quantiles (Bisani and Ney, 2004). "
        "p: two-sided, of equal rates, from the same draws: twice the share in which the other system is "
        "better."
    )
    if found.get("baseline"):
        several = len(found["baseline"]) > 1
        lines.append(
            f"* Relative gain: 1 - CER / CER of {_better(found['baseline'])} in the same output"
            + (" (the better one on this set, held fixed while drawing)." if several else ".")
        )
    return [*lines, ""]


def summary(row: Found) -> str:
    """Give one line on a row of scores.json, for the terminal."""
    rates = " ".join(f"{m.upper()} {_percent(row[m]['rate'])}" for m in COMPARED if row.get(m))
    gain = row.get("gain")
    told = f" gain {_percent(gain['gain'])} against {gain['against']}" if gain else ""
    return f"{row['system']} ({row['kind']}): {rates}{told}"


def _better(baseline: Sequence[str]) -> str:
    return baseline[0] if len(baseline) == 1 else f"the better of {' and '.join(baseline)}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _cells(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _rate(rate: Found | None, mark: str = "") -> str:
    if not rate or _none(rate.get("rate")):
        return "no units" if rate else DASH
    return f"{mark}{_percent(rate['rate'])}{mark} [{_percent(rate['low'])}, {_percent(rate['high'])}]"


def _change(one: Found | None) -> str:
    if one is None or _none(one.get("difference")):
        return DASH
    return " ".join([_signed(one["difference"]), f"[{_signed(one['low'])}, {_signed(one['high'])}]"])


def _p_values(one: Found | None) -> str:
    if one is None or _none(one.get("difference")):
        return DASH
    return f"{_p(one['p'])} / {_p(one['p_permutation'])}"


def _gain(gain: Found | None) -> list[str]:
    if not gain:
        return [DASH, DASH]
    if _none(gain["gain"]):
        return [f"none to make over {gain['against']}", DASH]
    bounds = f"[{_percent(gain['low'])}, {_percent(gain['high'])}]"
    return [f"{_percent(gain['gain'])} {bounds} over {gain['against']}", _p(gain["p_value"])]


def _per_hour(domain: Found, where: str) -> str:
    rate, hours = domain[f"false_per_hour_{where}"], domain[f"hours_{where}"]
    return DASH if _none(rate) else f"{rate:.1f} ({hours:.2f} h)"


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.001 else "< 0.001"


def _none(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _percent(share: float | None) -> str:
    return DASH if share is None or math.isnan(share) else f"{100 * share:.2f}"


def _signed(share: float | None) -> str:
    return DASH if share is None or math.isnan(share) else f"{100 * share:+.2f}"
