"""Ranks: those a launcher gives (torchrun, srun), or our own, one process per device."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from nest_ssl.files.system import keep_freed_memory
from nest_ssl.training.options import TrainerOptions
from nest_ssl.training.slurm import slurm_ranks


@dataclass(frozen=True)
class Ranks:
    """This process's place among the ranks, and its device."""

    rank: int
    local_rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum `values` over the ranks, in place, and give it."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Every rank's `value` (any picklable object), in rank order, on every rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Return when every rank has come here."""
        if self.world_size > 1:
            dist.barrier()

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """Do what is inside on the main rank, and then on the others: they find what it has left on disk."""
        if not self.is_main:
            self.wait()
        yield
        if self.is_main:
            self.wait()


def launch(work: Callable[[Ranks, Any], int], argument: Any, options: TrainerOptions) -> int:
    """Call `work(ranks, argument)` on every rank and give its exit status (the largest of the ranks we
    start).

    Under torchrun or srun this process is one rank already.  Otherwise `devices` ranks are started here:
    -1 means all GPUs, or one CPU process.
    """
    given = given_ranks(os.environ)
    if given is not None:
        rank, local_rank, world_size, init_method = given
        asked = _num_devices(options) * options.num_nodes
        if options.devices not in (-1, "-1", "auto") and asked != world_size:
            raise ValueError(
                f"trainer.devices {options.devices} x trainer.num_nodes {options.num_nodes} asks "
                f"for {asked} ranks, "
                f"but the launcher gave {world_size}; leave trainer.devices at -1 under torchrun or srun"
            )
        return _run_rank(work, argument, options, rank, local_rank, world_size, init_method)
    if options.num_nodes > 1:
        raise ValueError(
            f"trainer.num_nodes {options.num_nodes}: several nodes need a launcher; start the command with "
            "srun (one task per device) or torchrun on every node"
        )
    count = _num_devices(options)
    if count == 1:
        return _run_rank(work, argument, options, 0, 0, 1, None)
    with tempfile.TemporaryDirectory(prefix="nest-ranks-") as folder:
        loopback = _loopback()
        if loopback:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        # C++ advises against find_unused_parameters, which data_parallel needs, on standard error.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        # A file as meeting point: no port to be taken by somebody else.
        context = multiprocessing.start_processes(
            _spawned,
            (work, argument, options, count, _file_address(Path(folder) / "meet"), os.getpid()),
            count,
            join=False,
            start_method="spawn",
        )
        return _join(context.processes)


