"""Audio in tar archives: which member belongs to which row of a manifest."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from nest_ssl.files.arrays import load_arrays, save_arrays
from nest_ssl.files.index import ManifestIndex
from nest_ssl.files.manifest import read_rows
from nest_ssl.files.rows import audio_field, text_digest
from nest_ssl.files.tar_index import Member, TarIndex, TarReader, stem

# Rows of one recording that differ in their offset, as NeMo's conversion names them: call-sub1.wav is in
# call.wav.
SUB = re.compile(r"-sub\d+$")
NUMBER_AT_THE_END = re.compile(r"(\d+)\D*$")

CHUNK = 1 << 16  # rows handled at once

log = logging.getLogger(__name__)


class TarredAudio:
    """The members that the rows of manifests name, found once and kept on disk: 20 bytes per row.

    A row's member is the one of the same stem (or that without NeMo's -subN) in any archive.  Where several
    archives have one, that of the row's `shard_id` counts (the last number in the archive's name), or that
    at the manifest's own place if there are as many manifests as archives.  `matched`: (rows,) bool, over
    all manifests; `unused`: members that no row names.
    """

    def __init__(
        self,
        manifests: Sequence[ManifestIndex],
        tar_paths: Sequence[Path],
        name: str,
        whole_names: bool = False,
    ) -> None:
        self.whole_names = whole_names
        self.indexes = [TarIndex.open(path, whole_names) for path in tar_paths]
        self.name = name
        facts = {
            "version": 1,
            "whole_names": whole_names,
            "manifests": [index.fingerprint() for index in manifests],
            "tars": [[str(index.path), *index.stamp] for index in self.indexes],
        }
        cache = manifests[0].path.with_name(manifests[0].path.name + ".tars.idx")
        arrays = load_arrays(cache, facts)
        if arrays is None:
            arrays = self._match(manifests)
            if save_arrays(cache, facts, arrays):
                arrays = load_arrays(cache, facts) or arrays
        self._tars, self._offsets, self._sizes = arrays["tars"], arrays["offsets"], arrays["sizes"]
        self.matched = np.asarray(self._tars) >= 0
        self.unused = int(arrays["unused"][0])
        if self.unused:
            log.info("%s: %d members of the archives are named by no row", name, self.unused)
        self.reader = TarReader(tar_paths, [index.stamp for index in self.indexes])
        self._fingerprint = [index.fingerprint() for index in self.indexes]
        self.indexes = []  # the rows' own table is all that is needed from here on

    def member(self, row: int) -> Member:
        """Give where the audio of row `row` (of all manifests) is."""
        return Member(int(self._tars[row]), int(self._offsets[row]), int(self._sizes[row]))

    def fingerprint(self) -> list[str]:
        """Give texts that differ between archives of other members."""
        return self._fingerprint

    def _match(self, manifests: Sequence[ManifestIndex]) -> dict[str, np.ndarray]:
        counts = [len(index) for index in self.indexes]
        log.info("%s: matching rows with %d members of %d archives", self.name, sum(counts), len(counts))
        digests = np.concatenate([index.digests for index in self.indexes])
        order = np.argsort(digests, kind="stable")  # equal names: in the order of the archives
        digests = digests[order]
        starts = np.cumsum([0, *counts])
        shards = [self._shard_number(index.path) for index in self.indexes]
        rows = sum(index.num_rows for index in manifests)
        members = np.full(rows, -1, np.int64)
        first = 0  # row at which the manifest begins
        for place, manifest in enumerate(manifests):
            own = place if len(manifests) == len(self.indexes) else None
            rows_in_order = read_rows(manifest.path)
            for start in range(0, manifest.num_rows, CHUNK):
                stop = min(start + CHUNK, manifest.num_rows)
                names = [
                    stem(str(audio_field(row)), self.whole_names)
                    for _, row in islice(rows_in_order, stop - start)
                ]
                left, right = self._spans(digests, names)
                for k in np.flatnonzero(left == right).tolist():
                    if SUB.search(names[k]):
                        (left[k],), (right[k],) = self._spans(digests, [SUB.sub("", names[k])])
                found = left < right
                members[first + start : first + stop][found] = order[left[found]]
                for k in np.flatnonzero(right - left > 1).tolist():
                    choices = {
                        int(np.searchsorted(starts, member, "right")) - 1: int(member)
                        for member in order[left[k] : right[k]]
                    }
                    where = f"{manifest.path}:{manifest.line(start + k)}"
                    chosen = self._chosen(choices, manifest.row(start + k), shards, own, names[k], where)
                    members[first + start + k] = choices[chosen]
            first += manifest.num_rows
        used = np.unique(members[members >= 0])
        tars = (np.searchsorted(starts, members, "right") - 1).astype(np.int32)
        offsets = np.concatenate([index.offsets for index in self.indexes])
        sizes = np.concatenate([index.sizes for index in self.indexes])
        missing = members < 0
        tars[missing] = -1
        return {
            "tars": tars,
            "offsets": np.where(missing, 0, offsets[members] if len(offsets) else 0).astype(np.int64),
            "sizes": np.where(missing, 0, sizes[members] if len(sizes) else 0).astype(np.int64),
            "unused": np.array([len(digests) - len(used)], np.int64),
        }

    @staticmethod
    def _spans(digests: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Give, for each name, where its digest begins and ends among the ascending `digests`."""
        wanted = np.array([text_digest(name) for name in names], np.uint64)
        return np.searchsorted(digests, wanted, "left"), np.searchsorted(digests, wanted, "right")

    def _chosen(
        self,
        choices: dict[int, int],
        row: dict[str, Any],
        shards: list[int | None],
        own: int | None,
        name: str,
        where: str,
    ) -> int:
        """Give the archive, among those that have the member, that a row means."""
        stated = row.get("shard_id")
        if stated is not None:
            named = [tar for tar in choices if shards[tar] == stated]
            if len(named) == 1:
                return named[0]
        if own in choices:
            assert own is not None
            return own
        paths = " and ".join(str(self.indexes[tar].path) for tar in list(choices)[:2])
        raise ValueError(
            f"{where}: the member {name!r} is in {paths}; give the row a shard_id (the last number of the "
            "archive's name), or each archive a manifest of its own"
        )

    @staticmethod
    def _shard_number(path: Path) -> int | None:
        found = NUMBER_AT_THE_END.search(path.stem)
        return int(found.group(1)) if found else None
