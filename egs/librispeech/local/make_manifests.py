"""Write train.jsonl, dev.jsonl, test.jsonl and noise.jsonl from corpora in their publishers' layout.

  make_manifests.py --corpora data/corpora.json --out data/manifests

LibriSpeech's own train, dev and test parts stay what they are; Libri-Light is added to train, its recordings
of many minutes cut at the pauses that its own metadata give.  noise.jsonl has the recordings of MUSAN and of
the point sources in RIRS_NOISES, cut into pieces of equal weight.  report.json counts what was left out, and
why.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from corpora import LIBRILIGHT_MD5, LIBRISPEECH, PARTS

from nest_ssl.bin.terminal import progress_bar, run
from nest_ssl.files.atomic import replaced
from nest_ssl.files.audio import audio_info

MUSAN_KINDS = ("noise", "music", "speech")

Row = dict[str, Any]
log = logging.getLogger("manifests")


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    places = {name: Path(path) for name, path in json.loads(arguments.corpora.read_text("utf-8")).items()}
    arguments.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {}
    for split in ("train", "dev", "test"):
        parts = [name for name in places if name in LIBRISPEECH and name.startswith(split)]
        parts += [name for name in places if name in LIBRILIGHT_MD5 and split == "train"]
        rows = (row for name in parts for row in speech_rows(name, places[name], arguments))
        report[split] = write(rows, arguments.out / f"{split}.jsonl", arguments)
    noise = (
        row
        for name in places
        if name in ("musan", "rirs")
        for row in noise_rows(name, places[name], arguments)
    )
    report["noise"] = write(noise, arguments.out / "noise.jsonl", arguments)
    with replaced(arguments.out / "report.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for split, facts in report.items():
        log.info("%s rows %d hours %.2f dropped %s", split, facts["rows"], facts["hours"], facts["dropped"])
    return 0


def speech_rows(name: str, folder: Path, arguments: argparse.Namespace) -> Iterator[Row]:
    """Rows of a part of LibriSpeech or Libri-Light, in the order of their paths."""
    if name in LIBRILIGHT_MD5:
        rows = parallel(
            lambda path: librilight_rows(path, folder, arguments), sorted(folder.rglob("*.flac")), name
        )
    else:
        rows = parallel(librispeech_rows, sorted(folder.glob("*/*")), name)
    for row in rows:
        yield {**row, "lang": "en", "corpus": name, "license": PARTS[name].license}


def librispeech_rows(chapter: Path) -> list[Row]:
    """One chapter: SPEAKER-CHAPTER.trans.txt has a line "ID TEXT" for every ID.flac."""
    if not chapter.is_dir():
        return []
    listing = chapter / f"{chapter.parent.name}-{chapter.name}.trans.txt"
    texts = {}
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8").splitlines():
            name, _, text = line.partition(" ")
            texts[name] = text.strip().lower()
    rows: list[Row] = []
    for path in sorted(chapter.glob("*.flac")):
        row = file_row(path, path.stem, f"{chapter.parent.name}-{chapter.name}", chapter.parent.name)
        if path.stem in texts:
            row["text"] = texts.pop(path.stem)
        rows.append(row)
    # a transcript without audio is a hole in the corpus and is counted
    return rows + [{"id": name, "dropped": "transcript without audio"} for name in texts]


def librilight_rows(path: Path, folder: Path, arguments: argparse.Namespace) -> list[Row]:
    """One recording: pieces of at most --max-duration, cut in pauses; whole where its metadata lack them."""
    identity = str(path.relative_to(folder).with_suffix(""))
    row = file_row(path, f"librilight/{identity}", identity, path.relative_to(folder).parts[0])
    metadata = path.with_suffix(".json")
    if "dropped" in row or not metadata.is_file():
        return [row] if "dropped" in row else [{"id": row["id"], "dropped": "no metadata"}]
    spoken = json.loads(metadata.read_text(encoding="utf-8")).get("voice_activity") or []
    pieces = cut_in_pauses([(float(a), float(b)) for a, b in spoken], arguments.max_duration)
    return [
        {
            **row,
            "id": f"{row['id']}@{begin:.2f}",
            "offset": round(begin, 2),
            "duration": round(end - begin, 2),
        }
        for begin, end in pieces
        if end <= row["duration"] + 0.01
    ]


def cut_in_pauses(spoken: Iterable[tuple[float, float]], longest: float) -> list[tuple[float, float]]:
    """Join stretches of speech, (begin, end) in seconds, into pieces of at most `longest` seconds.

    A stretch that is longer itself is cut into equal pieces.
    """
    pieces: list[tuple[float, float]] = []
    for begin, end in spoken:
        if pieces and end - pieces[-1][0] <= longest:
            pieces[-1] = (pieces[-1][0], end)
            continue
        count = max(1, -int(-(end - begin) // longest))
        step = (end - begin) / count
        pieces += [(begin + number * step, begin + (number + 1) * step) for number in range(count)]
    return pieces


def noise_rows(name: str, folder: Path, arguments: argparse.Namespace) -> Iterator[Row]:
    """Rows of MUSAN (its three kinds) or of the point sources of RIRS_NOISES, in pieces of like length."""
    if name == "musan":
        kinds = [(kind, folder / kind) for kind in MUSAN_KINDS if kind in arguments.musan]
    else:
        kinds = [("noise", folder / "pointsource_noises")]
    for kind, place in kinds:
        paths = sorted(place.rglob("*.wav"))
        if not paths:
            raise FileNotFoundError(
                f"{place}: no .wav in it; is {folder} what {PARTS[name].archive} unpacks to?"
            )
        for row in parallel(
            lambda path: [file_row(path, f"{name}/{path.stem}", path.stem, None)], paths, name
        ):
            if "dropped" in row:
                yield row
                continue
            count = max(1, round(row["duration"] / arguments.noise_piece))
            step = row["duration"] / count
            for number in range(count):
                offset = round(number * step, 3)
                piece = {"id": f"{row['id']}@{offset:g}", "offset": offset, "duration": round(step, 3)}
                yield {**row, **piece, "kind": kind, "corpus": name, "license": PARTS[name].license}


def file_row(path: Path, identity: str, key: str, speaker: str | None) -> Row:
    """The row of a whole file, or {"id", "dropped": reason}."""
    try:
        info = audio_info(path)
    except (OSError, ValueError):
        return {"id": identity, "dropped": "unreadable audio"}
    row: Row = {
        "id": identity,
        "key": key,
        "audio_filepath": str(path),
        "duration": round(info.duration_s, 4),
    }
    return row if speaker is None else {**row, "speaker": speaker}


def parallel(work: Callable[[Path], list[Row]], paths: list[Path], name: str) -> Iterator[Row]:
    """The rows of all paths in their order; reading headers waits for the disk, hence the threads."""
    with ThreadPoolExecutor(16) as threads, progress_bar(len(paths), "path", name) as bar:
        for start in range(0, len(paths), 4096):  # a bounded number of results in memory
            for rows in threads.map(work, paths[start : start + 4096]):
                yield from rows
                bar.update(1)


def write(rows: Iterable[Row], path: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the rows that can be used; gives counts of what was written and of what was not."""
    dropped: Counter[str] = Counter()
    count, seconds, is_noise = 0, 0.0, path.name == "noise.jsonl"
    with replaced(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for row in rows:
            reason = row.get("dropped")
            if not reason and not is_noise and row["duration"] < arguments.min_duration:
                reason = "shorter than min_duration"
            if not reason and not is_noise and row["duration"] > arguments.max_duration:
                reason = "longer than max_duration"
            if reason:
                dropped[reason] += 1
                continue
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
            seconds += row["duration"]
    if not count and path.stem in ("train", "dev"):
        raise ValueError(f"{path}: no row is left for it; dropped: {dict(dropped)}")
    return {"rows": count, "hours": seconds / 3600, "dropped": dict(dropped)}


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--corpora", type=Path, required=True, help="the list that fetch.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder of the manifests")
    parser.add_argument("--min-duration", type=float, default=1.0, metavar="S")
    parser.add_argument("--max-duration", type=float, default=36.0, metavar="S")
    parser.add_argument(
        "--noise-piece", type=float, default=30.0, metavar="S", help="seconds of a piece, about"
    )
    parser.add_argument("--musan", nargs="+", choices=MUSAN_KINDS, default=["noise", "music"])
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
