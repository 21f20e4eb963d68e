"""What each side costs: import, packages, time of a step, peak memory; nothing counts as a difference."""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from nemo_comparison.peers import SMALL, Peers
from nemo_comparison.table import Table

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def compare_cost(peers: Peers, table: Table) -> None:
    """Each side in a process of its own; benchmarks/nest_step.py measures the real sizes."""
    sys.path.insert(0, str(BENCHMARKS))
    from nest_step import SideProcess, timed

    with tempfile.TemporaryDirectory() as folder:
        sides = [SideProcess(sys.executable, name, Path(folder), 0) for name in ("ours", "nemo")]
        options = {
            **{"batch": 4, "seconds": 4.0, "precision": "fp32", "threads": 0, "lr": 1e-4, "device": "cpu"},
            **{"config": str(peers.path), "seed": peers.seed, "compile": False, "share": True},
            "overrides": [*SMALL, *peers.overrides],
        }
        try:
            facts = [side("build", **options) for side in sides]
            times = timed(sides, peers.pairs, warmup=1)
            memory = [side("memory")["mb"] for side in sides]
        finally:
            for side in sides:
                side.close()
    print(f"{'cost':<66}{'ours':>12}{'NeMo':>11}")
    for what, key in (
        ("import, s", "import_s"),
        ("modules loaded", "modules"),
        ("third-party packages loaded", "packages"),
        ("parameters", "parameters"),
        ("memory after import, MB", "import_mb"),
    ):
        print(f"{what:<66}{facts[0][key]:>12,.0f}{facts[1][key]:>11,.0f}")
    print(f"{'peak memory of the process, 4 x 4 s, MB':<66}{memory[0]:>12,.0f}{memory[1]:>11,.0f}")
    medians = [1e3 * statistics.median(seconds) for seconds in times]
    print(f"{'step, 4 x 4 s, ms':<66}{medians[0]:>12,.0f}{medians[1]:>11,.0f}")
    ratios = sorted(nemo / ours for ours, nemo in zip(*times, strict=True))
    print(
        f"NeMo's time / ours: median of {len(ratios)} pairs {statistics.median(ratios):.2f} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )
