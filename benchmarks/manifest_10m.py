"""What a manifest of 10 million lines costs: index, opening, memory, one epoch's plan.

    python benchmarks/manifest_10m.py [--rows 10000000] [--folder DIR]

Writes a manifest of short rows (about 2 GB) into a temporary folder, removes it at the end, and measures
every step in a process of its own, so that the peak of its memory (VmHWM) is the step's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent

PRELUDE = """
import json, re, sys, time
def memory(what):
    return int(re.search(what + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024
path, base = sys.argv[1], memory("VmRSS")
"""
OPEN = (
    PRELUDE
    + """
from nest_ssl.files.index import ManifestIndex
base, t = memory("VmRSS"), time.monotonic()
index = ManifestIndex.open(path)
seconds = time.monotonic() - t
row = index.row(index.num_rows - 1)
print(f"{seconds:.2f} s; memory before {base} MB, after {memory('VmRSS')} MB, peak {memory('VmHWM')} MB")
"""
)
PLAN = (
    PRELUDE
    + """
if sys.argv[3] == "torch":
    import torch
from nest_ssl.data.corpus import Corpus
from nest_ssl.data.plan import BatchPlan
base, t = memory("VmRSS"), time.monotonic()
corpus = Corpus(path, min_duration=1.0, max_duration=20.0)
plan = BatchPlan(corpus.lengths(), world_size=8, seed=1, **json.loads(sys.argv[2]))
opened, opened_mb = time.monotonic() - t, memory("VmRSS")
t = time.monotonic()
epoch = plan.epoch(3)
seconds, peak = time.monotonic() - t, memory("VmHWM")
print(f"opened and filtered {len(corpus)} of {corpus.num_rows} rows in {opened:.2f} s, "
      f"plan in {seconds:.2f} s; {len(epoch)} batches on each of 8 ranks, "
      f"padding {100 * plan.padding_share(epoch):.2f} %; "
      f"memory before {base} MB, opened {opened_mb} MB, planned {memory('VmRSS')} MB, peak {peak} MB")
"""
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", help="where the temporary folder is made")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "train.jsonl"
        write_manifest(path, arguments.rows)
        print(f"manifest: {arguments.rows} rows, {path.stat().st_size / 1e9:.2f} GB")
        step("index is built and opened", OPEN, path)
        step("index is opened", OPEN, path)
        step("epoch by count, batch_size 8", PLAN, path, '{"batch_size": 8, "drop_last": true}', "")
        step("epoch by seconds, batch_duration 120", PLAN, path, '{"batch_duration": 120.0}', "")
        step("the same with torch imported", PLAN, path, '{"batch_duration": 120.0}', "torch")


def write_manifest(path: Path, count: int, chunk: int = 100_000) -> None:
    """Durations as those of telephone prompts: 5 % below 0.5 s, median 1.4 s, 5 % above 7 s, at most 70 s."""
    random = np.random.default_rng(1)
    with open(path, "w", encoding="utf-8") as file:
        for start in range(0, count, chunk):
            z = random.standard_normal(min(chunk, count - start))
            durations = np.minimum(1.4 * np.exp(z * np.where(z > 0, 0.978, 0.626)), 70)
            file.writelines(
                f'{{"id": "en_{i:08d}", "audio_filepath": "audio/en/{i % 4096:04d}/{i:08d}.flac", '
                f'"duration": {duration:.3f}, "text": "the number you have dialed is not in service"}}\n'
                for i, duration in enumerate(durations.tolist(), start=start)
            )


def step(name: str, program: str, path: Path, *words: str) -> None:
    started = time.monotonic()
    command = [sys.executable, "-c", program, str(path), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr}")
    print(f"{name}: {done.stdout.strip()} (process {time.monotonic() - started:.1f} s)", flush=True)


if __name__ == "__main__":
    main()
