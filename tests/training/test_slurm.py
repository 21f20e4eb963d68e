"""What a rank makes of srun's variables."""

from __future__ import annotations

import socket

import pytest

from nest_ssl.training import slurm


@pytest.mark.parametrize(
    ("nodelist", "host"),
    [
        ("gpu7", "gpu7"),
        ("n[1-2]", "n1"),
        ("n[07-12,15],m3", "n07"),
        ("a3,b[1-4]", "a3"),
        ("rack[2,5]-n[003-004]", "rack2-n003"),
        ("n[1-2].cluster.org", "n1.cluster.org"),
    ],
)
def test_the_first_host_of_a_list(nodelist, host):
    assert slurm.first_host(nodelist) == host


def test_a_list_without_a_node_is_refused():
    with pytest.raises(ValueError, match="MASTER_ADDR"):
        slurm.first_host("")


def step(job: int, step: int = 0, restarts: int = 0) -> dict[str, str]:
    return {"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step), "SLURM_RESTART_COUNT": str(restarts)}


def test_steps_that_can_meet_on_a_node_have_ports_of_their_own():
    """500 jobs in a row with ten steps each, and the next turns of one job."""
    ports = [slurm.step_port(step(job, number)) for job in range(9000, 9500) for number in range(10)]
    assert len(set(ports)) == len(ports)
    assert len({slurm.step_port(step(9000, 0, restarts)) for restarts in range(50)}) == 50
    assert min(ports) > 1024 and max(ports) < 32768


def test_a_reserved_port_is_taken():
    assert slurm.step_port({**step(3), "SLURM_STEP_RESV_PORTS": "14001-14004"}) == 14001


def test_a_node_without_a_name_is_reached_by_the_address_that_slurm_knows(monkeypatch, tmp_path):
    def unknown(*words):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(slurm.socket, "getaddrinfo", unknown)
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\necho "NodeName=$3 NodeAddr=10.0.0.7 NodeHostName=x"\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert slurm.node_address("n1") == "10.0.0.7"
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match=r"'n1' of rank 0 has no address.*set MASTER_ADDR"):
        slurm.node_address("n1")
