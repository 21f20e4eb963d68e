"""Make checksums.tsv from a folder of the Debian packages, as it was made:

apt-get download asterisk-core-sounds-{en,es,fr,it,ru}-{g722,gsm,wav} asterisk-moh-opsound-g722
python local/make_checksums.py --deb-dir . --out local/checksums.tsv
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from archives import sound_files
from checksums import TABLE, Checksums, digest, table_lines
from fetch import deb_pattern, find_archives
from packages import FORMATS, LANGUAGES, TEXTS, sources

from nest_ssl.bin.terminal import run
from nest_ssl.files.atomic import replaced


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--deb-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=TABLE)
    arguments = parser.parse_args(argv)
    wanted = [source for source in sources(list(LANGUAGES), list(FORMATS)) if source.format != TEXTS]
    table: Checksums = {}
    archives = find_archives(arguments.deb_dir, wanted, deb_pattern)
    for source, archive in archives.items():
        for key, content in sound_files(archive, f".{source.format}"):
            table[source.language, source.format, key] = digest(content)
    versions = ", ".join(sorted({archive.name.split("_")[1] for archive in archives.values()}))
    comment = (
        f"SHA-256, first digits, of the files in the Debian packages {versions}; made by make_checksums.py"
    )
    with replaced(arguments.out) as temporary:
        temporary.write_text("\n".join(table_lines(table, FORMATS, comment)) + "\n", encoding="utf-8")
    print(f"{arguments.out}: {len(table)} files", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run(main)
