from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, missing_programs


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two nodes that run jobs; skips where Slurm is not installed."""
    missing = missing_programs()
    if missing:
        pytest.skip(f"no {', '.join(missing)} here; as root: bash utils/setup_env.sh --with-slurm")
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons need root here")
    # Sockets have short paths, which pytest's own temporary folders are too long for.
    with tempfile.TemporaryDirectory(prefix="nest-slurm-") as folder:
        cluster = Cluster(Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