def given_ranks(environment: Mapping[str, str]) -> tuple[int, int, int, str | None] | None:
    """(rank, local_rank, world_size, init_method) as torchrun or srun set them, or None without a
    launcher."""
    if {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= environment.keys():
        return (
            int(environment["RANK"]),
            int(environment.get("LOCAL_RANK", 0)),
            int(environment["WORLD_SIZE"]),
            "env://",
        )
    return slurm_ranks(environment)


def _run_rank(
    work: Callable[[Ranks, Any], int],
    argument: Any,
    options: TrainerOptions,
    rank: int,
    local_rank: int,
    world_size: int,
    init_method: str | None,
) -> int:
    device = _device(options, local_rank)
    if device.type == "cpu":
        keep_freed_memory()
    ranks = Ranks(rank, local_rank, world_size, device)
    if world_size == 1:
        return work(ranks, argument)
    backend = "nccl" if device.type == "cuda" and dist.is_nccl_available() else "gloo"
    dist.init_process_group(
        backend, init_method=init_method, rank=rank, world_size=world_size, timeout=PATIENCE
    )
    try:
        return work(ranks, argument)
    finally:
        dist.destroy_process_group()


def _spawned(
    local_rank: int,
    work: Callable,
    argument: Any,
    options: TrainerOptions,
    count: int,
    meet: str,
    parent: int,
) -> None:
    _die_with(parent)
    # Ctrl-C on a terminal reaches every process of the group; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        raise SystemExit(_run_rank(work, argument, options, local_rank, local_rank, count, meet))
    except (ValueError, OSError) as error:  # bad input: one line, as in a single process
        print(f"rank {local_rank}: error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    except Exception as error:
        if any(sign in str(error) for sign in LOST_PEER):  # that rank has said why
            print(f"rank {local_rank}: stopped, because another rank ended", file=sys.stderr, flush=True)
        else:
            traceback.print_exc()
        raise SystemExit(1) from None


# How gloo and NCCL speak of a rank that is gone
LOST_PEER = (
    "remote worker",
    "Connection closed by peer",
    "Connection reset by peer",
    "NCCL communicator was aborted",
)
PATIENCE = timedelta(hours=2)  # the main rank may index a large manifest before the others hear of it
END_GRACE_S = 30.0  # for the other ranks, once one has failed


def _join(processes: Sequence[BaseProcess]) -> int:
    """Wait for the ranks we started and give the run's exit status; when one fails the others are ended."""
    signals: list[int] = []

    def pass_on(number: int, frame: Any) -> None:
        signals.append(number)
        again = number == signal.SIGINT and signals.count(number) > 1
        for process in processes:
            if process.is_alive():
                process.kill() if again else process.terminate()

    previous = {number: signal.signal(number, pass_on) for number in heard_signals()}
    try:
        while alive := [process for process in processes if process.is_alive()]:
            connection.wait([process.sentinel for process in alive])
            # A rank that was asked to stop has saved with the others: those are about to end as well.
            if any(process.exitcode not in (None, 0, STOPPED) for process in processes):
                _end(processes)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    codes = [process.exitcode or 0 for process in processes]
    if signals and any(codes):
        return 128 + signals[0]
    return next((code if code > 0 else 128 - code for code in codes if code), 0)


def _end(processes: Sequence[BaseProcess]) -> None:
    deadline = time.monotonic() + END_GRACE_S
    for process in processes:  # most notice by themselves that a rank is gone
        process.join(max(0.0, min(2.0, deadline - time.monotonic())))
        if process.is_alive():
            process.terminate()
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()


STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)
)
STOPPED = 128 + signal.SIGTERM


def heard_signals() -> list[int]:
    """The stop signals, less those that this process was started to ignore (nohup, a rank and Ctrl-C)."""
    return [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def _die_with(parent: int) -> None:
    """Have the kernel kill this rank when the process that started it dies, however it dies (Linux)."""
    if sys.platform.startswith("linux"):
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


def _num_devices(options: TrainerOptions) -> int:
    devices = options.devices
    if isinstance(devices, list):
        return len(devices)
    if str(devices) in ("-1", "auto"):
        # Windows has no nccl: several GPUs must be asked for by number there.
        return max(1, torch.cuda.device_count()) if _use_cuda(options) and dist.is_nccl_available() else 1
    if str(devices).isdigit() and int(devices) > 0:
        return int(devices)
    raise ValueError(f"trainer.devices: {devices!r} is not -1, a number of devices or a list of GPU numbers")


def _use_cuda(options: TrainerOptions) -> bool:
    if options.accelerator == "cpu":
        return False
    if options.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"trainer.accelerator: {options.accelerator!r}, but PyTorch sees no GPU here; use cpu or auto"
        )
    return torch.cuda.is_available()


def _device(options: TrainerOptions, local_rank: int) -> torch.device:
    if not _use_cuda(options):
        return torch.device("cpu")
    number = options.devices[local_rank] if isinstance(options.devices, list) else local_rank
    if "SLURM_LOCALID" in os.environ and torch.cuda.device_count() == 1:
        number = 0  # srun --gpus-per-task=1 shows each rank its own GPU only
    if number >= torch.cuda.device_count():
        raise ValueError(
            f"trainer.devices: {options.devices!r} asks for GPU {number}, but PyTorch sees "
            f"{torch.cuda.device_count()}"
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def _loopback() -> str | None:
    """Name of the interface to this machine itself; None where gloo finds it without (Windows)."""
    names = {name for _, name in socket.if_nameindex()}
    return next((name for name in ("lo", "lo0") if name in names), None)


def _file_address(path: Path) -> str:
    """A file's path as a meeting point, file:///C:/... on Windows."""
    return "file:///" + path.as_posix().lstrip("/")
