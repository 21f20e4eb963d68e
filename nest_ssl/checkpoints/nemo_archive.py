"""NeMo's .nemo archives: a tar of a configuration and a state dict, read without unpacking anything."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import posixpath
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from nest_ssl.checkpoints.plain_yaml import read_plain_yaml
from nest_ssl.files.atomic import replaced

CONFIG = "model_config.yaml"
WEIGHTS = "model_weights.ckpt"
MAX_MEMBERS = 100_000
MAX_HEADER_BYTES = 1 << 20
MAX_CONFIG_BYTES = 1 << 24
MAX_ARTIFACT_BYTES = 1 << 28
MAX_PACKED_BYTES = 1 << 33  # a gzipped archive is unpacked in memory
NEMO_VERSION = "2.6.0"  # written for NeMo's reader: the release whose layout and keys this is

_GZIP_MAGIC = b"\x1f\x8b"
_TAR_MAGIC = b"ustar"  # at byte 257 of every tar since 1988


def is_nemo(path: str | os.PathLike) -> bool:
    """True for a tar or gzip file, by its first bytes."""
    with open(path, "rb") as file:
        head = file.read(512)
    return head.startswith(_GZIP_MAGIC) or head[257:262] == _TAR_MAGIC


def read_nemo(path: str | os.PathLike, map_location: Any = "cpu") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Give the configuration (a dict, with `target`) and the state dict of a .nemo file, gzipped or not.

    Layouts of NeMo 1 to 3: members with or without `./`, in a folder of their own, with other files beside
    them.  Nothing is extracted, and weights are read as plain tensors only.  Raises FileNotFoundError, or
    ValueError naming the file for an archive that is damaged, lacks a member, has members no .nemo needs
    (duplicates, links, absolute paths, `..`), or would fill the memory.
    """
    with _archive(path) as (archive, members, path):
        home = _home(members, path)
        packed = isinstance(archive.fileobj, _Unpacked)
        config_member, weights_member = members[home + CONFIG], members[home + WEIGHTS]
        _check_size(config_member, MAX_CONFIG_BYTES, path, "no configuration is that long")
        content = _opened(archive, config_member).read()
        config = read_plain_yaml(content, f"{path}: {CONFIG}")
        weights = _opened(archive, weights_member)
        if packed:
            weights = io.BytesIO(weights.read())  # compressed: going back and forth in it would be slow
        return config, _read_weights(weights, path, map_location)


def read_artifacts(path: str | os.PathLike, names: Iterable[str] | None = None) -> dict[str, bytes]:
    """Give other members of a .nemo file by name (those that the configuration calls `nemo:NAME`).

    `names` None: all of them.  Raises ValueError naming the file for a member that is missing or larger than
    MAX_ARTIFACT_BYTES.
    """
    found = {}
    with _archive(path) as (archive, members, path):
        home = _home(members, path)
        others = [name.removeprefix(home) for name, member in members.items() if member.isfile()]
        for name in others if names is None else names:
            if name in (CONFIG, WEIGHTS):
                continue
            member = members.get(home + name)
            if member is None or not member.isfile():
                raise ValueError(f"{path} has no member {name!r} (members: {', '.join(members)})")
            _check_size(member, MAX_ARTIFACT_BYTES, path, "no tokenizer is that long")
            found[name] = _opened(archive, member).read()
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


class _Unpacked(gzip.GzipFile):
    """A gzip file of which no single read may give more than `limit` bytes."""

    limit = MAX_HEADER_BYTES

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= self.limit:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)


