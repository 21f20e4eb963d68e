"""What a section with `use_lhotse: true` names: NeMo manifests, Lhotse cuts, Shar folders, an input_cfg."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from nest_ssl.config import suggestion
from nest_ssl.data.braces import expand_paths
from nest_ssl.data.corpus import manifest_paths
from nest_ssl.data.cuts import manifest_of_cuts
from nest_ssl.data.inputs import Part, tar_paths

TYPES = ("nemo", "nemo_tarred", "lhotse", "lhotse_shar", "group")
SOURCES = ("input_cfg", "manifest_filepath", "tarred_audio_filepaths", "cuts_path", "shar_path")
# Keys of an entry that are read; the others say things about text, tags or NeMo's own streaming.
ENTRY_KEYS = ("type", "weight", "tarred_audio_filepath", *SOURCES)
ENTRY_WITHOUT_EFFECT = (
    "tags", "shuffle", "shard_seed", "text_field", "lang_field", "metadata_only", "force_finite",
    "slice_length", "max_open_streams", "skip_missing_manifest_entries", "force_map_dataset",
    "force_iterable_dataset", "extra_fields", "language", "corpus", "tarred_random_access",
)  # fmt: skip


def parts_of_lhotse(options: Mapping[str, Any], name: str) -> list[Part]:
    """Give the parts of a section; weights are those of NeMo's multiplexer, None for all: by their size."""
    if options["input_cfg"] is not None:
        return _parts_of_group(options["input_cfg"], f"{name}.input_cfg", 1.0, [])
    return _parts_of_entry(options, name)


def _parts_of_group(group: Any, name: str, weight: float, files: list[Path]) -> list[Part]:
    """Parts of an input_cfg: a list of entries or the path of a YAML file with one; groups may be nested."""
    if isinstance(group, str | Path):
        path = Path(group).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"{name}: the file {path} does not exist")
        if path in files:
            raise ValueError(f"{name}: {path} includes itself")
        files = [*files, path]
        group = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
        name = str(path)
    if isinstance(group, Mapping):
        group = group.get("input_cfg", [group])
    if not isinstance(group, Sequence) or not group or not all(isinstance(item, Mapping) for item in group):
        raise ValueError(f"{name} must be a list of entries, each with a type, not {group!r}")
    weights = [item.get("weight") for item in group]
    if None in weights and any(value is not None for value in weights):
        raise ValueError(f"{name}: give every entry a weight, or none of them")
    for number, value in enumerate(weights):
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int | float) or value <= 0
        ):
            raise ValueError(f"{name}[{number}].weight must be a positive number, not {value!r}")
    shares = [1.0 if value is None else float(value) for value in weights]
    parts: list[Part] = []
    for number, (item, share) in enumerate(zip(group, shares, strict=True)):
        inside = weight * share / sum(shares)
        place = f"{name}[{number}]"
        kind = item.get("type")
        if kind not in TYPES:
            raise ValueError(
                f"{place}.type {kind!r} is not supported: pre-training reads audio, of the types "
                f"{', '.join(TYPES)}"
            )
        for key in item:
            if key not in ENTRY_KEYS and key not in ENTRY_WITHOUT_EFFECT:
                hint = suggestion(str(key), [*ENTRY_KEYS, *ENTRY_WITHOUT_EFFECT])
                raise ValueError(f"{place}.{key} is no option of an entry; {hint}")
        if kind == "group":
            parts += _parts_of_group(item.get("input_cfg"), f"{place}.input_cfg", inside, files)
            continue
        entry = {key: item.get(key) for key in SOURCES}
        entry["tarred_audio_filepaths"] = entry["tarred_audio_filepaths"] or item.get("tarred_audio_filepath")
        needed = {"lhotse": "cuts_path", "lhotse_shar": "shar_path"}.get(kind, "manifest_filepath")
        if not entry[needed]:
            raise ValueError(f"{place}: the type {kind} needs {needed}")
        if kind == "nemo_tarred" and not entry["tarred_audio_filepaths"]:
            raise ValueError(f"{place}: the type nemo_tarred needs tarred_audio_filepaths")
        parts += _scaled(_parts_of_entry(entry, place), inside)
    return parts


