"""Steps that are done once: each leaves a marker of what it was made from and is skipped while that holds."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from nest_ssl.files.atomic import replaced
from nest_ssl.files.digests import file_digest

SMALL_BYTES = 1 << 32  # larger files are told apart by size and time
SHOWN_CHANGES = 5
SCHEMA = 2  # of what steps write: raised when the same settings give another content

log = logging.getLogger(__name__)


class Bar(Protocol):
    """What a progress bar offers."""

    def update(self, count: int) -> Any:
        """Count on."""


Bars = Callable[[int | None, str], AbstractContextManager[Bar]]  # (total, description)


class _NoBar:
    def update(self, count: int) -> None:
        """Draw nothing."""


@contextmanager
def no_bars(total: int | None, description: str) -> Iterator[Bar]:
    """Stand in for progress bars where nobody looks."""
    yield _NoBar()


class Steps:
    """The steps of one set, whose files lie in `folder`; `redo`: steps that run although they are done."""

    def __init__(self, folder: Path, name: str, redo: Sequence[str] = ()) -> None:
        self.folder, self.name, self._redo = folder, name, tuple(redo)

    def run(
        self,
        step: str,
        settings: Mapping[str, Any],
        inputs: Sequence[Path],
        outputs: Sequence[Path],
        body: Callable[[], object],
    ) -> bool:
        """Run `body` unless the step's marker says that it is done with these settings and inputs.

        Gives True if it ran.  The marker is removed first and written last, so that a kill in between means
        the step runs again.
        """
        marker = self.folder / "done" / f"{step}.json"
        facts = (
            {"stage 0": SCHEMA}
            | _flat(settings)
            | {f"input {self._name(path)}": file_fact(path) for path in inputs}
        )
        changes = self._changes(marker, facts, outputs)
        if not changes and step not in self._redo:
            log.info("%s: %s is done already, skipped", self.name, step)
            return False
        if changes and marker.is_file():
            more = f"; and {len(changes) - SHOWN_CHANGES} more" if len(changes) > SHOWN_CHANGES else ""
            log.info("%s: %s again, since %s%s", self.name, step, "; ".join(changes[:SHOWN_CHANGES]), more)
        marker.unlink(missing_ok=True)
        body()
        made = {self._name(path): file_fact(path) for path in outputs}
        write_json(marker, {"facts": facts, "outputs": made})
        return True

    def forget(self, steps: Sequence[str], why: str) -> None:
        """Have steps run again that were done."""
        markers = [self.folder / "done" / f"{step}.json" for step in steps]
        if any(marker.is_file() for marker in markers):
            log.info("%s: %s again, since %s", self.name, ", ".join(steps), why)
        for marker in markers:
            marker.unlink(missing_ok=True)

    def _changes(self, marker: Path, facts: Mapping[str, Any], outputs: Sequence[Path]) -> list[str]:
        """What is not as the marker says, in words; one entry if there is no marker."""
        try:
            done = json.loads(marker.read_text(encoding="utf-8"))
            before, made = dict(done["facts"]), dict(done["outputs"])
        except FileNotFoundError:
            return ["it was not done"]
        except (ValueError, KeyError, TypeError):
            return [f"{marker} is damaged"]
        changes = [
            f"{name} was {before.get(name, 'not there')!r:.60}, is {facts.get(name, 'not there')!r:.60}"
            for name in sorted(before.keys() | facts.keys())
            if before.get(name) != facts.get(name)
        ]
        for path in outputs:
            if not path.is_file():
                changes.append(f"its {self._name(path)} is missing")
            elif made.get(self._name(path)) != file_fact(path):
                changes.append(f"its {self._name(path)} was changed by another hand")
        return changes

    def _name(self, path: Path) -> str:
        try:
            return path.relative_to(self.folder.parent).as_posix()
        except ValueError:
            return path.as_posix()


def file_fact(path: Path) -> str:
    """Give what tells a file's content from another: a digest, or size and time of a large file; of a
    folder, its files' names, sizes and times."""
    if path.is_dir():
        digest = hashlib.sha256()
        for file in sorted(path.rglob("*")):
            if file.is_file():
                status = file.stat()
                digest.update(f"{file.relative_to(path)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        return f"folder {digest.hexdigest()[:16]}"
    if not path.is_file():
        return "missing"
    status = path.stat()
    if status.st_size > SMALL_BYTES:
        return f"{status.st_size} bytes of {status.st_mtime_ns}"
    return file_digest(path)[:16]


def write_json(path: Path, content: Any) -> None:
    """Write JSON that a person can read; complete or not at all."""
    with replaced(path) as temporary:
        temporary.write_text(
            json.dumps(content, indent=1, ensure_ascii=False, sort_keys=False) + "\n", encoding="utf-8"
        )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one fact per leaf, as JSON gives them back."""
    facts: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            facts |= _flat(value, f"{name}.")
        else:
            facts[name] = json.loads(json.dumps(value, ensure_ascii=False, default=str))
    return facts
