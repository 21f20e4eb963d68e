"""Results of a decoding run as they come: a killed run goes on after the last utterance that it finished."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from nest_ssl.files.manifest import write_rows
from nest_ssl.files.system import lock_or_fail

SUFFIX = ".journal"


class _Changed(ValueError):
    """Other settings than before."""


class Journal:
    """Rows of `out`, kept in OUT.journal one JSON line each until all are there.

    settings: what the texts depend on; a journal of other settings is refused with a ValueError that names
    them, unless `fresh` starts anew.  A line that a killed run left half written is cut off.  Rows with
    "error" are not taken as done.  fresh_if_changed: other settings start anew, equal ones go on.  One
    process at a time; `close` when done, or use it as a context manager.
    """

    def __init__(
        self, out: Path, settings: Mapping[str, Any], fresh: bool = False, fresh_if_changed: bool = False
    ) -> None:
        self.out, self.path = out, out.with_name(out.name + SUFFIX)
        self.settings = json.loads(json.dumps(settings))  # as it will be read back: tuples are lists
        self.done: dict[str, dict[str, Any]] = {}
        if not (fresh or fresh_if_changed) and out.exists() and not self.path.exists():
            raise ValueError(
                f"{out} is there, but not {self.path.name}, which says how it was made; "
                f"--fresh replaces it, or name another file"
            )
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = open(self.path, "a+b")  # noqa: SIM115 (closed by __exit__)
        except OSError as error:
            raise OSError(f"{out} cannot be written ({error}); name another file") from error
        try:
            self._lock()
            if fresh:
                self._file.truncate(0)
            self._read(fresh_if_changed)
        except BaseException:
            self._file.close()
            raise

    def add(self, identity: str, row: Mapping[str, Any]) -> None:
        """Keep the row of an utterance; it is on its way to the disk when this returns."""
        self.done[identity] = dict(row)
        self._append({"of": identity, "row": row})

    def finish(self, identities: Iterable[str]) -> int:
        """Write `out`, the rows of these utterances in this order, complete or not at all; gives how
        many."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return write_rows(self.out, (self.done[identity] for identity in identities))

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let others write."""
        self._file.close()

    def _lock(self) -> None:
        try:
            lock_or_fail(self._file)
        except OSError as error:
            raise ValueError(f"{self.path} is being written by another process; wait for it") from error

    def _append(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
        self._file.flush()

    def _read(self, fresh_if_changed: bool) -> None:
        self._file.seek(0)
        content = self._file.read()
        complete = content.rfind(b"\n") + 1
        self._file.truncate(complete)
        lines = content[:complete].splitlines()
        if not lines:
            self._append({"settings": self.settings})
            return
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
                if number == 1:
                    changed = self._changed(entry["settings"])
                    if changed and fresh_if_changed:
                        self._file.truncate(0)
                        self._append({"settings": self.settings})
                        return
                    if changed:
                        raise _Changed(
                            f"{self.out} was begun with other settings: {'; '.join(changed)}. "
                            f"Name another file, or start anew with --fresh"
                        )
                elif "error" not in entry["row"]:
                    self.done[entry["of"]] = entry["row"]
            except _Changed:
                raise
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise ValueError(
                    f"{self.path}:{number}: not a line of a journal ({error!r:.80}); --fresh starts anew"
                ) from error

    def _changed(self, before: Mapping[str, Any]) -> list[str]:
        names = [*self.settings, *(name for name in before if name not in self.settings)]
        return [
            f"{name} was {json.dumps(before.get(name), ensure_ascii=False)}, "
            f"is {json.dumps(self.settings.get(name), ensure_ascii=False)}"
            for name in names
            if before.get(name) != self.settings.get(name)
        ]
