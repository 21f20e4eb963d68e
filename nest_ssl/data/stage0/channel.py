"""Step 5: the audio of a set, through simulated telephone channels or, of real calls, raised to 16 kHz."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nest_ssl.data.stage0.rows import Sorter, count_rows, rows_in
from nest_ssl.files.atomic import replaced
from nest_ssl.telephone.corpus import TelephoneCorpus
from nest_ssl.telephone.jobs import merge, run_shard
from nest_ssl.telephone.presets import Mix
from nest_ssl.telephone.records import SIZES, is_error, record_files, scan_lines
from nest_ssl.telephone.settings import plain
from nest_ssl.telephone.upsampling import CallCorpus

OUT_RATE = 16000


@dataclass(frozen=True)
class ChannelSettings:
    """How the audio is made: mix, mix_name, recordings (by kind of noise) of simulated channels; quality of
    the resampling of calls.

    max_error_rate: share of the rows that may fail (they are dropped with their reasons), else ValueError.
    """

    seed: int
    workers: int
    max_error_rate: float = 0.01
    mix: Mix | None = None
    mix_name: str = ""
    quality: str = "hq"
    recordings: Mapping[str, Path] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Give what the audio depends on besides the rows."""
        if self.mix is None:
            return {"out_rate": OUT_RATE, "quality": self.quality}
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
    """Make the audio of the rows of a file: OUT/ and OUT.jsonl; rows that fail go to `failed`.

    What earlier runs have done stays done.  Raises ValueError if more rows fail than are allowed.
    """
    job: TelephoneCorpus | CallCorpus
    if channel == "simulate":
        assert settings.mix is not None
        job = TelephoneCorpus(
            manifest=rows,
            out=out,
            mix=settings.mix,
            seed=settings.seed,
            recordings=settings.recordings,
            out_rate=OUT_RATE,
        )
    else:
        job = CallCorpus(manifest=rows, out=out, quality=settings.quality, any_rate=True)
    # force: where rows or settings have changed since, the step has said so
    run_shard(job, workers=settings.workers, force=True, advance=lambda count, _: advance(count))
    merge(job, settings.max_error_rate)
    _move_errors(rows, out.with_name(f"{out.name}.errors.jsonl"), failed)


def not_as_written(out: Path, manifest: Path) -> Iterator[tuple[int, Path, int]]:
    """Give (line of the manifest, audio file, bytes that were written) of files in `out` that have another
    size or are gone; nothing where there are no records of this manifest."""
    folders = [path.parent for path in (out / "records").glob("*/settings.json")]
    if len(folders) != 1 or not manifest.is_file():  # the records of earlier settings are removed in the end
        return
    sizes: dict[int, int] = {}
    for _, number, _, line in scan_lines(record_files(folders[0])):
        if not is_error(line) and (found := SIZES.search(line)):
            sizes[number] = int(found[1])
    written = [size for _, size in sorted(sizes.items())]  # the manifest has the order of the rows
    if len(written) != count_rows(manifest):
        return
    for place, (row, size) in enumerate(zip(rows_in(manifest), written, strict=True), start=1):
        path = manifest.parent / row["audio_filepath"]
        try:
            same = path.stat().st_size == size
        except OSError:
            same = False
        if not same:
            yield place, path, size


def _move_errors(rows: Path, errors: Path, failed: Path) -> None:
    """Write the rows whose audio could not be made as dropped ones."""
    reasons = {}
    if errors.is_file():
        reasons = {record["row"]: record["error"] for record in rows_in(errors)}
    with replaced(failed) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        files = Sorter("channel", file, file)
        for number, row in enumerate(rows_in(rows)):
            if number in reasons:
                files.drop(row, ["audio_not_made"], [reasons[number]])
    errors.unlink(missing_ok=True)
