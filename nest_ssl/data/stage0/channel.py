"""Step 5: the audio of a set, through simulated telephone channels or, of real calls, raised to 16 kHz."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nest_ssl.data.stage0.parallel import batches, ordered_map
from nest_ssl.data.stage0.rows import Row, Sorter, rows_in, sorter
from nest_ssl.files.atomic import replaced
from nest_ssl.files.audio import read_audio, write_audio
from nest_ssl.files.rows import text_digest
from nest_ssl.telephone.corpus import TelephoneCorpus
from nest_ssl.telephone.jobs import merge, run_shard
from nest_ssl.telephone.presets import Mix
from nest_ssl.telephone.resample import resample
from nest_ssl.telephone.settings import plain

OUT_RATE = 16000
ROWS_PER_TASK = 16

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChannelSettings:
    """How the audio is made; mix, mix_name and recordings (by kind of noise) are of simulated channels.

    max_error_rate: share of the rows that may fail (they are dropped with their reasons), else ValueError.
    """

    seed: int
    workers: int
    max_error_rate: float = 0.01
    mix: Mix | None = None
    mix_name: str = ""
    recordings: Mapping[str, Path] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Give what the audio depends on besides the rows."""
        if self.mix is None:
            return {"out_rate": OUT_RATE}
        drawn = {"seed": self.seed, "mix": self.mix_name, "mix settings": plain(self.mix.settings())}
        return {"out_rate": OUT_RATE, **drawn, "noise": sorted(self.recordings)}

    def inputs(self) -> list[Path]:
        """Give the files that the audio depends on."""
        return [path for _, path in sorted(self.recordings.items())]


def make_audio(
    channel: str,
    rows: Path,
    out: Path,
    failed: Path,
    settings: ChannelSettings,
    advance: Callable[[int], Any],
) -> None:
    """Make the audio of the rows of a file: OUT/ and OUT.jsonl; rows that fail go to `failed`."""
    if channel == "simulate":
        simulate(rows, out, failed, settings, advance)
    else:
        upsample(rows, out, failed, settings, advance)
        check_error_rate(rows, failed, settings.max_error_rate)


def simulate(
    rows: Path, out: Path, failed: Path, settings: ChannelSettings, advance: Callable[[int], Any]
) -> None:
    """Send each row through a telephone channel drawn for it; what earlier runs have done stays done."""
    assert settings.mix is not None
    corpus = TelephoneCorpus(
        manifest=rows,
        out=out,
        mix=settings.mix,
        seed=settings.seed,
        recordings=settings.recordings,
        out_rate=OUT_RATE,
    )
    # force: rows or settings have changed since, and the step has said so
    run_shard(corpus, workers=settings.workers, force=True, advance=lambda count, _: advance(count))
    merge(corpus, settings.max_error_rate)
    _move_errors(rows, out.with_name(f"{out.name}.errors.jsonl"), failed)


def _move_errors(rows: Path, errors: Path, failed: Path) -> None:
    """Write the rows that a simulation could not make as dropped ones."""
    reasons = {}
    if errors.is_file():
        reasons = {record["row"]: record["error"] for record in rows_in(errors)}
    with replaced(failed) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        files = Sorter("channel", file, file)
        for number, row in enumerate(rows_in(rows)):
            if number in reasons:
                files.drop(row, ["audio_not_made"], [reasons[number]])
    errors.unlink(missing_ok=True)


def check_error_rate(rows: Path, failed: Path, max_error_rate: float) -> None:
    """Raise ValueError if more of the rows failed than are allowed."""
    errors = list(rows_in(failed))
    total = sum(1 for _ in rows_in(rows))
    if len(errors) > max_error_rate * total:
        raise ValueError(
            f"{len(errors)} of {total} rows failed, more than {max_error_rate:.1%}; {failed} names them, the "
            f"first is {errors[0]['id']}: {errors[0]['details'][0]}. Mend the audio, or raise max_error_rate"
        )


def upsample(
    rows: Path, out: Path, failed: Path, settings: ChannelSettings, advance: Callable[[int], Any]
) -> None:
    """Write each row's stretch and channel as 16 kHz FLAC, resampled linearly and nothing else.

    Files that an earlier run has completed are taken as they are if their length is right.
    """
    manifest = out.with_name(f"{out.name}.jsonl")
    numbered = ((row, audio_file(out, row["id"])) for row in rows_in(rows))
    with sorter("channel", manifest, failed) as files:
        for batch in ordered_map(_upsample_batch, batches(numbered, ROWS_PER_TASK), settings.workers):
            for row, error in batch:
                if error:
                    files.drop(row, ["audio_not_made"], [error])
                else:
                    files.keep(
                        row
                        | {"audio_filepath": Path(row["audio_filepath"]).relative_to(out.parent).as_posix()}
                    )
            advance(len(batch))


def _upsample_batch(batch: list[tuple[Row, Path]]) -> list[tuple[Row, str]]:
    return [_upsample(row, path) for row, path in batch]


def _upsample(row: Row, path: Path) -> tuple[Row, str]:
    """Give the row of the upsampled file, or the old row and why there is none."""
    try:
        samples, rate = read_audio(
            row["audio_filepath"],
            offset_s=row.get("offset") or 0.0,
            duration_s=row.get("duration"),
            channel=row.get("channel_selector"),
        )
        raised = resample(samples, rate, OUT_RATE)
        write_audio(path, raised, OUT_RATE)
    except (ValueError, OSError) as error:
        if (
            isinstance(error, OSError)
            and error.errno is not None
            and not isinstance(error, FileNotFoundError)
        ):
            raise  # the disk, not the file
        return row, str(error)
    made = {name: value for name, value in row.items() if name not in ("offset", "channel_selector")}
    source = {"source_audio": row["audio_filepath"], "source_rate": rate}
    for name in ("offset", "channel_selector"):
        if row.get(name) is not None:
            source[f"source_{name}"] = row[name]
    return made | source | {"audio_filepath": str(path), "duration": len(raised) / OUT_RATE}, ""


def audio_file(out: Path, identity: str) -> Path:
    """Where the audio of an id is: in one of 256 folders, under a name that no other id has."""
    digest = text_digest(identity)
    name = re.sub(r"[^\w.+=@,-]+", "_", identity)[-80:].lstrip(".")
    return out / f"{digest & 255:02x}" / f"{name}-{digest >> 32:08x}.flac"
