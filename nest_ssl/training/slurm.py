"""This process's place among the tasks that srun started, and where they meet."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Mapping

# Below the ports that the system gives to outgoing connections (32768 and up on Linux), none of which is then
# in the way.  A cluster that reserves ports for steps (MpiParams=ports=...) names one that is surely free.
FIRST_PORT, NUM_PORTS = 12000, 18000


def slurm_ranks(environment: Mapping[str, str]) -> tuple[int, int, int, str] | None:
    """(rank, local_rank, world_size, init_method) from the variables of srun, or None outside of it.

    MASTER_ADDR and MASTER_PORT, where they are set, have precedence.
    """
    # Set by srun only: inside a plain batch script there is one process and no launcher.
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks < 2 or "SLURM_PROCID" not in environment:
        return None
    address = environment.get("MASTER_ADDR") or node_address(first_host(environment["SLURM_STEP_NODELIST"]))
    port = environment.get("MASTER_PORT") or step_port(environment)
    rank, local_rank = int(environment["SLURM_PROCID"]), int(environment["SLURM_LOCALID"])
    return rank, local_rank, tasks, f"tcp://{address}:{port}"


def step_port(environment: Mapping[str, str]) -> int:
    """The port where the ranks of this step meet: the same for all of them, another for every other step.

    Steps of jobs that run at the same time on a node have numbers close to each other, which never give the
    same port; a requeued job has another port than the one it left behind.
    """
    reserved = re.match(r"\d+", environment.get("SLURM_STEP_RESV_PORTS", ""))
    if reserved:
        return int(reserved[0])
    job, step, restarts = (
        int(environment.get(name) or 0) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    )
    return FIRST_PORT + (job * 31 + step + restarts * 7919) % NUM_PORTS


def first_host(nodelist: str) -> str:
    """The first of a list of nodes as Slurm writes it: n07 of "n[07-12,15],m3"."""
    first = re.match(r"(?:[^\[,]|\[[^\]]*\])+", nodelist)
    if not first:
        raise ValueError(f"SLURM_STEP_NODELIST={nodelist!r} names no node; set MASTER_ADDR to that of rank 0")
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", first[0])


def node_address(host: str) -> str:
    """Where to reach a node: by its name, or by the address Slurm has for it where the name is not known."""
    try:
        socket.getaddrinfo(host, None)
        return host
    except OSError:
        pass
    try:
        words = ["scontrol", "show", "node", host]
        answer = subprocess.run(
            words, capture_output=True, text=True, encoding="utf-8", check=False, timeout=60
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        answer = ""
    address = re.search(r"\bNodeAddr=(\S+)", answer)
    if not address:
        raise ValueError(
            f"the node {host!r} of rank 0 has no address here (neither by name nor from scontrol); "
            "set MASTER_ADDR"
        )
    return address[1]
