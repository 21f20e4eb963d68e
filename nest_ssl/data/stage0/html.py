"""STAGE0_REPORT.html: the same report to look at, one file without script or network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from nest_ssl.data.stage0.figures import bars, histogram
from nest_ssl.data.stage0.markdown import (
    dropped_rows,
    in_hours,
    in_sentences,
    limits_rows,
    loss_sentence,
    made_rows,
    overview,
    summary_rows,
)

NUMBER = re.compile(r"-?[\d,.]+( \([\d.]+ %\))?")

STYLE = """
:root{--ink:#1c2733;--soft:#5b6b7b;--line:#dde3ea;--paper:#fff;--back:#f4f6f9;--a:#2f6fb3;--b:#e08a2c;--c:#a9b4c0}
@media (prefers-color-scheme:dark){:root{--ink:#e6ebf1;--soft:#9fb0c0;--line:#33404d;--paper:#1a222b;
--back:#11171d;--a:#6aa5e3;--b:#f0a552;--c:#5b6b7b}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,"Noto Sans CJK SC",
"PingFang SC","Microsoft YaHei",sans-serif}
main{max-width:1120px;margin:0 auto;padding:24px 20px 60px}
h1{font-size:1.7rem;margin:.2em 0 .6em}h2{font-size:1.3rem;margin:2em 0 .5em}
h3{font-size:1rem;margin:0 0 .5em}
.card{background:var(--paper);border:1px solid var(--line);border-radius:8px;padding:14px 16px;min-width:0}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:14px;margin:14px 0}
.counts{display:grid;grid-template-columns:repeat(auto-fit,minmax(104px,1fr));gap:10px;margin:14px 0}
.counts .card{padding:10px 12px}.counts b{display:block;font-size:1.35rem;line-height:1.2}
.counts span,.note,figcaption{color:var(--soft);font-size:.86rem}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;vertical-align:top;padding:6px 16px 6px 0;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:600;white-space:nowrap}td{overflow-wrap:break-word;min-width:3em;max-width:34em}
td:first-child{white-space:nowrap;font-weight:500}td.text{min-width:15em}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tr.chosen td{font-weight:600}
svg{display:block;width:100%;height:auto}svg text{font-size:13px;fill:var(--soft)}
svg .grid{stroke:var(--line)}svg .a{fill:var(--a)}svg .b{fill:var(--b)}svg .c{fill:var(--c)}
.key .a,.bars i{background:var(--a)}.key .b{background:var(--b)}.key .c{background:var(--c)}
.bars{display:grid;grid-template-columns:minmax(5em,auto) 1fr auto;gap:4px 10px;align-items:center;
font-size:.86rem}.bars .label,.bars span{color:var(--soft)}
.bars .label{text-align:right;overflow-wrap:anywhere}
.bars .value{white-space:nowrap;font-variant-numeric:tabular-nums}.bars i{display:block;height:14px;
border-radius:2px}
figure{margin:0}.key i{display:inline-block;width:10px;height:10px;border-radius:2px;margin:0 5px 0 12px}
.warn{border-left:4px solid var(--b)}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--paper);border:1px solid var(--line);
border-radius:8px;padding:12px}details{margin:14px 0}summary{cursor:pointer;font-weight:600}
.card+.card.wide,.card+details.card{margin-top:14px}
@media (max-width:600px){main{padding:12px 12px 40px}body{font-size:14px}h1{font-size:1.4rem}
.sets td:nth-child(2),.sets th:nth-child(2){display:none}
svg text{font-size:19px}.counts{grid-template-columns:repeat(3,1fr)}}
"""


def render_html(report: Mapping[str, Any]) -> str:
    """Give the whole page, a function of STAGE0_REPORT.json alone."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>Stage 0: data</title><style>{STYLE}</style></head><body><main>",
        "<h1>Stage 0: data</h1>",
    ]
    if report.get("note"):
        parts.append(f'<div class="card warn">{escape(report["note"])}</div>')
    head, rows = overview(report)
    parts.append(f'<div class="card wide sets">{_table(head, rows)}</div>')
    for name, section in report["sets"].items():
        parts += _set(name, section)
    parts += ["<h2>FunASR's limits</h2>", f'<div class="card wide">{_table(*limits_rows(report))}</div>']
    parts += ["<h2>How it was made</h2>", f"<pre>{escape(report['command'])}</pre>"]
    parts.append(f'<div class="card wide">{_table(("what", "value"), made_rows(report))}</div>')
    return "\n".join([*parts, "</main></body></html>", ""])


