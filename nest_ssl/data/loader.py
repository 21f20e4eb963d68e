"""Batches of one rank, from any batch of any epoch on, read by worker processes."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import threading
import weakref
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from nest_ssl.data.bucket_plan import BucketPlan
from nest_ssl.data.noise_batch import AudioNoiseBatch, BatchAugmentor
from nest_ssl.data.plan import BatchPlan, EpochPlan
from nest_ssl.data.ssl_dataset import AudioNoiseDataset, BatchKey
from nest_ssl.data.worker_watch import DeadWorkerError, WorkerWatch
from nest_ssl.files.system import starts_processes_by_fork

SHARED_MEMORY = "/dev/shm"

log = logging.getLogger(__name__)


class SSLDataLoader:
    """The trainer's batches: batches(epoch, start) is a pure function of the plan, the seed and the rank.

    num_workers: 0 reads in this process; otherwise that many processes stay from the first use to `close()`,
        and each has up to `prefetch_factor` batches under way.
    start_method: how they start (fork, spawn, forkserver).  None is fork on Linux; elsewhere, where each
        would load everything anew, it is no workers at all.
    pin_memory: batches come in page-locked memory, where there is a GPU.
    batch_augmentor: called in the worker as augmentor(batch, rng).
    `corrupt`: utterance id -> reason, of utterances left out under the dataset's max_corrupt.
    """

    def __init__(
        self,
        dataset: AudioNoiseDataset,
        plan: BatchPlan | BucketPlan,
        num_workers: int = 0,
        pin_memory: bool = False,
        batch_augmentor: BatchAugmentor | None = None,
        prefetch_factor: int = 2,
        start_method: str | None = None,
    ) -> None:
        self.dataset = dataset
        self.plan = plan
        if num_workers and start_method is None and not starts_processes_by_fork():
            log.info(
                "%s.num_workers: 0 in place of %d here; +%s.multiprocessing_context=spawn keeps them",
                dataset.name,
                num_workers,
                dataset.name,
            )
            num_workers = 0
        self.num_workers = num_workers
        self.start_method = start_method
        self.prefetch_factor = prefetch_factor
        self.corrupt: dict[str, str] = {}
        self._pin_memory = pin_memory and torch.cuda.is_available()
        self._reader = _Reader(dataset, batch_augmentor)
        self._keys = _Keys()
        self._workers: DataLoader | None = None
        self._watch = WorkerWatch()
        self._planned: tuple[int, EpochPlan] | None = None
        self._results: weakref.ref[Generator[AudioNoiseBatch | _Failure, None, None]] | None = None
        self._counts: dict[int, int] = {}  # batches per epoch
        self._iteration = 0
        self._noted: set[str] = set()

    def num_batches(self, epoch: int) -> int:
        """Number of this rank's batches in `epoch`."""
        if epoch not in self._counts:
            self._counts[epoch] = self.plan.num_batches(epoch)
        return self._counts[epoch]

    def batches(self, epoch: int, start: int = 0) -> Iterator[AudioNoiseBatch]:
        """Give this rank's batches of `epoch` from number `start` on; nothing of the earlier ones is read.

        A second call ends the first one's iteration (which raises RuntimeError if it is continued).  Raises
        ValueError with manifest, line and file for audio that cannot be read, and RuntimeError when a batch
        is asked for and a worker is dead.
        """
        plan = self._epoch_plan(epoch)
        if not 0 <= start <= len(plan):
            raise ValueError(
                f"{self.dataset.name}: epoch {epoch} has {len(plan)} batches, so none is number {start}"
            )
        self._iteration += 1
        return self._iterate(plan, epoch, start, self._iteration)

    def describe(self) -> dict[str, Any]:
        """Facts for the log: rows, hours, what was dropped and why, batches and padding of epoch 0."""
        corpus, plan = self.dataset.corpus, self._epoch_plan(0)
        audio_s, padded_s = self.plan.seconds(plan)
        return {
            "manifest": ",".join(str(path) for path in corpus.manifests),
            "rows": corpus.num_rows,
            "utterances": len(corpus),
            "hours": round(float(self.plan.durations.sum(dtype=np.float64)) / 3600, 3),
            "dropped": dict(corpus.dropped),
            "without_duration": int(np.count_nonzero(~(corpus.stated_durations > 0))),
            "batches": len(plan),
            "utterances_per_batch": round(len(plan.order) / len(padded_s), 2),
            "padded_seconds_per_batch": round(float(padded_s.mean()), 2),
            "largest_batch_seconds": round(float(padded_s.max()), 2),
            "padding_share": round(1.0 - audio_s / float(padded_s.sum()), 4),
            "left_out_per_epoch": plan.dropped_utterances,
            "repeated_batches": plan.repeated_batches,
            "longer_than_batch_duration": self.plan.count_over_long(),
        }

    def fingerprint(self) -> str:
        """Give a text that changes when the order or content of the batches would."""
        dataset = self.dataset
        facts = {
            "manifests": dataset.corpus.fingerprint(),
            "noise": dataset.noise.corpus.fingerprint() if dataset.noise else [],
            "dropped": dataset.corpus.dropped,
            "audio": dataset.facts(),
            "plan": self.plan.facts(),
            "seed": dataset.seed,
        }
        return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()

    def close(self) -> None:
        """End the worker processes."""
        self._iteration += 1
        self._end_reading()
        self._end_workers()

    def _end_workers(self) -> None:
        self._watch.forget()
        self._workers = None

    def _epoch_plan(self, epoch: int) -> EpochPlan:
        if self._planned is None or self._planned[0] != epoch:
            self._planned = None  # frees the old order before the new one is made
            self._planned = (epoch, self.plan.epoch(epoch))
            self._counts[epoch] = len(self._planned[1])
        return self._planned[1]

    def _iterate(self, plan: EpochPlan, epoch: int, start: int, iteration: int) -> Iterator[AudioNoiseBatch]:
        rank = self.plan.rank
        keys = (BatchKey(epoch, b, rank, plan.items(b)) for b in range(start, len(plan)))
        results: Generator[AudioNoiseBatch | _Failure, None, None] | None = None
        while True:
            if iteration != self._iteration:
                raise RuntimeError("batches() was called again or the loader closed: this one has ended")
            if results is None:
                self._end_reading()
                results = self._read(keys)
                # Weak, since a cycle would keep the workers until the garbage collector comes.
                self._results = weakref.ref(results)
            try:
                result = self._watch.next_of(results)
            except StopIteration:
                return
            except RuntimeError as error:
                self._end_workers()
                if not isinstance(error, DeadWorkerError):
                    raise
                raise RuntimeError(
                    f"a data worker died ({error}); mostly memory ran out: lower "
                    f"{self.dataset.name}.num_workers or the batch, or give more of {SHARED_MEMORY} "
                    "(docker run --shm-size=8g)"
                ) from error
            yield self._checked(result)

    def _end_reading(self) -> None:
        """Let go of what an abandoned iteration holds, the workers among it."""
        results = self._results() if self._results is not None else None
        if results is not None:
            results.close()
        self._results = None

    def _read(self, keys: Iterator[BatchKey]) -> Generator[AudioNoiseBatch | _Failure, None, None]:
        if self.num_workers == 0:
            for key in keys:
                yield self._reader[key]
            return
        self._keys.current = keys
        if self._workers is not None:
            yield from self._workers
            return
        self._warn_of_little_shared_memory()
        workers = DataLoader(
            self._reader,
            batch_size=None,
            sampler=self._keys,  # type: ignore[arg-type]
            num_workers=self.num_workers,
            collate_fn=_as_it_is,  # type: ignore[arg-type]
            pin_memory=self._pin_memory,
            prefetch_factor=self.prefetch_factor,
            persistent_workers=True,
            worker_init_fn=_start_worker,
            multiprocessing_context=self.start_method,
            generator=torch.Generator(),  # its own, so that the trainer's random state is left alone
        )
        with self._watch.starting():
            results = iter(workers)
        self._workers = workers
        yield from results

    def _checked(self, result: AudioNoiseBatch | _Failure) -> AudioNoiseBatch:
        if isinstance(result, _Failure):
            raise ValueError(result.message)
        for note in result.notes:
            if note not in self._noted:
                self._noted.add(note)
                log.warning("%s", note)
        for utterance_id, reason in result.skipped:
            if utterance_id in self.corrupt:
                continue
            self.corrupt[utterance_id] = reason
            limit = self.dataset.max_corrupt
            log.warning(
                "utterance %s left out (%d of at most %d): %s", utterance_id, len(self.corrupt), limit, reason
            )
            if len(self.corrupt) > limit:
                raise ValueError(
                    f"{len(self.corrupt)} utterances cannot be read, more than "
                    f"{self.dataset.name}.max_corrupt={limit}; the last: {reason}"
                )
        return result if self._pin_memory is False or self.num_workers else result.pin_memory()

    def _warn_of_little_shared_memory(self) -> None:
        """Workers hand batches over in shared memory; a container has 64 MB of it unless told otherwise."""
        largest_s = float(
            self.plan.seconds(self._epoch_plan(self._planned[0] if self._planned else 0))[1].max()
        )
        needed = 3 * 4 * self.dataset.sample_rate * largest_s * self.num_workers * self.prefetch_factor
        try:
            free = shutil.disk_usage(SHARED_MEMORY).free
        except OSError:
            return
        if needed > free:
            log.warning(
                "%d workers may need %.0f MB of %s, where %.0f MB are free: lower num_workers or the batch, "
                "or give more (docker run --shm-size=8g)",
                self.num_workers,
                needed / 1e6,
                SHARED_MEMORY,
                free / 1e6,
            )


