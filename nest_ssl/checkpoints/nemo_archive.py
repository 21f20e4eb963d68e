"""NeMo's .nemo archives: a tar of a configuration and a state dict, read without unpacking anything."""

from __future__ import annotations

import io
import os
import pickle
import posixpath
import tarfile
import tempfile
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
import yaml
from omegaconf import OmegaConf
from torch import Tensor

from nest_ssl.files.atomic import replaced

CONFIG = "model_config.yaml"
WEIGHTS = "model_weights.ckpt"
MAX_CONFIG_BYTES = 1 << 24
MAX_ARTIFACT_BYTES = 1 << 28
MAX_PACKED_BYTES = 1 << 33  # weights of a gzipped archive are unpacked in memory
NEMO_VERSION = "2.6.0"  # written for NeMo's reader: the release whose layout and keys this is


def read_nemo(path: str | os.PathLike, map_location: Any = "cpu") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Give the configuration (a dict, with `target`) and the state dict of a .nemo file, gzipped or not.

    Nothing is extracted, and weights are read as plain tensors only.  Raises FileNotFoundError, or
    ValueError naming the file for an archive that is damaged, lacks a member, has members no .nemo needs
    (duplicates, links, absolute paths, `..`), or would fill the memory.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with tarfile.open(path) as archive:
            members = _checked_members(archive, path)
            packed = not isinstance(archive.fileobj, io.BufferedReader)
            _check_size(members[CONFIG], MAX_CONFIG_BYTES, path, "no configuration is that long")
            if packed:
                _check_size(members[WEIGHTS], MAX_PACKED_BYTES, path, "unpack the archive with gunzip first")
            config = _read_config(_opened(archive, members[CONFIG]), path)
            weights = _opened(archive, members[WEIGHTS])
            if packed:
                weights = io.BytesIO(weights.read())  # compressed: going back and forth in it would be slow
            state = _read_weights(weights, path, map_location)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a complete .nemo archive: {error}") from error
    return config, state


def read_artifacts(path: str | os.PathLike, names: Iterable[str]) -> dict[str, bytes]:
    """Give other members of a .nemo file by name (those that the configuration calls `nemo:NAME`).

    Raises ValueError naming the file for a member that is missing or larger than MAX_ARTIFACT_BYTES.
    """
    path = Path(path)
    found = {}
    try:
        with tarfile.open(path) as archive:
            members = _checked_members(archive, path)
            for name in names:
                if name not in members or not members[name].isfile():
                    raise ValueError(f"{path} has no member {name!r} (members: {', '.join(members)})")
                _check_size(members[name], MAX_ARTIFACT_BYTES, path, "no tokenizer is that long")
                found[name] = _opened(archive, members[name]).read()
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a complete .nemo archive: {error}") from error
    return found


def write_nemo(
    path: str | os.PathLike,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    target: str,
    artifacts: Mapping[str, bytes] | None = None,
) -> None:
    """Write a .nemo file, complete or not at all.

    `config` is the resolved `model:` section; `target`, the class it is built with, is added to it, and
    `nemo_version` where it has none.  `artifacts` are further members by name, such as a tokenizer's files.
    """
    path = Path(path)
    whole = {**config, "target": target}
    whole.setdefault("nemo_version", NEMO_VERSION)
    text = OmegaConf.to_yaml(OmegaConf.create(whole)).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        replaced(path) as temporary,
        tempfile.TemporaryFile(dir=path.parent) as weights,
        tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as archive,
    ):
        torch.save(OrderedDict(state), weights)
        size = weights.tell()
        weights.seek(0)
        root = tarfile.TarInfo(".")
        root.type, root.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(root)
        archive.addfile(_file_info(CONFIG, len(text)), io.BytesIO(text))
        archive.addfile(_file_info(WEIGHTS, size), weights)
        for name, content in (artifacts or {}).items():
            archive.addfile(_file_info(name, len(content)), io.BytesIO(content))


def _file_info(name: str, size: int) -> tarfile.TarInfo:
    # Owner and time stay at zero: the same model gives the same bytes.
    info = tarfile.TarInfo(f"./{name}")
    info.size, info.mode = size, 0o644
    return info


def _checked_members(archive: tarfile.TarFile, path: Path) -> dict[str, tarfile.TarInfo]:
    members: dict[str, tarfile.TarInfo] = {}
    for member in archive.getmembers():
        name = posixpath.normpath(member.name)
        if member.name.startswith("/") or name.split("/")[0] == ".." or "\\" in name:
            raise ValueError(
                f"{path}: member {member.name!r} points outside the archive; the file is not read"
            )
        if not (member.isfile() or member.isdir()):
            raise ValueError(f"{path}: member {member.name!r} is a link or a device; the file is not read")
        if name in members:
            raise ValueError(f"{path}: member {member.name!r} is there twice; the file is not read")
        members[name] = member
    for name in (CONFIG, WEIGHTS):
        if name not in members or not members[name].isfile():
            raise ValueError(
                f"{path} is not a .nemo archive: it has no {name} (members: {', '.join(members) or 'none'})"
            )
    return members


def _check_size(member: tarfile.TarInfo, limit: int, path: Path, way_out: str) -> None:
    if member.size > limit:
        raise ValueError(f"{path}: {member.name} has {member.size} bytes, more than {limit}; {way_out}")


def _opened(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(member)
    assert file is not None  # a regular member, checked
    return file


def _read_config(file: IO[bytes], path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(file)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {CONFIG} is not readable as YAML: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path}: {CONFIG} holds no mapping of keys")
    # OmegaConf reads numbers such as 1e-05 as NeMo does; YAML alone gives text.
    plain = OmegaConf.to_container(OmegaConf.create(yaml.safe_dump(config)))
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _read_weights(file: IO[bytes], path: Path, map_location: Any) -> dict[str, Tensor]:
    try:
        if zipfile.is_zipfile(file):  # the format of torch.save; torch itself does not compare the checksums
            with zipfile.ZipFile(file) as records:
                damaged = records.testzip()
            if damaged is not None:
                raise ValueError(f"the checksum of {damaged} is wrong")
        file.seek(0)
        state = torch.load(file, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path}: {WEIGHTS} is damaged, or more than plain tensors: {error}") from error
    except Exception as error:  # a damaged file may make the unpickler raise anything
        raise ValueError(f"{path}: {WEIGHTS} is damaged: {type(error).__name__}: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: {WEIGHTS} is not a flat dict of tensors")
    return dict(state)
