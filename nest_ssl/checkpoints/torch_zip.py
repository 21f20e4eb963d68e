"""Files of `torch.save`, without running what is pickled in them; tensors stay on disk until asked for."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nest_ssl.checkpoints.inert_pickle import Constructor, Name, read_pickle

MAX_PICKLE_BYTES = 1 << 28  # of structure alone; tensors are outside it
MAX_RECORDS = 1 << 20

_DTYPES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of the file, not read yet: where it lies in which storage, in elements."""

    dtype: torch.dtype
    storage: str
    storage_size: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class TorchZip:
    """An open file of `torch.save`; `content` is its object, with StoredTensor in place of tensors."""

    def __init__(self, archive: zipfile.ZipFile, path: Path):
        self._archive = archive
        self._records = _checked_records(archive, path)
        self._storages: dict[str, Tensor] = {}
        order = self._read("byteorder") if "byteorder" in self._records else b"little"
        if order != b"little" or sys.byteorder != "little":
            raise ValueError(f"its numbers are stored {order.decode(errors='replace')}-endian")
        if self._records["data.pkl"].file_size > MAX_PICKLE_BYTES:
            raise ValueError(f"its structure alone has more than {MAX_PICKLE_BYTES} bytes")
        self.content = read_pickle(self._read("data.pkl"), _CONSTRUCTORS, _storage)

    def tensor(self, stored: StoredTensor) -> Tensor:
        """Read one tensor; tensors of one storage share memory, as they did when they were saved."""
        last = stored.offset
        for length, stride in zip(stored.shape, stored.strides, strict=True):
            if length < 0 or stride < 0:
                raise ValueError(f"tensor of shape {stored.shape} and strides {stored.strides}")
            last += (length - 1) * stride
        if 0 in stored.shape:
            return torch.empty(stored.shape, dtype=stored.dtype)
        if stored.offset < 0 or last >= stored.storage_size:
            raise ValueError(f"tensor of shape {stored.shape} reaches beyond its storage {stored.storage}")
        storage = self._storages.get(stored.storage)
        if storage is None:
            storage = self._storages[stored.storage] = self._read_storage(stored)
        return storage.view(stored.dtype).as_strided(stored.shape, stored.strides, stored.offset)

    def _read_storage(self, stored: StoredTensor) -> Tensor:
        content = bytearray(self._read(f"data/{stored.storage}"))
        if len(content) != stored.storage_size * stored.dtype.itemsize:
            raise ValueError(
                f"storage {stored.storage} has {len(content)} bytes, not {stored.storage_size} elements of "
                f"{stored.dtype}"
            )
        return torch.frombuffer(content, dtype=stored.dtype)

    def _read(self, name: str) -> bytes:
        if name not in self._records:
            raise ValueError(f"it has no record {name}")
        return self._archive.read(self._records[name])


@contextmanager
def open_torch_zip(path: str | os.PathLike) -> Iterator[TorchZip]:
    """Open a file of `torch.save` (its zip format).

    Raises FileNotFoundError, or ValueError naming the file for one that is damaged, of another format, or
    made to fill the memory (duplicate or packed records).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        with zipfile.ZipFile(path) as archive:
            yield TorchZip(archive, path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged, or not made by torch.save: {error}") from error
    except ValueError as error:
        message = str(error)
        raise ValueError(message if str(path) in message else f"{path} is not read: {message}") from error


def _checked_records(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The records by their name below the archive's one top folder."""
    infos = archive.infolist()
    if len(infos) > MAX_RECORDS:
        raise ValueError(f"it has {len(infos)} records, more than {MAX_RECORDS}")
    records: dict[str, zipfile.ZipInfo] = {}
    tops = set()
    for info in infos:
        top, _, name = info.filename.partition("/")
        tops.add(top)
        if name in records:
            raise ValueError(f"the record {info.filename} is there twice")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise ValueError(f"the record {info.filename} is packed, which torch.save never does")
        records[name] = info
    if len(tops) != 1 or "data.pkl" not in records:
        raise ValueError("it has no data.pkl, so torch.save did not make it")
    if sum(info.file_size for info in infos) > path.stat().st_size:
        raise ValueError("its records claim more bytes than the file has")
    return records


def _storage(identity: Any) -> tuple[torch.dtype, str, int]:
    """The (dtype, record, elements) of a persistent id ("storage", type, key, location, elements)."""
    if not (isinstance(identity, tuple) and len(identity) == 5 and identity[0] == "storage"):
        raise ValueError("a persistent id that is no storage")
    _, kind, key, _, size = identity
    if not (isinstance(kind, Name) and kind.dotted in _DTYPES):
        raise ValueError(f"storage of the kind {getattr(kind, 'dotted', kind)!r} is not supported")
    if not (isinstance(key, str) and isinstance(size, int)):
        raise ValueError("a storage without key and size")
    return _DTYPES[kind.dotted], key, size


def _stored_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> StoredTensor:
    dtype, key, size = storage
    numbers = (offset, *shape, *strides)
    if not (isinstance(dtype, torch.dtype) and all(isinstance(number, int) for number in numbers)):
        raise ValueError("a tensor without storage, shape and strides")
    return StoredTensor(dtype, key, size, offset, tuple(shape), tuple(strides))


def _parameter(data: Any, *_: Any) -> Any:
    return data


_CONSTRUCTORS: dict[str, Constructor] = {
    "torch._utils._rebuild_tensor_v2": _stored_tensor,
    "torch._utils._rebuild_tensor": _stored_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": lambda *arguments: tuple(*arguments),
}