def _scaled(parts: list[Part], share: float) -> list[Part]:
    """Give the parts of one entry with its share between them; one part without a weight of its own gets
    it all."""
    if len(parts) == 1:
        return [_weighted(parts[0], share)]
    if any(part.weight is None for part in parts):
        merged = Part([path for part in parts for path in part.manifests])
        if all(part.tars is None for part in parts):
            return [_weighted(merged, share)]
        tars = [path for part in parts for path in part.tars or ()]
        return [Part(merged.manifests, tars, share, parts[0].whole_names)]
    total = sum(part.weight or 0.0 for part in parts)
    return [_weighted(part, share * (part.weight or 0.0) / total) for part in parts]


def _weighted(part: Part, weight: float) -> Part:
    return Part(part.manifests, part.tars, weight, part.whole_names)


def _parts_of_entry(entry: Mapping[str, Any], name: str) -> list[Part]:
    if entry["shar_path"]:
        return _parts_of_shar(entry["shar_path"], f"{name}.shar_path")
    if entry["cuts_path"]:
        return [
            Part([manifest_of_cuts(path) for path in manifest_paths(entry["cuts_path"], f"{name}.cuts_path")])
        ]
    key = f"{name}.manifest_filepath"
    manifests, tars = entry["manifest_filepath"], entry["tarred_audio_filepaths"]
    if manifests in (None, "", [], "???"):
        raise ValueError(f"{name} needs manifest_filepath, cuts_path, shar_path or input_cfg")
    if isinstance(manifests, str):
        return [Part(manifest_paths(manifests, key), tar_paths(tars, name) if tars else None)]
    groups, weights = [], []
    for item in manifests:
        path, weight = _with_weight(item, key)
        groups.append(path)
        weights.append(weight)
    archives: list[Any] = [None] * len(groups)
    if tars:
        archives = [tars] if isinstance(tars, str) else list(tars)
        if len(archives) != len(groups):
            raise ValueError(
                f"{name}.tarred_audio_filepaths needs one entry for each of the {len(groups)} manifests"
            )
    return [
        Part(manifest_paths(group, key), tar_paths(tar, name) if tar else None, weight)
        for group, tar, weight in zip(groups, archives, _all_or_none(weights, key), strict=True)
    ]


def _parts_of_shar(value: Any, key: str) -> list[Part]:
    if isinstance(value, Mapping):
        if not {"cuts", "recording"} <= set(value):
            raise ValueError(f"{key} needs the fields cuts and recording, not {', '.join(value)}")
        fields = {field: [value[field]] if isinstance(value[field], str) else value[field] for field in value}
        paths = {
            field: [Path(path) for pattern in fields[field] for path in expand_paths(str(pattern), key)]
            for field in ("cuts", "recording")
        }
        return [_shar(paths["cuts"], paths["recording"], None, key)]
    items = [value] if isinstance(value, str) else list(value)
    found = [_with_weight(item, key) for item in items]
    parts = []
    for (path, _), weight in zip(found, _all_or_none([weight for _, weight in found], key), strict=True):
        folder = Path(path).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(f"{key}: the Shar folder {folder} does not exist")
        cuts = sorted([*folder.glob("cuts.*.jsonl.gz"), *folder.glob("cuts.*.jsonl")])
        tars = sorted([*folder.glob("recording.*.tar"), *folder.glob("recording.*.tar.gz")])
        parts.append(_shar(cuts, tars, weight, f"{key}: {folder}"))
    return parts


def _shar(cuts: list[Path], tars: list[Path], weight: float | None, where: str) -> Part:
    if not cuts or len(cuts) != len(tars):
        raise ValueError(
            f"{where} has {len(cuts)} files cuts.*.jsonl.gz and {len(tars)} recording.*.tar; a Shar has "
            "as many of both"
        )
    return Part([manifest_of_cuts(path, in_archives=True) for path in cuts], tars, weight, whole_names=True)


def _with_weight(item: Any, key: str) -> tuple[str, float | None]:
    """Read "path", [path] or [path, weight]."""
    if isinstance(item, str | Path):
        return str(item), None
    number = isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[1], int | float)
    if isinstance(item, list | tuple) and item and isinstance(item[0], str) and (number or len(item) == 1):
        if number and not item[1] > 0:
            raise ValueError(f"{key}: the weight of {item[0]} must be positive, not {item[1]!r}")
        return item[0], float(item[1]) if number else None
    raise ValueError(f"{key}: give a path, [path] or [path, weight], not {item!r}")


def _all_or_none(weights: list[float | None], key: str) -> list[float | None]:
    if None in weights and any(weight is not None for weight in weights):
        raise ValueError(f"{key}: give every entry a weight, or none of them")
    return weights
