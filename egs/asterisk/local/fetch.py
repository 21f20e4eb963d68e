"""Fetch the archives of the Asterisk prompts and write down where they are.

Routes, the first that applies:
  --deb-dir DIR      a folder of the Debian packages (no network)
  --tarball-dir DIR  a folder of the upstream project's releases (no network)
  apt                `apt-get download` by package name, where there is apt; needs no root
  upstream           the releases from the upstream project's site

The upstream route could be tried against a local imitation of the site only; every file it brings is checked
against the same table as the packages' files (prepare_data.py).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from packages import FORMATS, LANGUAGES, UPSTREAM, Source, sources

from nest_ssl.bin.terminal import progress_bar, run
from nest_ssl.files.atomic import replaced
from nest_ssl.files.download import download

TIMEOUT_S = 30
NAMED = 6  # of the archives that are missing
WITHOUT_NETWORK = "without a network use --deb-dir DIR or --tarball-dir DIR"

log = logging.getLogger("fetch")


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    wanted = sources(arguments.languages, arguments.formats)
    if arguments.deb_dir:
        archives = find_archives(arguments.deb_dir, wanted, deb_pattern)
    elif arguments.tarball_dir:
        archives = find_archives(arguments.tarball_dir, wanted, lambda source: source.tarball)
    else:
        route = arguments.route or ("apt" if shutil.which("apt-get") else "upstream")
        arguments.downloads.mkdir(parents=True, exist_ok=True)
        if route == "apt":
            apt_download(wanted, arguments.downloads)
            archives = find_archives(arguments.downloads, wanted, deb_pattern)
        else:
            upstream_download(wanted, arguments.downloads, arguments.upstream)
            archives = find_archives(arguments.downloads, wanted, lambda source: source.tarball)
    listing = {source.name: str(path.resolve()) for source, path in archives.items()}
    with replaced(arguments.out) as temporary:
        temporary.write_text(json.dumps(listing, indent=1) + "\n", encoding="utf-8")
    log.info("archives %d bytes %d listed in %s", len(listing), total_bytes(archives), arguments.out)
    return 0


def deb_pattern(source: Source) -> str:
    """Name of the package file of a source, its version open."""
    return f"{source.package}_*.deb"


def find_archives(folder: Path, wanted: list[Source], pattern: Callable[[Source], str]) -> dict[Source, Path]:
    """Give the archive of every source from a folder; FileNotFoundError names those that are missing."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; it should hold the archives that README.md names")
    found = {source: sorted(folder.glob(pattern(source))) for source in wanted}
    missing = sorted({pattern(source) for source, paths in found.items() if not paths})
    if missing:
        rest = f" and {len(missing) - NAMED} more (README.md)" if len(missing) > NAMED else ""
        named = ", ".join(missing[:NAMED])
        raise FileNotFoundError(f"{folder} lacks {len(missing)} of the archives: {named}{rest}")
    return {source: paths[-1] for source, paths in found.items()}


def total_bytes(archives: dict[Source, Path]) -> int:
    """Size of the archives together, each counted once."""
    return sum(path.stat().st_size for path in set(archives.values()))


def apt_download(wanted: list[Source], downloads: Path) -> None:
    """Bring the packages that `downloads` lacks.

    They are loaded into a folder of their own and moved when apt has verified them all, so that what lies in
    `downloads` is complete.  Raises OSError with apt's words and the other ways if apt cannot.
    """
    packages = [source.package for source in wanted if not list(downloads.glob(deb_pattern(source)))]
    if not packages:
        return
    partial = downloads / ".partial"
    partial.mkdir(exist_ok=True)
    listing = apt_get("--print-uris", packages, partial)
    if listing.returncode and os.geteuid() == 0:
        log.info("apt-get update: the package lists are missing or old")
        subprocess.run(["apt-get", "update", "-q"], capture_output=True, check=False)
        listing = apt_get("--print-uris", packages, partial)
    if listing.returncode:
        raise apt_failed(listing.stderr)
    sizes = {
        words[1]: int(words[2]) for words in map(str.split, listing.stdout.splitlines()) if len(words) > 2
    }
    clear_partial(partial, sizes)
    log.info("apt-get download packages %d bytes %d", len(packages), sum(sizes.values()))
    with (
        subprocess.Popen(
            apt_command(None, packages),
            cwd=partial,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
        progress_bar(sum(sizes.values()) or None, "B", "fetch") as bar,
    ):
        while process.poll() is None:
            loaded = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
            bar.update(max(0, loaded - bar.n))
            time.sleep(0.2)
        errors = process.stderr.read() if process.stderr else ""
    if process.returncode:
        raise apt_failed(errors)
    for path in partial.glob("*.deb"):
        path.replace(downloads / path.name)
    shutil.rmtree(partial)


def apt_get(option: str, packages: list[str], folder: Path) -> subprocess.CompletedProcess:
    """Run `apt-get download` with an option, output captured."""
    return subprocess.run(
        apt_command(option, packages), cwd=folder, capture_output=True, text=True, check=False
    )


def apt_command(option: str | None, packages: list[str]) -> list[str]:
    """The words of `apt-get download`; the sandbox user could not write into the caller's folder."""
    options = ["-q", "-o", "APT::Sandbox::User=root", "-o", f"Acquire::http::Timeout={TIMEOUT_S}"]
    return ["apt-get", "download", *options, *([option] if option else []), *packages]


def clear_partial(partial: Path, sizes: dict[str, int]) -> None:
    """Remove what an interrupted run left unless it has its full size; apt verifies those by their hash."""
    for path in partial.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif sizes.get(path.name) != path.stat().st_size:
            path.unlink()


def apt_failed(output: str) -> OSError:
    """The error to raise when apt-get did not deliver."""
    words = " ".join(line.strip() for line in output.splitlines() if line.startswith("E:")) or output.strip()
    return OSError(
        f"apt-get download failed: {words[:400]}\n"
        "  If the package lists are missing: sudo apt-get update, then the same command again.\n"
        "  Without a network: --deb-dir DIR (Debian packages) or --tarball-dir DIR (upstream releases).\n"
        "  Without these packages in apt: source path.sh; python3 egs/asterisk/local/fetch.py "
        "--route upstream --out archives.json; then run.sh with --tarball-dir downloads"
    )


def upstream_download(wanted: list[Source], downloads: Path, site: str) -> None:
    """Bring the releases that `downloads` lacks; an interrupted one goes on where it stopped."""
    names = [
        name for name in dict.fromkeys(source.tarball for source in wanted) if not (downloads / name).exists()
    ]
    for number, name in enumerate(names, start=1):
        log.info("download %d/%d %s", number, len(names), name)
        download(site.rstrip("/") + "/" + name, downloads / name, progress_bar, WITHOUT_NETWORK)


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--downloads", type=Path, default=Path("downloads"), help="folder [%(default)s]")
    parser.add_argument("--out", type=Path, required=True, help="list of the archives, JSON")
    route = parser.add_mutually_exclusive_group()
    route.add_argument("--deb-dir", type=Path, help="folder of the Debian packages")
    route.add_argument("--tarball-dir", type=Path, help="folder of the upstream releases")
    route.add_argument("--route", choices=("apt", "upstream"), help="[apt where there is apt-get]")
    parser.add_argument("--upstream", default=UPSTREAM, help="site of the releases [%(default)s]")
    parser.add_argument("--languages", nargs="+", choices=list(LANGUAGES), default=list(LANGUAGES))
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
