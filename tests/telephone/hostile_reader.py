"""Reads the cases of hostile_audio in a process that may crash: python -m ... COUNT FIRST FOLDER.

Into FOLDER/result.jsonl goes a line when a case begins, one when it is done, and what was wrong with it.
"""

from __future__ import annotations

import faulthandler
import json
import resource
import signal
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nest_ssl.files.audio import AudioInfo, audio_info, read_audio
from nest_ssl.files.decode import RATES as READ_RATES
from nest_ssl.files.manifest import write_rows
from nest_ssl.telephone import sources
from nest_ssl.telephone.corpus import TelephoneCorpus
from nest_ssl.telephone.presets import Mix
from tests.telephone.hostile_audio import NOTICE, REFUSE, Case, all_cases, bases

CPU_S = 5.0  # for one case, on the slowest machine
MEMORY_BYTES = 1 << 30  # for one case, over what the libraries take
PART_S = 0.05


def main(count: int, first: int, folder: Path) -> None:
    faulthandler.enable()
    cases = all_cases(count)[first:]
    names = [f"{first + i}" for i in range(len(cases))]
    paths = [folder / "audio" / (name + make().suffix) for name, make in zip(names, cases, strict=True)]
    rows = [{"audio_filepath": str(path), "id": name} for path, name in zip(paths, names, strict=True)]
    (folder / "audio").mkdir(exist_ok=True)
    write_rows(folder / "in.jsonl", rows)
    corpus = TelephoneCorpus(
        folder / "in.jsonl", folder / "out", Mix.load("default").only("pstn_g711a"), seed=1
    )
    (folder / "tmp").mkdir(exist_ok=True)
    simulate = corpus.work(folder / "tmp").start()
    expected(folder)
    limit_memory()
    with open(folder / "result.jsonl", "a", encoding="utf-8") as results:
        for row_number, make in enumerate(cases):
            number = first + row_number
            case = make()
            print(json.dumps({"begin": number, "name": case.name}), file=results, flush=True)
            path = paths[row_number]
            path.write_bytes(case.content)
            sources.SMALL_BYTES = number % 2 * (4 << 20)  # every other one by the way of large files
            signal.setitimer(signal.ITIMER_PROF, CPU_S)  # its signal ends this process
            seen = examine(case, path, folder, lambda n=row_number: json.loads(simulate((n, 0))))
            signal.setitimer(signal.ITIMER_PROF, 0)
            path.unlink()
            print(json.dumps({"end": number, **seen}), file=results, flush=True)


def limit_memory() -> None:
    """Let allocations of more than MEMORY_BYTES beyond today's fail."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def guessed(info: AudioInfo) -> bool:
    """True for MP3 and for what PyAV opens, whose lengths are known to about a frame."""
    return info.format.startswith("MP3") or not info.format[:2].isupper()


@cache
def expected(folder: Path) -> dict[str, np.ndarray]:
    """What the unchanged files hold."""
    held = {}
    for base in bases():
        path = folder / f"base{base.suffix}"
        path.write_bytes(base.content)
        held[base.name] = read_audio(path, channel="average")[0]
    return held


def examine(case: Case, path: Path, folder: Path, simulate: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Read and simulate a file; gives how it was read and what is wrong with that."""
    wrong: list[str] = []

    def attempt(what: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (ValueError, OSError) as error:
            if str(path) not in str(error):
                wrong.append(f"{what}: the message does not name the file: {error}")
        except Exception as error:
            wrong.append(f"{what}: {type(error).__name__}: {error}")
        return None

    info = attempt("audio_info", lambda: audio_info(path))
    whole = attempt("read_audio", lambda: read_audio(path, channel="average"))
    for offset in (0.0, PART_S):
        part = attempt("a part", lambda o=offset: read_audio(path, None, o, PART_S, "average"))
        if part and whole:
            begin = int(offset * whole[1])
            of_whole = whole[0][begin : begin + int(PART_S * whole[1])]
            # the float decoder of MP3 rounds otherwise after a seek
            rounding = 2.4e-7 * max(1.0, np.abs(of_whole).max(initial=0)) if path.suffix == ".mp3" else 0.0
            if part[0].shape != of_whole.shape or np.abs(part[0] - of_whole).max() > rounding:
                wrong.append(f"the part from {offset} s on is not that of the whole")
    if info and info.duration_s > 1 and info.seekable:
        attempt("a late part", lambda: read_audio(path, 16000, info.duration_s - 0.5, 0.1, "average"))
    if whole:
        samples, rate = whole
        if not info:
            wrong.append("read_audio reads what audio_info refuses")
        elif abs(len(samples) - info.num_frames) > (0.5 * rate if guessed(info) else 0):
            wrong.append(f"{len(samples)} samples, while audio_info gives {info.num_frames}")
        elif info.missing_frames:
            wrong.append("frames are missing, and the whole is read")
        if samples.dtype != np.float32 or samples.ndim != 1 or not len(samples):
            wrong.append(f"samples of shape {samples.shape}, {samples.dtype}")
        if not np.isfinite(samples).all() or not READ_RATES[0] <= rate <= READ_RATES[1]:
            wrong.append(f"samples that are not finite, or a rate of {rate} Hz")
        overshoots = any(name in case.base for name in ("FLOAT", "DOUBLE", "OGG", "mp3", "m4a"))
        if not overshoots and np.abs(samples).max() > 1:
            wrong.append(f"samples up to {np.abs(samples).max()}")
        if case.debt == REFUSE:
            wrong.append(f"silent pass: {len(samples)} samples of a file that promises more")
        if case.debt == NOTICE and not np.array_equal(samples, expected(folder)[case.base]):
            wrong.append(f"silent pass: {len(samples)} of {len(expected(folder)[case.base])} samples")
    with np.errstate(all="raise", under="ignore"):
        record = attempt("simulate", simulate)
    if record is not None:
        wrong += simulated(record, path, info, whole)
    return {"name": case.name, "read": whole is not None, "wrong": wrong}


def simulated(record: dict[str, Any], path: Path, info: Any, whole: Any) -> list[str]:
    """What is wrong with the driver's record of a file that is read as `whole`."""
    if "error" in record:
        if str(path) not in record["error"]:
            return [f"simulate: the error does not name the file: {record['error']}"]
        usable = whole and info.channels == 1 and sources.RATES[0] <= info.sample_rate <= sources.RATES[1]
        return [f"simulate refuses what is read: {record['error']}"] if usable else []
    if not whole:
        return ["silent pass: simulate takes what read_audio refuses"]
    duration_s = record["manifest"][0]["duration"]
    if abs(duration_s - len(whole[0]) / whole[1]) > 1 / 16000:
        return [f"simulate made {duration_s} s of {len(whole[0]) / whole[1]} s"]
    return []


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
