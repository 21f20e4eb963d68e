"""Bring corpora to a folder: load, verify, unpack what it lacks.

  fetch.py --corpora data/corpora --downloads data/downloads --out data/corpora.json train-clean-100 musan

A part that is in the folder already (say, --corpora names a corpus that you have) is taken as it is.
Archives that are in --downloads are not loaded again, but verified.  Loading goes on where an earlier run
broke off.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from corpora import CHECKSUM_LISTS, PARTS, Part
from unpack import unpack

from nest_ssl.bin.terminal import progress_bar, run
from nest_ssl.files.atomic import replaced
from nest_ssl.files.download import TIMEOUT_S, download

READ_BYTES = 1 << 22

log = logging.getLogger("fetch")


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    places = {}
    for name in dict.fromkeys(arguments.parts):
        part = PARTS[name]
        place = arguments.corpora / part.folder
        if place.is_dir():
            log.info("%s: is in %s", name, place)
        else:
            bring(part, arguments)
        places[name] = str(place.resolve())
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with replaced(arguments.out) as temporary:
        temporary.write_text(json.dumps(places, indent=1) + "\n", encoding="utf-8")
    return 0


def bring(part: Part, arguments: argparse.Namespace) -> None:
    """Load, verify and unpack one archive."""
    site = arguments.site or part.site
    archive = arguments.downloads / part.archive
    arguments.downloads.mkdir(parents=True, exist_ok=True)
    arguments.corpora.mkdir(parents=True, exist_ok=True)
    if not archive.is_file():
        if arguments.offline:
            raise FileNotFoundError(
                f"{archive} is missing, and --offline loads nothing; it is {site}/{part.archive}"
            )
        log.info("%s: loading %s/%s", part.name, site, part.archive)
        way_out = f"put {part.archive} into {arguments.downloads}, or name a folder that has {part.folder}"
        download(f"{site}/{part.archive}", archive, progress_bar, way_out)
    verify(part, archive, published_md5(part, archive, site, arguments.offline))
    free, size = shutil.disk_usage(arguments.corpora).free, archive.stat().st_size
    if free < size:
        raise OSError(
            f"{arguments.corpora} has {free >> 20} MB free, and {archive.name} ({size >> 20} MB) "
            "unpacks to more"
        )
    # FLAC hardly shrinks: the files have about the size of their archive
    with progress_bar(size, "B", f"unpack {part.name}") as bar:
        count = unpack(archive, part.folder, arguments.corpora, bar.update)
    log.info("%s: unpacked %d files to %s", part.name, count, arguments.corpora / part.folder)
    if arguments.remove_archives:
        archive.unlink()


def published_md5(part: Part, archive: Path, site: str, offline: bool) -> str:
    """The sum from the publisher's list beside the archive, else the one on the corpus's page.

    A list that lies beside the archive on disk counts as well, under the publisher's name for it.
    """
    for name in CHECKSUM_LISTS:
        local = archive.with_name(name)
        if local.is_file():
            text = local.read_text(encoding="utf-8", errors="replace")
        elif offline:
            continue
        else:
            try:
                with urllib.request.urlopen(f"{site}/{name}", timeout=TIMEOUT_S) as answer:
                    text = answer.read(1 << 20).decode("utf-8", "replace")
            except urllib.error.HTTPError as error:
                if error.code in (403, 404):  # this publisher has no list of that name
                    continue
                raise OSError(f"{site}/{name}: the server answered {error.code} {error.reason}") from error
        for line in text.splitlines():
            words = line.split()
            if len(words) == 2 and words[1].removeprefix("*").rpartition("/")[2] == part.archive:
                return words[0].lower()
    return part.md5


def verify(part: Part, archive: Path, md5: str) -> None:
    """Compare the archive with its published sum; ValueError if it differs."""
    if not md5:
        log.warning("%s: no published checksum was found for %s, so it is not verified", part.name, archive)
        return
    sum_of_file = hashlib.md5(usedforsecurity=False)
    with open(archive, "rb") as file, progress_bar(archive.stat().st_size, "B", f"verify {part.name}") as bar:
        while chunk := file.read(READ_BYTES):
            sum_of_file.update(chunk)
            bar.update(len(chunk))
    if sum_of_file.hexdigest() != md5:
        raise ValueError(
            f"{archive}: its MD5 is {sum_of_file.hexdigest()}, the publisher says {md5}; the file is "
            "damaged or another one: remove it and run the same command again"
        )


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--corpora", type=Path, required=True, help="folder with LibriSpeech/, musan/, ...")
    parser.add_argument("--downloads", type=Path, required=True, help="folder of the archives")
    parser.add_argument("--out", type=Path, required=True, help="list of the parts and their folders, JSON")
    parser.add_argument("--offline", action="store_true", help="load nothing")
    parser.add_argument("--remove-archives", action="store_true", help="once they are unpacked")
    parser.add_argument("--site", help="take all archives from here, say a mirror of your own")
    parser.add_argument("parts", nargs="+", choices=list(PARTS), metavar="PART", help=", ".join(PARTS))
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
