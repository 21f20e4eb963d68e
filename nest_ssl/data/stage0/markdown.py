"""STAGE0_REPORT.md: the report as text, a function of STAGE0_REPORT.json alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nest_ssl.data.annotation_rules import RULES
from nest_ssl.data.length_limits import preview_table

WHAT = {"simulate": "through a simulated telephone channel", "upsample": "raised to 16 kHz"}
# What a row was dropped for, by the step that did it; sources find some of the annotation errors.
KINDS = {
    "read": "unusable in the source",
    "annotation": "annotation errors",
    "length": "by length",
    "channel": "audio not made",
    "messages": "no messages line",
}
LONGEST_CELL = 120


def render_markdown(report: Mapping[str, Any]) -> str:
    """Give the whole page."""
    sets = report["sets"]
    parts = ["# Stage 0: data", "", *([f"**{report['note']}**", ""] if report.get("note") else [])]
    parts += [table(*overview(report)), ""]
    for name, section in sets.items():
        parts += _set(name, section)
    parts += ["## FunASR's limits", "", "Written to `funasr_limits.yaml`.", ""]
    parts += [table(*limits_rows(report)), ""]
    parts += ["## How it was made", "", "```", report["command"], "```", ""]
    parts += [table(("what", "value"), made_rows(report)), ""]
    return "\n".join(parts)


def overview(report: Mapping[str, Any]) -> tuple[Sequence[str], list[list[str]]]:
    """Head and rows of the table of sets."""
    head = ("set", "source", "raw", "valid", "train", "dev", "dropped", "hours (train + dev)")
    rows = []
    total: dict[str, float] = dict.fromkeys(("raw", "valid", "train", "dev", "dropped", "hours"), 0)
    for name, section in report["sets"].items():
        counts, hours = section["counts"], section["hours"]
        kept = hours["train"] + hours["dev"]
        source = f"{', '.join(section['sources'])}, {WHAT[section['channel']]}"
        dropped = f"{counts['dropped']:,}" + (f" ({by_kind(section)})" if section["dropped"] else "")
        numbers = [f"{counts[column]:,}" for column in ("raw", "valid", "train", "dev")]
        parts = f"{in_hours(kept)} ({in_hours(hours['train'])} + {in_hours(hours['dev'])})"
        rows.append([name, source, *numbers, dropped, parts])
        for column in ("raw", "valid", "train", "dev", "dropped"):
            total[column] += counts[column]
        total["hours"] += kept
    if len(rows) > 1:
        numbers = [f"{total[column]:,}" for column in ("raw", "valid", "train", "dev", "dropped")]
        rows.append(["all", "", *numbers, in_hours(total["hours"])])
    return head, rows


def by_kind(section: Mapping[str, Any]) -> str:
    """Give what the rows were dropped for in a few words: 571 annotation errors, 3,143 by length."""
    rows = dict.fromkeys(KINDS, 0)
    for drop in section["dropped"]:
        rows["annotation" if drop["reason"] in RULES else drop["step"]] += drop["rows"]
    return ", ".join(f"{count:,} {KINDS[step]}" for step, count in rows.items() if count)


def in_hours(hours: float) -> str:
    """Give hours with as many digits as say something."""
    return f"{hours:,.1f}" if hours >= 100 else f"{hours:.2f}" if hours >= 1 else f"{hours:.4f}"


def _set(name: str, section: Mapping[str, Any]) -> list[str]:
    counts = section["counts"]
    parts = [f"## {name}", "", in_sentences(section), "", "### Dropped", ""]
    parts += [table(*dropped_rows(section)) if section["dropped"] else "Nothing.", ""]
    parts += ["### Lengths", "", table(*summary_rows(section)), "", histogram_table(section["durations"]), ""]
    parts += [f"Length limits, shown before they were applied to {_annotated(counts, section):,} rows:", ""]
    parts += [preview_table(section["length_limits"]["preview"]), ""]
    if section["channels"]:
        parts += ["### Channels", "", *channel_lines(section["channels"]), ""]
    parts += ["### Sample rows", ""]
    for which, rows in section["samples"].items():
        if rows:
            head = tuple(rows[0])
            parts += [
                f"{which}:",
                "",
                table(head, [[_cell(row[column]) for column in head] for row in rows]),
                "",
            ]
    return parts


def in_sentences(section: Mapping[str, Any]) -> str:
    """What was taken from the sources, and how it was divided."""
    counts, split = section["counts"], section["split"]
    parts = [f"{', '.join(section['sources'])}: {section['in_source']:,} utterances"]
    if section["not_selected"]:
        left = ", ".join(f"{number:,} {reason}" for reason, number in section["not_selected"].items())
        parts.append(f", of which {left} were not selected")
    parts.append(
        f". {counts['raw']:,} raw = {counts['train']:,} train + {counts['dev']:,} dev + "
        f"{counts['dropped']:,} dropped. Divided by {' and '.join(split['by'])}: "
        f"{split['train']['groups']:,} in train, {split['dev']['groups']:,} in dev, none in both."
    )
    if split["note"]:
        parts.append(f" Note: {split['note']}.")
    rates = ", ".join(f"{number:,} of {rate} Hz" for rate, number in section["source_rates"].items())
    if rates:
        parts.append(f" Source audio: {rates}.")
    return "".join(parts)


def dropped_rows(section: Mapping[str, Any]) -> tuple[Sequence[str], list[list[str]]]:
    """Head and rows of the table of reasons."""
    head = ("step", "reason", "rows", "rows that have it", "hours")
    return head, [
        [
            drop["step"],
            drop["reason"],
            f"{drop['rows']:,}",
            f"{drop['rows_with_it']:,}",
            f"{drop['hours']:.3f}",
        ]
        for drop in section["dropped"]
    ]


def summary_rows(section: Mapping[str, Any]) -> tuple[Sequence[str], list[list[str]]]:
    """Head and rows of the table of lengths and levels."""
    measured = section["out_level"]
    found = {
        "duration (s)": section["lengths"]["duration_s"],
        "speech_length (10 ms frames)": section["lengths"]["speech_length"],
        "text_length (LLM tokens)": section["lengths"]["text_length"],
        "source level (dBov, active)": section["source_level_dbov"],
        "source activity (share)": section["source_activity"],
        f"output level (dBov, {measured['files']} files)": measured["level_dbov"],
        f"output activity ({measured['files']} files)": measured["activity"],
        f"output peak ({measured['files']} files)": measured["peak"],
    }
    columns = ("min", "p1", "p50", "p95", "p99", "max", "mean")
    rows = [
        [name, *(f"{values[column]:g}" for column in columns)] for name, values in found.items() if values
    ]
    return ("", *columns), rows


def histogram_table(histogram: Mapping[str, Any]) -> str:
    """Durations as a table of counts, in at most ten intervals."""
    edges, counts = histogram["edges"], histogram["counts"]
    step = -(-(len(edges) - 1) // 10)
    rows = []
    for i in range(0, len(edges) - 1, step):
        end = min(i + step, len(edges) - 1)
        sums = [f"{sum(values[i:end]):,}" for values in counts.values()]
        last = end == len(edges) - 1 and histogram.get("beyond")
        rows.append([f"{edges[i]:g} and more" if last else f"{edges[i]:g} to {edges[end]:g}", *sums])
    return table((histogram["unit"], *counts), rows)


def channel_lines(channels: Mapping[str, Any]) -> list[str]:
    """Presets, codecs, noise and losses, one table each."""
    lines = []
    for name in ("presets", "codecs", "noise", "recorders"):
        total = sum(channels[name].values()) or 1
        rows = [[key, f"{count:,}", f"{100 * count / total:.1f} %"] for key, count in channels[name].items()]
        if rows and set(channels[name]) != {"none"}:
            lines += [table((name, "utterances" if name != "codecs" else "legs", "share"), rows), ""]
    lines.append(loss_sentence(channels))
    return lines


def loss_sentence(channels: Mapping[str, Any]) -> str:
    """How many utterances lost frames, and how many of them."""
    every, with_loss = channels["utterances"], channels["utterances_with_loss"]
    said = f"{with_loss:,} of {every:,} utterances ({100 * with_loss / max(1, every):.1f} %) lost frames"
    summary = channels["lost_percent_summary"]
    return said + (
        f"; those lost {summary['p50']:g} % of them in the median, {summary['max']:g} % at most."
        if summary
        else "."
    )


def limits_rows(report: Mapping[str, Any]) -> tuple[Sequence[str], list[list[str]]]:
    """Head and rows of FunASR's keys with what they count."""
    limits = report["funasr_limits"]
    units = limits.get("units", {})
    return ("dataset_conf", "value", "what it counts"), [
        [key, str(value), _cell(units.get(key, ""))] for key, value in limits["dataset_conf"].items()
    ]


def made_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Channels, seed, tokenizer, versions."""
    rows = [[f"audio of {name}", said] for name, said in report.get("channels", {}).items()]
    rows += [["seed", str(report["seed"])], ["written", report["written"]]]
    if report.get("tokenizer"):
        rows.append(
            ["tokenizer", f"{report['tokenizer']['folder']} ({report['tokenizer']['vocab_size']:,} tokens)"]
        )
    return rows + [[name, str(version)] for name, version in report["versions"].items()]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Give a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows])


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    text = " ".join(text.replace("|", "\\|" if "\\|" not in text else "|").split())
    return text if len(text) <= 4 * LONGEST_CELL else text[: 4 * LONGEST_CELL - 1] + "…"


def _annotated(counts: Mapping[str, int], section: Mapping[str, Any]) -> int:
    before = sum(drop["rows"] for drop in section["dropped"] if drop["step"] in ("read", "annotation"))
    return counts["raw"] - before
