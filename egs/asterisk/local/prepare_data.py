"""Check and decode the fetched prompts; write manifests and a report of what was kept and dropped.

Writes under --out: audio/FORMAT/LANGUAGE/KEY.flac (G.722 at 16 kHz, GSM and wav at 8 kHz, as recorded for the
telephone), prompts.jsonl (G.722), prompts_gsm.jsonl, prompts_wav8k.jsonl, noise.jsonl (music on hold) and
local/report.json.  Each archive is decoded once; a run that was stopped goes on with the next one.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from archives import prompt_texts, sound_files
from checksums import TABLE, Checksums, check, read_table
from packages import FORMATS, LANGUAGES, MUSIC, MUSIC_LICENSE, TEXTS, Source
from texts import NOT_SPEECH, Texts, parse_texts

from nest_ssl.bin.terminal import progress_bar, run
from nest_ssl.files.atomic import replaced
from nest_ssl.files.manifest import write_rows
from nest_ssl.files.system import usable_cpus
from nest_ssl.telephone.codecs.gsm import decode_gsm
from nest_ssl.telephone.writer import AudioWriter

PART_VERSION = 1  # raise it when decoding changes: parts of another version are made again
PACKET_BYTES = 1 << 14
MANIFESTS = {"g722": "prompts.jsonl", "gsm": "prompts_gsm.jsonl", "wav": "prompts_wav8k.jsonl"}

log = logging.getLogger("prepare_data")


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    archives = read_archives(arguments.archives)
    table = read_table(arguments.checksums)
    parts = decode_all(archives, table, arguments.out, arguments.jobs)
    texts = {
        source.language: parse_texts(
            prompt_texts(path, source.language), f"core-sounds-{source.language}.txt"
        )
        for source, path in archives.items()
        if source.format == TEXTS
    }
    os.sync()  # the audio was written without waiting for the disk; the manifests promise that it is there
    report = write_manifests(parts, texts, arguments.out)
    for line in report_lines(report):
        print(line)
    return 0


def read_archives(path: Path) -> dict[Source, Path]:
    """Read the list that fetch.py wrote."""
    with open(path, encoding="utf-8") as file:
        listed = json.load(file)
    return {Source(*name.split("-")): Path(archive) for name, archive in listed.items()}


def decode_all(
    archives: Mapping[Source, Path], table: Checksums, out: Path, jobs: int
) -> dict[Source, list[dict]]:
    """Decode every archive that is not decoded yet, `jobs` at a time; gives the facts of each one's files."""
    audio = {source: path for source, path in archives.items() if source.format != TEXTS}
    parts = {source: read_part(source, path, out) for source, path in audio.items()}
    todo = [source for source in audio if parts[source] is None]
    # the largest first, or the last one runs alone
    todo.sort(key=lambda source: -audio[source].stat().st_size)
    log.info("archives %d to_decode %d", len(audio), len(todo))
    expected = Counter((language, audio_format) for language, audio_format, _ in table)
    total = sum(expected[source.language, source.format] for source in todo)
    with (
        ProcessPoolExecutor(
            max(1, min(jobs, len(todo))), get_context("spawn"), end_with_parent, (os.getpid(),)
        ) as pool,
        progress_bar(total, "file", "decode") as bar,
    ):
        running = {pool.submit(decode_archive, source, audio[source], table, out): source for source in todo}
        try:
            for future in as_completed(running):
                parts[running[future]] = future.result()
                bar.update(len(parts[running[future]] or []))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {source: part or [] for source, part in parts.items()}


def end_with_parent(parent: int) -> None:
    """Make this worker end when the process that started it is killed: it would wait for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which cancels the work

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def decode_archive(source: Source, archive: Path, table: Checksums, out: Path) -> list[dict]:
    """Check and decode the files of one archive; gives their facts and writes them down, last of all.

    Raises ValueError for a file that is not as the table says, and for files of the table that the archive
    lacks.
    """
    files: list[dict[str, Any]] = []
    writer = AudioWriter(out / "local" / "unfinished", "flac")
    for key, content in sound_files(archive, f".{source.format}"):
        check(table, source.language, source.format, key, content, str(archive))
        if source.language != MUSIC and NOT_SPEECH.fullmatch(key):
            files.append({"key": key, "dropped": "no speech"})
            continue
        samples, rate = decode(content, source.format)
        if len(samples) == 0:
            files.append({"key": key, "dropped": "empty recording"})
            continue
        path = audio_path(source, key)
        size = writer.write(f"{out}/{path}", samples, rate)
        files.append({"key": key, "path": path, "frames": len(samples), "rate": rate, "bytes": size})
    present = {file["key"] for file in files}
    missing = sorted(
        key
        for language, audio_format, key in table
        if (language, audio_format) == (source.language, source.format) and key not in present
    )
    if missing:
        raise ValueError(
            f"{archive}: lacks {len(missing)} of its sound files, {missing[0]} for one; fetch it again"
        )
    files.sort(key=lambda file: file["key"])
    with replaced(part_path(source, out)) as temporary:
        temporary.write_text(json.dumps({"stamp": stamp(archive), "files": files}), encoding="utf-8")
    return files


def read_part(source: Source, archive: Path, out: Path) -> list[dict] | None:
    """Give the facts of an archive's files if it has been decoded and all of them are still there."""
    try:
        part = json.loads(part_path(source, out).read_text(encoding="utf-8"))
        if part["stamp"] != stamp(archive):
            return None
        for file in part["files"]:
            if "path" in file and (out / file["path"]).stat().st_size != file["bytes"]:
                return None
        return part["files"]
    except (OSError, ValueError, KeyError):
        return None