@dataclass(frozen=True)
class _Failure:
    """A worker's error about data, sent as data: its message arrives without torch's traceback around it."""

    message: str


class _Reader(Dataset):
    """What the workers run: a key gives a whole batch."""

    def __init__(self, dataset: AudioNoiseDataset, batch_augmentor: BatchAugmentor | None) -> None:
        self.dataset = dataset
        self.batch_augmentor = batch_augmentor

    def __getitem__(self, key: BatchKey) -> AudioNoiseBatch | _Failure:
        try:
            return self.dataset.batch(key, self.batch_augmentor)
        except (ValueError, OSError) as error:
            return _Failure(str(error))


class _Keys:
    """The sampler of persistent workers: whatever keys come next."""

    def __init__(self) -> None:
        self.current: Iterator[BatchKey] = iter(())

    def __iter__(self) -> Iterator[BatchKey]:
        return self.current


def _as_it_is(batch: AudioNoiseBatch | _Failure) -> AudioNoiseBatch | _Failure:
    return batch


def _start_worker(worker_id: int) -> None:
    """Leave signals to the main process, and end with it, whatever the worker is doing then.

    Ctrl-C and a scheduler's SIGTERM reach the whole group; the trainer saves, then ends its workers.  A main
    process that is killed ends nobody: torch's own watchdog only looks between batches, and takes the
    process that adopted the worker for its parent if the main one died before it first looked.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):  # Slurm's before the time limit reaches every process of the job
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    main = multiprocessing.parent_process()
    if main is not None:
        threading.Thread(target=_end_with, args=(main.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """Wait for the end of the main process, which the sentinel shows at once even if it came before."""
    multiprocessing.connection.wait([sentinel])
    os._exit(1)  # a batch under way is nobody's any more
