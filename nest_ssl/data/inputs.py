"""What a data section names: its manifests and archives, as parts that are read and mixed alike."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nest_ssl.data.braces import expand_paths, split_commas
from nest_ssl.data.corpus import Corpus, manifest_paths
from nest_ssl.data.joined import JoinedCorpus


@dataclass(frozen=True)
class Part:
    """Manifests that belong together, the archives with their audio (None: files), and the part's weight.

    whole_names: rows name members by their whole path, not by the file's name (Lhotse Shar).
    """

    manifests: list[Path]
    tars: list[Path] | None = None
    weight: float | None = None
    whole_names: bool = False


def parts_of_section(options: Mapping[str, Any], name: str) -> list[Part]:
    """Give the parts of a section without Lhotse: one, or those of a concat dataset or bucketing lists."""
    key = f"{name}.manifest_filepath"
    manifests = options["manifest_filepath"]
    nested = isinstance(manifests, Sequence) and not isinstance(manifests, str)
    if nested and not options["is_concat"]:
        kinds = {isinstance(item, str | Path) for item in manifests}
        if len(kinds) > 1 or not all(isinstance(item, str | Path | list | tuple) for item in manifests):
            raise ValueError(f"{key}: give paths, or a list of paths for each bucket, not {manifests!r}")
    if options["is_concat"]:
        groups = _groups_of_concat(manifests, key)
    elif nested and manifests and isinstance(manifests[0], list | tuple):
        groups = list(manifests)
    else:
        groups = [manifests]
    tars: list[Any] = [None] * len(groups)
    if options["is_tarred"]:
        tars = _groups_of_tars(options["tarred_audio_filepaths"], len(groups), name)
    elif options["tarred_audio_filepaths"]:
        raise ValueError(f"{name}.tarred_audio_filepaths is given, but {name}.is_tarred is false")
    return [
        Part(manifest_paths(_flat(group), key), None if tar is None else tar_paths(tar, name))
        for group, tar in zip(groups, tars, strict=True)
    ]


def open_parts(parts: Sequence[Part], options: Mapping[str, Any], name: str) -> Corpus | JoinedCorpus:
    """Open the corpora of the parts with the section's limits of duration and number."""
    corpora = [
        Corpus(
            list(part.manifests),
            options["min_duration"],
            options["max_duration"],
            f"{name}.manifest_filepath",
            part.tars,
            options["max_utts"],
            part.whole_names,
        )
        for part in parts
    ]
    return corpora[0] if len(corpora) == 1 else JoinedCorpus(corpora)


def tar_paths(value: Any, name: str) -> list[Path]:
    """Give the archives that a string (commas, braces) or a list of such strings names."""
    key = f"{name}.tarred_audio_filepaths"
    patterns = [value] if isinstance(value, str | Path) else _flat(value)
    if not patterns or not all(isinstance(pattern, str | Path) and str(pattern) for pattern in patterns):
        raise ValueError(f"{key}: give the path of an archive, a pattern or a list of them, not {value!r}")
    return [
        Path(path).expanduser()
        for pattern in patterns
        for single in split_commas(str(pattern))
        for path in expand_paths(single, key)
    ]


def _groups_of_concat(manifests: Any, key: str) -> list[Any]:
    if isinstance(manifests, str):
        manifests = split_commas(manifests)
    if isinstance(manifests, Sequence) and len(manifests) == 1 and isinstance(manifests[0], list | tuple):
        manifests = manifests[0]  # as NeMo nests the manifests of validation
    if not isinstance(manifests, Sequence) or len(manifests) < 2:
        raise ValueError(f"{key}: is_concat mixes at least two manifests, not {manifests!r}")
    return list(manifests)


def _groups_of_tars(value: Any, count: int, name: str) -> list[Any]:
    key = f"{name}.tarred_audio_filepaths"
    if value in (None, "", []):
        raise ValueError(f"{key} must be given where {name}.is_tarred is true")
    if count == 1:
        return [value]
    if isinstance(value, list | tuple) and len(value) == 1 and isinstance(value[0], list | tuple):
        value = value[0]
    if not isinstance(value, list | tuple) or len(value) != count:
        raise ValueError(f"{key} needs archives for each of the {count} lists of manifests, not {value!r}")
    return list(value)


def _flat(value: Any) -> Any:
    """Give a list without lists in it; what is no list, as it is."""
    if isinstance(value, str | Path) or not isinstance(value, Iterable):
        return value
    nested = (_flat(item) for item in value)
    return list(itertools.chain.from_iterable(item if isinstance(item, list) else [item] for item in nested))
