#!/usr/bin/env python3
"""Time the telephone channel beside sox, ffmpeg, lhotse, phonesim and the FLAC floor, on the same files.

  python benchmarks/telephone.py --manifest egs/asterisk/data/prompts.jsonl [--files 1000] [--copies 4]
      [--peer-files 200] [--rounds 3] [--noise-manifest egs/asterisk/data/noise.jsonl] [--json OUT.json]
      [--peer-python PEERS/bin/python]

Every contender reads the same FLAC files and writes files; they take turns, round by round, each in a process
of its own.  What is printed is seconds of audio per second of CPU time, children included (so that other work
on the machine counts little), as median and range over the rounds, and the ratios that matter, each taken
within a round.
Ours starts with nothing designed and nothing read.  --copies: outputs that it makes of each file, so that the
voices, rooms and filters that a corpus pays for once weigh about as much as they do there; 1 shows a corpus
of so many files.  --peer-files: files for the programs that take a process per file, or are slow.
--peer-python: an environment with lhotse and phonesim; a peer that is not installed is left out by name.
--presets adds a line for every preset.  --efficiency adds the wall time of one worker over that of two,
halved; it needs an idle machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]
WARM_UP = 4  # files before the clock starts: libraries loaded, filters designed, codecs set up

# Demands on the medians: contender, how many times faster than the other (None: real time), least factor.
DEMANDS = (
    ("ours default mix", None, 300.0),
    ("ours pstn_g711a", None, 650.0),
    ("ours pstn_g711a", "floor decode+encode", 0.45),
    ("ours pstn_g711u", None, 650.0),
    ("ours pstn_g711u", "floor decode+encode", 0.45),
    ("ours default mix", "ffmpeg GSM pair", 15.0),
    ("ours GSM alone to 16k", "sox GSM pair", 2.2),
    ("ours pstn_g711u", "phonesim pstn_narrowband", 12.0),
)
# GSM and nothing else: what the pairs of sox and ffmpeg processes do.
PLAIN = [f"channel.{stage}=null" for stage in ("noise", "weighting", "high_pass", "receive", "level_dbov")]
PLAIN += ["presets.mobile_gsm_fr.legs=[{codec: gsm_fr}]"]


def main(argv: Sequence[str]) -> int:
    arguments = parse(argv)
    if arguments.contender:
        print(json.dumps(run_contender(arguments)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        manifest = choose_files(arguments.manifest, arguments.files, Path(folder) / "files.jsonl")
        fewer = choose_files(arguments.manifest, arguments.peer_files, Path(folder) / "fewer.jsonl")
        speeds, left_out = rounds(arguments, manifest, fewer)
    report = summary(arguments, speeds, left_out)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def choose_files(manifest: Path, count: int, chosen: Path) -> Path:
    """Write the manifest `chosen` of `count` rows, drawn by a hash of their ids, with absolute paths."""
    from nest_ssl.files.manifest import read_rows, write_rows
    from nest_ssl.files.rows import audio_path, row_identity

    rows = []
    for _, row in read_rows(manifest):
        path = audio_path(row, manifest)
        if path.suffix == ".flac" and not row.get("offset"):
            rows.append(row | {"audio_filepath": str(path.resolve()), "id": row_identity(row)})
    rows.sort(key=lambda row: hashlib.sha256(row["id"].encode()).digest())
    if len(rows) < count:
        print(f"{manifest}: {len(rows)} FLAC files, fewer than {count}; all are taken", file=sys.stderr)
    write_rows(chosen, rows[:count])
    return chosen


def contenders(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """Name every contender and the arguments of the process that runs it."""
    names = ["floor decode", "floor decode+encode", "ours default mix", "ours default mix to 16k"]
    names += ["ours pstn_g711a", "ours pstn_g711u", "ours GSM alone to 16k"]
    names += ["ours default mix, 2 workers"] if arguments.efficiency else []
    if arguments.presets:
        from nest_ssl.telephone import Mix

        known = [preset.name for preset in Mix.load("default").presets if preset.weight > 0]
        names += [f"ours {name}" for name in known if f"ours {name}" not in names]
    commands = {name: [sys.executable, __file__, "--contender", name] for name in names}
    for name, program in (("sox mu-law", "sox"), ("sox GSM pair", "sox"), ("ffmpeg GSM pair", "ffmpeg")):
        if shutil.which(program):
            commands[name] = [sys.executable, __file__, "--contender", name]
    if arguments.peer_python:
        for name in ("lhotse resample+gsm", "phonesim pstn_narrowband"):
            commands[name] = [
                arguments.peer_python,
                str(Path(__file__).with_name("telephone_peers.py")),
                name.split()[0],
            ]
    return commands


def rounds(
    arguments: argparse.Namespace, manifest: Path, fewer: Path
) -> tuple[dict[str, list[dict[str, float]]], dict[str, str]]:
    """Run every contender once per round; gives their results and, by name, why one was left out.

    fewer: the manifest for the other programs.
    """
    results: dict[str, list[dict[str, float]]] = {}
    left_out: dict[str, str] = {}
    wanted = arguments.only
    extra = ["--copies", str(arguments.copies)]
    if arguments.noise_manifest:
        extra += ["--noise-manifest", str(arguments.noise_manifest.resolve())]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    commands = contenders(arguments)
    for number in range(arguments.rounds):
        for name, command in commands.items():
            if name in left_out or (wanted and not any(word in name for word in wanted)):
                continue
            ours = command[1] == __file__
            all_of_them = name.startswith(("ours", "floor"))
            files = str(manifest if all_of_them else fewer)
            words = [*command, *(["--manifest", files, *extra] if ours else [files])]
            print(f"round {number + 1}: {name}", file=sys.stderr)
            done = subprocess.run(words, capture_output=True, text=True, env=environment)
            if done.returncode != 0:
                left_out[name] = (done.stderr.strip().splitlines() or ["no message"])[-1]
                continue
            results.setdefault(name, []).append(json.loads(done.stdout.splitlines()[-1]))
    for missing in {"sox mu-law", "ffmpeg GSM pair", "lhotse resample+gsm"} - set(commands):
        left_out[missing] = "not installed, or no --peer-python"
    return results, left_out


def run_contender(arguments: argparse.Namespace) -> dict[str, float]:
    """Run one contender over the files of the manifest; gives audio_s, cpu_s, wall_s and files."""
    from nest_ssl.files.manifest import read_rows

    rows = [row for _, row in read_rows(arguments.manifest)]
    name: str = arguments.contender
    with tempfile.TemporaryDirectory() as folder:
        if name.startswith("ours "):
            return _ours(name.removeprefix("ours "), arguments, rows, Path(folder))
        work: Callable[[str, Path], None] = PROGRAMS[name]
        for row in rows[:WARM_UP]:
            work(row["audio_filepath"], Path(folder) / "warm")
        before, started = _cpu_s(), time.monotonic()
        for number, row in enumerate(rows):
            work(row["audio_filepath"], Path(folder) / str(number))
        return _result(rows, before, started)


def _ours(
    what: str, arguments: argparse.Namespace, rows: list[dict[str, Any]], folder: Path
) -> dict[str, float]:
    """Our corpus driver from manifest to manifest, records and all, in one process."""
    from nest_ssl.files.manifest import write_rows
    from nest_ssl.telephone import Mix
    from nest_ssl.telephone.corpus import TelephoneCorpus
    from nest_ssl.telephone.jobs import merge, run_shard

    out_rate = 16000 if what.endswith(" to 16k") else 8000
    workers = 2 if what.endswith(", 2 workers") else 1
    what = what.removesuffix(" to 16k").removesuffix(", 2 workers")
    if what == "default mix":
        mix = Mix.load("default")
    elif what == "GSM alone":
        mix = Mix.load("default", overrides=PLAIN).only("mobile_gsm_fr")
    else:
        mix = Mix.load("default").only(what)
    noise = {"music": arguments.noise_manifest} if arguments.noise_manifest else {}
    warm = folder / "warm.jsonl"
    write_rows(warm, rows[: 5 * WARM_UP])
    for manifest, out in ((warm, folder / "warm"), (arguments.manifest, folder / "out")):
        before, started = _cpu_s(), time.monotonic()
        corpus = TelephoneCorpus(
            manifest, out, mix, seed=17, copies=arguments.copies, recordings=noise, out_rate=out_rate
        )
        run_shard(corpus, workers=workers)
        _, errors = merge(corpus, max_error_rate=0.0)
        assert errors == 0
    return _result(rows * arguments.copies, before, started)


def _floor(path: str, out: Path, encode: bool) -> None:
    import soundfile

    samples, rate = soundfile.read(path, dtype="int16")
    if encode:
        soundfile.write(out.with_suffix(".flac"), samples[::2], rate // 2, subtype="PCM_16")


def _pair(first: list[str], second: list[str], between: str) -> Callable[[str, Path], None]:
    def work(path: str, out: Path) -> None:
        places = {"IN": path, "MIDDLE": f"{out}.{between}", "OUT": f"{out}.flac"}
        for words in (first, second):
            subprocess.run([places.get(word, word) for word in words], check=True, capture_output=True)

    return work


def _sox_mu_law(path: str, out: Path) -> None:
    words = ["sox", path, "-r", "8000", "-e", "mu-law", f"{out}.wav", "sinc", "300-3400"]
    subprocess.run(words, check=True, capture_output=True)


_FFMPEG = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-i"]
PROGRAMS: dict[str, Callable[[str, Path], None]] = {
    "floor decode": lambda path, out: _floor(path, out, encode=False),
    "floor decode+encode": lambda path, out: _floor(path, out, encode=True),
    "sox mu-law": _sox_mu_law,
    "sox GSM pair": _pair(
        ["sox", "IN", "-r", "8000", "MIDDLE"], ["sox", "MIDDLE", "-r", "16000", "OUT"], "gsm"
    ),
    "ffmpeg GSM pair": _pair(
        [*_FFMPEG, "IN", "-ar", "8000", "-c:a", "libgsm", "MIDDLE"],
        [*_FFMPEG, "MIDDLE", "-ar", "16000", "OUT"],
        "gsm",
    ),
}


def _cpu_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _result(rows: list[dict[str, Any]], cpu_before: float, started: float) -> dict[str, float]:
    audio_s = sum(row["duration"] for row in rows)
    cpu_s = _cpu_s() - cpu_before
    return {"audio_s": audio_s, "cpu_s": cpu_s, "wall_s": time.monotonic() - started, "files": len(rows)}


def summary(
    arguments: argparse.Namespace, results: dict[str, list[dict[str, float]]], left_out: dict[str, str]
) -> dict[str, Any]:
    """Print the table and the demands; gives them as one dictionary."""
    speeds = {name: [run["audio_s"] / run["cpu_s"] for run in runs] for name, runs in results.items()}
    largest = max((runs[0] for runs in results.values()), key=lambda run: run["files"])
    print(f"{largest['files']:.0f} files, {largest['audio_s']:.0f} s of audio, {arguments.rounds} rounds")
    print(f"{platform.machine()} {_processor()}, Python {platform.python_version()}")
    print(f"{'':34s} {'x real time':>12s} {'range':>15s} {'files/s':>8s}")
    for name, values in speeds.items():
        files_s = statistics.median(run["files"] / run["cpu_s"] for run in results[name])
        span = f"{min(values):.0f}-{max(values):.0f}"
        print(f"{name:34s} {statistics.median(values):12.0f} {span:>15s} {files_s:8.0f}")
    for name, why in sorted(left_out.items()):
        print(f"{name:34s} left out: {why}")
    demands = []
    for name, other, least in DEMANDS:
        if name not in speeds or (other and other not in speeds):
            continue
        base = speeds[other] if other else [1.0] * len(speeds[name])
        factor = statistics.median(ours / theirs for ours, theirs in zip(speeds[name], base, strict=True))
        verdict = "met" if factor >= least else "MISSED"
        print(f"{name} / {other or 'real time'}: {factor:.2f}, demanded {least:g}: {verdict}")
        demands.append({"name": name, "other": other, "factor": factor, "demanded": least})
    if "ours default mix, 2 workers" in results:
        pairs = zip(results["ours default mix"], results["ours default mix, 2 workers"], strict=True)
        halves = [one["wall_s"] / two["wall_s"] / 2 for one, two in pairs]
        print(f"efficiency of two workers: {statistics.median(halves):.2f}, demanded 0.9 (wall time)")
        demands.append({"name": "efficiency", "factor": statistics.median(halves), "demanded": 0.9})
    return {"speeds": speeds, "left_out": left_out, "demands": demands}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True, help="rows of whole FLAC files")
    parser.add_argument("--noise-manifest", type=Path, help="recordings for the noise kind music")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--copies", type=int, default=4, help="outputs that ours makes of each file")
    parser.add_argument("--peer-files", type=int, default=200, help="for sox, ffmpeg, lhotse and phonesim")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--presets", action="store_true", help="a line for every preset of the default mix")
    parser.add_argument("--efficiency", action="store_true", help="how well two workers share the work")
    parser.add_argument("--peer-python", help="interpreter with lhotse and phonesim")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument(
        "--only", action="append", help="contenders with this word in their name; again for more"
    )
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