@contextmanager
def _archive(path: str | os.PathLike) -> Iterator[tuple[tarfile.TarFile, dict[str, tarfile.TarInfo], Path]]:
    """The open archive, its checked members by normalised name, and the path."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            content: Any = _Unpacked(fileobj=file, mode="rb") if packed else file
            with tarfile.open(fileobj=content, mode="r:") as archive:
                # Stored members lie in the file; packed ones could be a million times as long.
                limit = MAX_PACKED_BYTES if packed else path.stat().st_size
                members = _checked_members(archive, path, limit, packed)
                if packed:
                    content.limit = MAX_PACKED_BYTES
                yield archive, members, path
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is not a complete .nemo archive: {error}") from error


def _checked_members(
    archive: tarfile.TarFile, path: Path, limit: int, packed: bool
) -> dict[str, tarfile.TarInfo]:
    members: dict[str, tarfile.TarInfo] = {}
    total = 0
    for member in archive:  # one at a time: what follows a member that is too long is not looked for
        name = posixpath.normpath(member.name)
        if member.name.startswith("/") or name.split("/")[0] == ".." or "\\" in name or ":" in name[:2]:
            raise ValueError(
                f"{path}: member {member.name!r} points outside the archive; the file is not read"
            )
        if not (member.isfile() or member.isdir()) or member.issparse():
            raise ValueError(f"{path}: member {member.name!r} is a link or a device; the file is not read")
        if name in members:
            raise ValueError(f"{path}: member {member.name!r} is there twice; the file is not read")
        total += member.size
        if total > limit:
            way_out = "unpack the archive with gunzip first" if packed else "the file is cut short or forged"
            raise ValueError(f"{path}: {name} and what precedes it claim {total} bytes; {way_out}")
        members[name] = member
        if len(members) > MAX_MEMBERS:
            raise ValueError(f"{path}: more than {MAX_MEMBERS} members; no .nemo archive has that many")
    return members


def _home(members: Mapping[str, tarfile.TarInfo], path: Path) -> str:
    """The folder inside the archive, with its slash, in which configuration and weights lie."""
    homes = [name[: -len(CONFIG)] for name in members if posixpath.basename(name) == CONFIG]
    if len(homes) > 1 and "" in homes:
        homes = [""]  # models inside a model keep theirs in folders
    if len(homes) > 1:
        raise ValueError(f"{path} has several models, in {', '.join(homes)}; export the one you need")
    home = homes[0] if homes else ""
    if any(name.split("/")[0] in ("model_weights", "weights") for name in _below(members, home)):
        raise ValueError(
            f"{path} has its weights in shards (a folder {home}model_weights/), which are not read; load it "
            "with NeMo and save it with save_to as one archive"
        )
    ranks = [name for name in _below(members, home) if name.startswith(("mp_rank_", "tp_rank_"))]
    if ranks:
        raise ValueError(
            f"{path} has its weights split over ranks ({ranks[0]}), which are not read; merge them with NeMo "
            "first"
        )
    for name in (CONFIG, WEIGHTS):
        member = members.get(home + name)
        if member is None or not member.isfile():
            there = ", ".join(members) or "none"
            raise ValueError(f"{path} is not a .nemo archive: it has no {home}{name} (members: {there})")
    return home


def _below(members: Mapping[str, tarfile.TarInfo], home: str) -> list[str]:
    return [name[len(home) :] for name in members if name.startswith(home)]


def _check_size(member: tarfile.TarInfo, limit: int, path: Path, way_out: str) -> None:
    if member.size > limit:
        raise ValueError(f"{path}: {member.name} has {member.size} bytes, more than {limit}; {way_out}")


def _opened(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(member)
    assert file is not None  # a regular member, checked
    return file


def _read_weights(file: IO[bytes], path: Path, map_location: Any) -> dict[str, Tensor]:
    try:
        if zipfile.is_zipfile(file):  # the format of torch.save; torch itself does not compare the checksums
            with zipfile.ZipFile(file) as records:
                packed = [r.filename for r in records.infolist() if r.compress_type != zipfile.ZIP_STORED]
                if packed:
                    raise ValueError(f"its record {packed[0]} is packed, which torch.save never does")
                doubles = [name for name, count in Counter(records.namelist()).items() if count > 1]
                if doubles:
                    raise ValueError(f"its record {doubles[0]} is there twice")
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
