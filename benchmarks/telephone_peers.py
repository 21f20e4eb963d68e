"""One peer of benchmarks/telephone.py over a manifest: `telephone_peers.py lhotse|phonesim MANIFEST`.

Runs with the interpreter of an environment that holds the peer and imports nothing of nest_ssl.  Prints
audio_s, cpu_s, wall_s and files as JSON; the clock starts after a few files.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

WARM_UP = 4


def lhotse_gsm() -> Callable[[str, Path], None]:
    """Resample to 8 kHz, then GSM, then FLAC: the order in which its codec runs at the right rate."""
    from lhotse import Recording

    def work(path: str, out: Path) -> None:
        cut = Recording.from_file(path).to_cut().resample(8000).compress("gsm")
        cut.save_audio(f"{out}.flac")

    return work


def phonesim_pstn() -> Callable[[str, Path], None]:
    """Its own pstn_narrowband profile, one simulator for all files, written as it writes files."""
    import phonesim

    simulators: dict[int, object] = {}

    def work(path: str, out: Path) -> None:
        samples, _ = phonesim.load_audio(path, sr=16000)
        if 16000 not in simulators:
            simulators[16000] = phonesim.PhoneCallSimulator(
                input_sample_rate=16000, output_sample_rate=8000, profile="pstn_narrowband"
            )
        changed = simulators[16000](samples, seed=17)
        phonesim.save_audio(f"{out}.flac", changed, sr=8000)

    return work


def main() -> None:
    work = {"lhotse": lhotse_gsm, "phonesim": phonesim_pstn}[sys.argv[1]]()
    with open(sys.argv[2], encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    with tempfile.TemporaryDirectory() as folder:
        for row in rows[:WARM_UP]:
            work(row["audio_filepath"], Path(folder) / "warm")
        before, started = time.process_time(), time.monotonic()
        for number, row in enumerate(rows):
            work(row["audio_filepath"], Path(folder) / str(number))
        cpu_s, wall_s = time.process_time() - before, time.monotonic() - started
    audio_s = sum(row["duration"] for row in rows)
    print(json.dumps({"audio_s": audio_s, "cpu_s": cpu_s, "wall_s": wall_s, "files": len(rows)}))


if __name__ == "__main__":
    main()