def _set(name: str, section: Mapping[str, Any]) -> list[str]:
    counts, hours = section["counts"], section["hours"]
    cards = [
        ("raw", f"{counts['raw']:,}"),
        ("valid", f"{counts['valid']:,}"),
        ("train", f"{counts['train']:,}"),
        ("dev", f"{counts['dev']:,}"),
        ("dropped", f"{counts['dropped']:,}"),
        ("hours kept", in_hours(hours["train"] + hours["dev"])),
    ]
    parts = [f"<h2>{escape(name)}</h2>", f"<p>{escape(in_sentences(section))}</p>", '<div class="counts">']
    parts += [f'<div class="card"><b>{value}</b><span>{label}</span></div>' for label, value in cards]
    parts.append("</div>")
    figures = [_figure("Duration", section["durations"])]
    figures.append(_figure("Speaking rate", section["characters_per_s"]))
    if section["dropped"]:
        dropped = {drop["reason"]: drop["rows"] for drop in section["dropped"]}
        figures.append(f"<figure><h3>Dropped, by reason</h3>{bars(dropped)}</figure>")
    channels = section["channels"]
    if channels:
        for key, title in (("presets", "Presets"), ("codecs", "Codecs (legs)"), ("noise", "Noise")):
            figures.append(f"<figure><h3>{title}</h3>{bars(channels[key])}</figure>")
        if set(channels["recorders"]) - {"none"}:
            figures.append(f"<figure><h3>Recorders</h3>{bars(channels['recorders'])}</figure>")
        if channels["utterances_with_loss"]:
            caption = f"<figcaption>{escape(loss_sentence(channels))}</figcaption>"
            figures.append(_figure("Lost frames where any were lost", channels["lost_percent"], caption))
    parts += ['<div class="grid">', *(f'<div class="card">{figure}</div>' for figure in figures), "</div>"]
    if section["dropped"]:
        parts.append(f'<div class="card wide"><h3>Dropped</h3>{_table(*dropped_rows(section))}</div>')
    parts.append(f'<div class="card wide"><h3>Lengths and levels</h3>{_table(*summary_rows(section))}</div>')
    preview = section["length_limits"]["preview"]
    if preview:
        parts.append(
            f'<details open class="card"><summary>Length limits, before they were applied</summary>'
            f'<div class="wide">{_preview(preview)}</div></details>'
        )
    for which, rows in section["samples"].items():
        if rows:
            head = tuple(rows[0])
            cells = [[("" if row[column] is None else str(row[column])) for column in head] for row in rows]
            parts.append(
                f'<details class="card" open><summary>Sample rows: {which}</summary>'
                f'<div class="wide">{_table(head, cells)}</div></details>'
            )
    return parts


def _figure(title: str, data: Mapping[str, Any], caption: str = "") -> str:
    key = "".join(
        f'<i class="{mark}"></i>{escape(name)}' for mark, name in zip("abc", data["counts"], strict=False)
    )
    legend = f'<div class="key note">{key}</div>' if len(data["counts"]) > 1 else ""
    picture = histogram(data["edges"], data["counts"], data["unit"], title)
    heading = f'{escape(title)} <span class="note">{escape(data["unit"])}</span>'
    return f"<figure><h3>{heading}</h3>{picture}{legend}{caption}</figure>"


def _preview(preview: Sequence[Mapping[str, Any]]) -> str:
    head = ("limit", "setting", "value", "unit", "rows removed", "hours removed", "rows kept")
    rows: list[str] = []
    first = ["", "1", "1", "", "1", "1", "1"]
    for entry in preview:
        mark = ' class="chosen"' if entry["chosen"] else ""
        cells = [
            _cell(entry["limit"]),
            _cell(str(entry["setting"])),
            _cell("" if entry["value"] is None else f"{entry['value']:g}"),
            _cell(entry["unit"]),
            _cell(f"{entry['rows']:,} ({100 * entry['share']:.2f} %)"),
            _cell(f"{entry['hours']:.3f}"),
            _cell(f"{entry['rows_kept']:,}"),
        ]
        rows.append(f"<tr{mark}>{''.join(cells)}</tr>")
    return f"<table>{_head(head, first)}{''.join(rows)}</table>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    first = rows[0] if rows else ()
    kinds = [_kind(cell) for cell in first]
    body = "".join(
        f"<tr>{''.join(_cell(cell, kind) for cell, kind in zip(row, kinds, strict=True))}</tr>"
        for row in rows
    )
    return f"<table>{_head(head, first)}{body}</table>"


def _head(head: Sequence[str], first: Sequence[str] = ()) -> str:
    """The head, each title above its numbers or its words."""
    kinds = [*(_kind(cell) for cell in first), *[""] * len(head)]
    titles = [f"<th{kind}>{escape(cell)}</th>" for cell, kind in zip(head, kinds, strict=False)]
    return f"<tr>{''.join(titles)}</tr>"


def _cell(value: str, kind: str | None = None) -> str:
    text = " ".join(str(value).split())
    return f"<td{_kind(text) if kind is None else kind}>{escape(text)}</td>"


def _kind(text: str) -> str:
    """The class of a cell: a number (5, -26.4, 1,200, 3 (1.2 %)), a long text, or neither."""
    if NUMBER.fullmatch(str(text)):
        return " class=n"
    return " class=text" if len(str(text)) > 40 else ""
