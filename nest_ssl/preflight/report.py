"""What the checks found: findings with cause and cure, shown as a table or as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")
WIDTH = 110


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    level: an error stops a stage, a warning is printed before it, a note says what is in order but worth
    knowing.  code: "P1.rate", stable.  what: what was seen, with file, key and value.  cause: why it matters.
    cure: what to do.  table: lines shown as they are.
    """

    level: Level
    code: str
    what: str
    cause: str = ""
    cure: str = ""
    table: tuple[str, ...] = ()


@dataclass
class Report:
    """All findings, and what was not looked at with the reason."""

    findings: list[Finding] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # that each family of checks took

    def of(self, level: Level) -> list[Finding]:
        """Give the findings of one level, in the order of the checks."""
        return [finding for finding in self.findings if finding.level == level]

    @property
    def errors(self) -> list[Finding]:
        return self.of("error")

    @property
    def warnings(self) -> list[Finding]:
        return self.of("warning")

    def failed(self, strict: bool = False) -> bool:
        """True if a stage must not start; with `strict` a warning is enough."""
        return bool(self.errors or (strict and self.warnings))

    def raise_errors(self, strict: bool = False) -> None:
        """Raise ValueError with every error, and with `strict` every warning, unless there is none."""
        if not self.failed(strict):
            return
        stopping = self.errors + (self.warnings if strict else [])
        shown = "\n".join(line for finding in stopping for line in _block(finding))
        raise ValueError(f"preflight found {_count(len(stopping), 'reason')} not to start:\n{shown}")

    def text(self, levels: Iterable[Level] = LEVELS) -> str:
        """Give the table: a block per finding, errors first, then what was skipped, then the counts."""
        lines = [line for level in levels for finding in self.of(level) for line in _block(finding)]
        for check, reason in self.skipped.items():
            lines += _column("skipped", f"{check}: {reason}")
        counts = ", ".join(_count(len(self.of(level)), level) for level in LEVELS)
        return "\n".join([*lines, f"preflight: {counts}, {len(self.skipped)} skipped"])

    def as_json(self) -> str:
        """Give one JSON object: findings, skipped, seconds, counts."""
        whole: dict[str, Any] = {
            "findings": [asdict(finding) for finding in self.findings],
            "skipped": self.skipped,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "counts": {level: len(self.of(level)) for level in LEVELS},
        }
        return json.dumps(whole, ensure_ascii=False, indent=1)


def shown(values: Iterable[Any], most: int = 3) -> str:
    """Give the first few of many for a message: "a, b, c and 5 more"."""
    listed = [str(value) for value in values]
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + rest


def _block(finding: Finding) -> list[str]:
    head = f"{finding.level.upper():<8}{finding.code}"
    lines = [head, *_column("  seen", finding.what)]
    lines += _column("  cause", finding.cause) if finding.cause else []
    lines += _column("  cure", finding.cure) if finding.cure else []
    return [*lines, *(f"          {line}" for line in finding.table), ""]


def _column(name: str, text: str) -> list[str]:
    """Wrap a text beside its name; a path or a key is not cut in two."""
    wrapped = [
        line
        for paragraph in text.splitlines() or [""]
        for line in textwrap.wrap(paragraph, WIDTH - 10, break_long_words=False, break_on_hyphens=False)
        or [""]
    ]
    return [f"{name if i == 0 else '':<10}{line}" for i, line in enumerate(wrapped)]


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"