def stamp(archive: Path) -> dict[str, Any]:
    """What tells one state of an archive, and of its decoding, from another."""
    status = archive.stat()
    versions = {"av": av.__version__, "libsndfile": soundfile.__libsndfile_version__, "part": PART_VERSION}
    return {"archive": archive.name, "bytes": status.st_size, "mtime_ns": status.st_mtime_ns, **versions}


def part_path(source: Source, out: Path) -> Path:
    return out / "local" / "parts" / f"{source.name}.json"


def audio_path(source: Source, key: str) -> str:
    """Where a file is decoded to, below the output folder; the key is one of the committed table's."""
    folder = MUSIC if source.language == MUSIC else f"{source.format}/{source.language}"
    return f"audio/{folder}/{key}.flac"


def decode(content: bytes, audio_format: str) -> tuple[np.ndarray, int]:
    """Give int16 (T,) and the rate: 16000 for G.722, 8000 for GSM, the file's own for wav."""
    if not content:
        return np.zeros(0, np.int16), 8000
    if audio_format == "g722":
        return decode_g722(content), 16000
    if audio_format == "gsm":
        return decode_gsm(io.BytesIO(content)), 8000
    samples, rate = soundfile.read(io.BytesIO(content), dtype="int16", always_2d=True)
    return samples[:, 0], rate


def decode_g722(content: bytes) -> np.ndarray:
    """Give int16 (T,) at 16 kHz of a G.722 stream at 64 kbit/s: two samples per byte."""
    decoder = av.CodecContext.create("g722", "r")
    decoder.sample_rate = 16000
    decoder.layout = "mono"
    packets = [av.Packet(content[i : i + PACKET_BYTES]) for i in range(0, len(content), PACKET_BYTES)]
    frames = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    samples = np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])
    if len(samples) != 2 * len(content):
        raise ValueError(f"the G.722 decoder gave {len(samples)} samples for {len(content)} bytes")
    return samples


def write_manifests(
    parts: Mapping[Source, list[dict]], texts: Mapping[str, Texts], out: Path
) -> dict[str, Any]:
    """Write the manifests and the report; gives the report."""
    report: dict[str, Any] = {"manifests": {}, "archives": {}, "texts": {}}
    names = {audio_format: MANIFESTS[audio_format] for audio_format in FORMATS} | {MUSIC: "noise.jsonl"}
    rows: dict[str, list[dict]] = {name: [] for name in names.values()}
    for source in sorted(parts, key=lambda source: (source.language, source.format)):
        name = names[MUSIC if source.language == MUSIC else source.format]
        kept = [manifest_row(source, file, texts) for file in parts[source] if "path" in file]
        rows[name] += kept
        dropped: dict[str, list[str]] = {}
        for file in parts[source]:
            if "dropped" in file:
                dropped.setdefault(file["dropped"], []).append(file["key"])
        report["archives"][source.name] = {
            "files": len(parts[source]),
            "kept": len(kept),
            "with_text": sum(bool(row.get("text")) for row in kept),
            "hours": round(sum(row["duration"] for row in kept) / 3600, 4),
            "dropped": dropped,
        }
    for language, listed in texts.items():
        keys = {
            file["key"].casefold()
            for source in parts
            if source.language == language
            for file in parts[source]
        }
        unused = [key for key in listed.by_key if key.casefold() not in keys]
        report["texts"][language] = {
            "texts": len(listed.by_key),
            "without_audio": unused,
            "problems": listed.problems,
        }
    for name, manifest in rows.items():
        if manifest:
            write_rows(out / name, manifest)
            hours = round(sum(row["duration"] for row in manifest) / 3600, 4)
            report["manifests"][name] = {"rows": len(manifest), "hours": hours}
        else:
            (out / name).unlink(missing_ok=True)  # of an earlier run with more formats
    with replaced(out / "local" / "report.json") as temporary:
        temporary.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return report


def manifest_row(source: Source, file: Mapping[str, Any], texts: Mapping[str, Texts]) -> dict[str, Any]:
    """Give the row of one recording; `text` is "" where its wording is not known."""
    row = {"audio_filepath": file["path"], "duration": file["frames"] / file["rate"]}
    if source.language == MUSIC:
        return row | {"license": MUSIC_LICENSE, "key": file["key"], "id": f"{MUSIC}/{file['key']}"}
    language = LANGUAGES[source.language]
    return row | {
        "text": texts[source.language].find(file["key"]),
        "lang": language.code,
        "speaker": language.voice,
        "license": language.license,
        "key": file["key"],
        "format": source.format,
        "id": f"{source.format}/{language.code}/{file['key']}",
    }


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """Give the report as a table to print."""
    lines = [f"{'archive':<10}{'files':>7}{'kept':>7}{'text':>7}{'min':>8}  dropped"]
    for name, facts in report["archives"].items():
        dropped = ", ".join(f"{len(keys)} {reason}" for reason, keys in facts["dropped"].items()) or "-"
        counts = "".join(f"{facts[count]:>7}" for count in ("files", "kept", "with_text"))
        lines.append(f"{name:<10}{counts}{60 * facts['hours']:>8.1f}  {dropped}")
    for name, facts in report["manifests"].items():
        lines.append(f"{name}: {facts['rows']} recordings, {60 * facts['hours']:.1f} minutes")
    problems = sum(len(facts["problems"]) for facts in report["texts"].values())
    unused = sum(len(facts["without_audio"]) for facts in report["texts"].values())
    lines.append(f"texts: {problems} odd lines and {unused} without a recording, named in local/report.json")
    return lines


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--archives", type=Path, required=True, help="the list written by fetch.py")
    parser.add_argument("--out", type=Path, required=True, help="folder of the manifests and audio")
    parser.add_argument("--checksums", type=Path, default=TABLE, help="[%(default)s]")
    parser.add_argument("--jobs", type=int, default=usable_cpus(), help="processes [%(default)s]")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
