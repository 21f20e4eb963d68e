"""NeMo manifests: several at once, comma lists and number ranges in names, tarred and sharded ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from nest_ssl.data.sources.record import AudioFile, SourceOptions, Unusable, Utterance
from nest_ssl.data.splits import positive_seconds
from nest_ssl.files.manifest import read_rows
from nest_ssl.files.rows import audio_field, resolve_audio_path, row_id, row_identity

RANGE = re.compile(r"(?:\{|\(|\[|<|_OP_)(\d+)\.\.(\d+)(?:\}|\)|\]|>|_CL_)")
TARRED = re.compile(r"tarred_audio_manifest\.json|manifest_\d+\.json")


def manifest_names(text: str) -> list[Path]:
    """Give the manifests that a comma list names; "m_{0..3}.json" or "m__OP_0..3_CL_.json" are four."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    expanded: list[Path] = []
    while names:
        name = names.pop(0)
        match = RANGE.search(name)
        if match is None:
            expanded.append(Path(name))
            continue
        width = len(match[1]) if match[1].startswith("0") else 0
        numbers = range(int(match[1]), int(match[2]) + 1)
        names[:0] = [f"{name[: match.start()]}{number:0{width}}{name[match.end() :]}" for number in numbers]
    return expanded


def is_tarred(manifest: Path) -> bool:
    """True for the names by which NeMo knows manifests whose audio_filepath are members of archives."""
    return manifest.name == "tarred_audio_manifest.json" or (
        manifest.parent.name == "sharded_manifests" and TARRED.fullmatch(manifest.name) is not None
    )


def nemo_utterances(manifest: Path, options: SourceOptions) -> Iterator[Utterance | Unusable]:
    """Give the rows of one manifest in its order, with all their fields.

    audio_filename becomes audio_filepath; relative paths are taken from the manifest's folder, or as written.
    Rows of tarred manifests pass as they are: their audio is in archives.
    """
    for number, row in read_rows(manifest):
        place = f"{manifest}:{number}"
        identity = row_identity(row)
        audio, offset, duration = audio_field(row), row.get("offset"), row.get("duration")
        if not isinstance(audio, str):
            detail = f"audio_filepath is {audio!r}; the row has {', '.join(row) or 'no fields'}"
            yield Unusable(identity, place, "no audio_filepath", detail)
        elif duration is not None and not positive_seconds(duration):
            yield Unusable(
                identity, place, "bad duration", f"{duration!r} is not a positive number of seconds"
            )
        elif offset is not None and not (offset == 0 or positive_seconds(offset)):
            yield Unusable(
                identity, place, "bad offset", f"offset is {offset!r}, not a number of seconds from 0"
            )
        elif is_tarred(manifest) or "shard_id" in row:
            if duration is None:
                detail = "a row of a tarred manifest must state its duration"
                yield Unusable(identity, place, "bad duration", detail)
            else:
                yield Utterance(identity, place, AudioFile(Path(audio)), ready=row)
        else:
            path = resolve_audio_path(audio, manifest)
            if options.root is not None and not Path(audio).is_absolute():
                path = options.root / audio
            if not path.is_file():
                detail = f"{audio} is neither there nor in {options.root or manifest.parent}"
                yield Unusable(identity, place, "audio missing", detail)
                continue
            left_out = ("audio_filepath", "audio_filename", "duration", "offset")
            fields = {key: value for key, value in row.items() if key not in left_out}
            if row_id(row) is None:  # the same name in two folders is not the same audio
                identity = row_identity(row | {"audio_filepath": str(path.absolute())})
            yield Utterance(
                identity,
                place,
                AudioFile(path, Path(audio).is_absolute()),
                offset,
                duration,
                fields=fields,
                gets_id=False,
            )
