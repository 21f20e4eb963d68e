"""Hugging Face data sets on disk: folders of save_to_disk, and folders of parquet or arrow shards.

The shards are read by pyarrow alone: nothing is downloaded, cached or executed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import soundfile

from nest_ssl.data.sources.folder import AUDIO_SUFFIXES
from nest_ssl.data.sources.record import (
    MadeAudio,
    SourceOptions,
    Unusable,
    Utterance,
    find_audio,
    missing_audio,
)

AUDIO_COLUMNS = ("audio", "speech", "wav", "mp3", "flac", "file", "path", "audio_filepath")
TEXT_COLUMNS = ("text", "sentence", "transcription", "transcript", "normalized_text", "raw_text", "txt")
ID_COLUMNS = ("id", "utt_id", "utterance_id", "segment_id", "audio_id", "key", "__key__")
OTHER_COLUMNS = {
    "speaker": ("speaker_id", "speaker", "client_id"),
    "lang": ("language", "locale", "lang"),
    "gender": ("gender",),
}
ROWS_AT_A_TIME = 16
MAGIC_SUFFIXES = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"NIST": ".sph", b"ID3": ".mp3"}


def huggingface_utterances(folder: Path, options: SourceOptions) -> Iterator[Utterance | Unusable]:
    """Give the rows of a data set in the order of its shards.

    The audio is a column of bytes and path (as `Audio` features are stored), of samples and sampling rate,
    or of paths.  Raises FileNotFoundError without shards, ValueError for missing columns and damage.
    """
    shards = _shards(folder, options)
    for shard in shards:
        for number, row, features in _rows(shard):
            yield _utterance(shard, number, row, features, options)


def _utterance(
    shard: Path, number: int, row: dict[str, Any], features: dict[str, Any], options: SourceOptions
) -> Utterance | Unusable:
    place = f"{shard}: row {number}"
    audio_column = _column(row, options.audio_column, AUDIO_COLUMNS, "audio", shard)
    assert audio_column is not None
    id_column = _column(row, options.id_column, ID_COLUMNS, "id", shard)
    stated = row.get(id_column) if id_column else None
    name = str(stated) if stated not in (None, "") else f"{shard.stem}-{number:06d}"
    fields: dict[str, Any] = {}
    text_column = _column(row, options.text_column, TEXT_COLUMNS, "text", shard)
    if text_column and row[text_column] is not None:
        fields["text"] = str(row[text_column])
    for field, columns in OTHER_COLUMNS.items():
        column = next((each for each in columns if row.get(each) not in (None, "")), None)
        if column:
            fields[field] = _named(row[column], features.get(column))
    value = row[audio_column]
    if isinstance(value, str):
        value = {"path": value}
    elif isinstance(value, bytes):
        value = {"bytes": value}
    if not isinstance(value, dict):
        return Unusable(name, place, "no audio", f"{audio_column} is {value!r:.80}")
    origin = f"{shard.absolute()}:{number}"
    if value.get("bytes"):
        content = value["bytes"]
        suffix = Path(value.get("path") or "").suffix.lower()
        suffix = suffix if suffix in AUDIO_SUFFIXES else _suffix(content)
        return Utterance(
            name, place, MadeAudio(name, origin, partial(bytes, content), suffix, keep=True), fields=fields
        )
    if value.get("array") is not None and value.get("sampling_rate"):
        made = MadeAudio(name, origin, partial(_wav, value["array"], int(value["sampling_rate"])))
        return Utterance(name, place, made, fields=fields)
    written = value.get("path")
    if not written:
        detail = f"{audio_column} holds neither bytes nor a path"
        return Unusable(name, place, "no audio", detail)
    audio = find_audio(str(written), shard, options)
    if audio is None:
        return missing_audio(name, place, str(written), shard, options)
    return Utterance(name, place, audio, fields=fields)


def _column(
    row: dict[str, Any], wanted: str | None, usual: tuple[str, ...], what: str, shard: Path
) -> str | None:
    """The column that holds the audio, text or id: the one that is wanted, or the first usual one."""
    if wanted is not None:
        if wanted not in row:
            raise ValueError(f"{shard}: --{what}-column {wanted}: the columns are {', '.join(row)}")
        return wanted
    found = next((name for name in usual if name in row), None)
    if found is None and what == "audio":
        raise ValueError(f"{shard}: no column of audio among {', '.join(row)}; --audio-column NAME names it")
    return found


def _named(value: Any, feature: Any) -> Any:
    """The name of a class for its number, where the data set has the names."""
    names = feature.get("names") if isinstance(feature, dict) else None
    return (
        names[value] if isinstance(names, list) and isinstance(value, int) and value < len(names) else value
    )


def _suffix(content: bytes) -> str:
    return next((suffix for magic, suffix in MAGIC_SUFFIXES.items() if content.startswith(magic)), ".mp3")


def _wav(samples: list[float], sample_rate: int) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, np.asarray(samples, np.float32), sample_rate, format="WAV", subtype="FLOAT")
    return content.getvalue()


def _shards(folder: Path, options: SourceOptions) -> list[Path]:
    """The files of a data set in order: as save_to_disk lists them, or all shards, sorted."""
    if folder.is_file() and folder.suffix in (".parquet", ".arrow"):
        return [folder]
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is neither a folder nor a .parquet or .arrow file")
    splits_file = folder / "dataset_dict.json"
    if splits_file.is_file():
        splits = _json(splits_file).get("splits", [])
        wanted = [split for split in splits if options.split in (None, split)]
        if not wanted:
            raise ValueError(f"{splits_file}: --split {options.split} is none of {', '.join(splits)}")
        return [shard for split in wanted for shard in _shards(folder / split, SourceOptions())]
    state = folder / "state.json"
    if state.is_file():
        facts = _json(state)
        if facts.get("_indices_data_files"):
            raise ValueError(
                f"{state}: a selection of rows; write it out: dataset.flatten_indices().save_to_disk(DIR)"
            )
        return [folder / each["filename"] for each in facts["_data_files"]]
    shards = sorted(path for path in folder.rglob("*") if path.suffix in (".parquet", ".arrow"))
    if options.split is not None:
        split = options.split
        shards = [
            path
            for path in shards
            if path.name.startswith((f"{split}-", f"{split}."))
            or split in path.relative_to(folder).parts[:-1]
        ]
    if not shards:
        of_split = f" of split {options.split}" if options.split else ""
        raise FileNotFoundError(f"{folder} holds no .parquet or .arrow file{of_split}")
    return shards


def _rows(shard: Path) -> Iterator[tuple[int, dict[str, Any], dict[str, Any]]]:
    """Give (number from 1, row, features of the data set) of a shard."""
    pyarrow = _pyarrow()
    number = 0
    try:
        for batch in _batches(shard, pyarrow):
            metadata = (batch.schema.metadata or {}).get(b"huggingface")
            features = json.loads(metadata).get("info", {}).get("features", {}) if metadata else {}
            for row in batch.to_pylist():
                number += 1
                yield number, row, features
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise ValueError(f"{shard}: the shard is damaged after row {number}: {error}") from error


def _batches(shard: Path, pyarrow: ModuleType) -> Iterator[Any]:
    if shard.suffix == ".parquet":
        import pyarrow.parquet as parquet

        with parquet.ParquetFile(shard) as file:
            yield from file.iter_batches(batch_size=ROWS_AT_A_TIME)
        return
    with pyarrow.memory_map(str(shard)) as source:
        for batch in pyarrow.ipc.open_stream(source):
            for begin in range(0, batch.num_rows, ROWS_AT_A_TIME):
                yield batch.slice(begin, ROWS_AT_A_TIME)


def _pyarrow() -> ModuleType:
    try:
        import pyarrow
    except ImportError as error:
        raise ValueError(
            "--from huggingface needs pyarrow, which comes with datasets: pip install 'nest_ssl[huggingface]'"
        ) from error
    return pyarrow


def _json(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    if not isinstance(facts, dict):
        raise ValueError(f"{path}: not a JSON object")
    return facts
