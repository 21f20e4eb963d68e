"""Stage `data` of egs/asterisk on packages and tarballs made of a few real prompts."""

from __future__ import annotations

import functools
import http.server
import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import archives
import checksums
import fetch
import numpy as np
import prepare_data
import pytest
import soundfile
import texts
from packages import LANGUAGES, Source

from nest_ssl.files.audio import audio_info, read_audio
from nest_ssl.files.manifest import read_rows
from tests.recipes.asterisk_archives import (
    FORMATS,
    LOCAL,
    MUSIC_SECONDS,
    PROMPTS,
    ROOT,
    sound_files,
    write_package,
)


def fetched(folder: Path, *options: str) -> Path:
    """Run fetch.py; gives the list of archives."""
    out = folder / "archives.json"
    assert fetch.main(["--downloads", str(folder / "downloads"), "--out", str(out), *options]) == 0
    return out


def prepare(listing: Path, out: Path, table: Path) -> None:
    arguments = ["--archives", str(listing), "--out", str(out), "--checksums", str(table), "--jobs", "2"]
    assert prepare_data.main(arguments) == 0


def rows_of(path: Path) -> dict[str, dict]:
    return {row["id"]: row for _, row in read_rows(path)}


@pytest.fixture(scope="module")
def prepared(packages, table, tmp_path_factory) -> Path:
    """The data folder made from the packages."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare(fetched(folder, "--deb-dir", str(packages)), folder / "data", table)
    return folder / "data"


def test_every_speech_recording_is_in_the_manifest_of_its_format(prepared):
    for name, audio_format, rate in (
        ("prompts.jsonl", "g722", 16000),
        ("prompts_gsm.jsonl", "gsm", 8000),
        ("prompts_wav8k.jsonl", "wav", 8000),
    ):
        rows = rows_of(prepared / name)
        assert len(rows) == 31  # six keys in five languages, digits/1F
        assert "es/digits/1F" in {row_id.removeprefix(f"{audio_format}/") for row_id in rows}
        for row in rows.values():
            info = audio_info(prepared / row["audio_filepath"])
            assert (info.sample_rate, row["format"]) == (rate, audio_format)
            assert row["duration"] == info.num_frames / rate
            assert row["speaker"] == LANGUAGES[row["lang"]].voice
            assert row["license"] == ("CC-BY-3.0" if row["lang"] in ("it", "ru") else "CC-BY-SA-3.0")


def test_g722_gives_two_samples_per_byte_and_the_three_formats_the_same_speech(prepared):
    row = rows_of(prepared / "prompts.jsonl")["g722/en/hello-world"]
    wide, _ = read_audio(prepared / row["audio_filepath"], 8000)
    assert row["duration"] == 2 * (PROMPTS / "en" / "hello-world.g722").stat().st_size / 16000
    wav = soundfile.read(PROMPTS / "en" / "hello-world.wav", dtype="int16")[0]
    stored = soundfile.read(prepared / "audio/wav/en/hello-world.flac", dtype="int16")[0]
    np.testing.assert_array_equal(stored, wav)
    gsm = soundfile.read(prepared / "audio/gsm/en/hello-world.flac", dtype="float32")[0]
    for other in (wav / 32768, gsm):
        n = min(len(other), len(wide))
        spectra = [np.abs(np.fft.rfft(x[:n].reshape(1, -1) * np.hanning(n)))[0] for x in (wide, other)]
        assert np.corrcoef(*spectra)[0, 1] > 0.9


def test_texts_come_with_their_quirks_mended(prepared):
    wording = {
        row_id.removeprefix("g722/"): row["text"]
        for row_id, row in rows_of(prepared / "prompts.jsonl").items()
    }
    assert wording["it/agent-loginok"] == "operatore connesso"  # behind a byte order mark
    assert wording["en/letters/at"] == "at"  # at [@]
    assert wording["es/digits/1F"] == "una"  # listed as digits/1f
    assert wording["ru/auth-thankyou"] == "Спасибо."


def test_whatever_is_dropped_is_in_the_report(prepared):
    report = json.loads((prepared / "local" / "report.json").read_text())
    assert report["archives"]["en-g722"]["dropped"] == {"no speech": ["beep", "silence/1"]}
    assert report["archives"]["ru-wav"]["dropped"] == {"empty recording": ["is"]}
    for facts in report["archives"].values():
        assert facts["files"] == facts["kept"] + sum(map(len, facts["dropped"].values()))
    assert report["manifests"]["prompts.jsonl"]["rows"] == 31
    assert any(
        "digits/0 has a text already; not used: diez" in line for line in report["texts"]["es"]["problems"]
    )
    assert "vm-intro" in report["texts"]["en"]["without_audio"]


def test_music_becomes_the_noise_manifest(prepared):
    [row] = rows_of(prepared / "noise.jsonl").values()
    info = audio_info(prepared / row["audio_filepath"])
    assert (info.sample_rate, info.duration_s, row["duration"]) == (16000, MUSIC_SECONDS, MUSIC_SECONDS)


def folder_content(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.suffix in (".flac", ".jsonl")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_tarballs_give_the_same_data(prepared, tarballs, table, tmp_path):
    prepare(fetched(tmp_path, "--tarball-dir", str(tarballs)), tmp_path / "data", table)
    assert folder_content(tmp_path / "data") == folder_content(prepared)


def test_a_second_run_decodes_nothing_and_a_lost_file_is_made_again(prepared, packages, table, tmp_path):
    shutil.copytree(prepared, tmp_path / "data")
    listing = fetched(tmp_path, "--deb-dir", str(packages))
    victim = tmp_path / "data" / "audio/gsm/fr/vm-goodbye.flac"
    victim.unlink()
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "data" / "audio").rglob("*.flac")}
    prepare(listing, tmp_path / "data", table)
    assert folder_content(tmp_path / "data") == folder_content(prepared)
    touched = {
        path.relative_to(tmp_path / "data").parts[1:3]
        for path, time in times.items()
        if path.stat().st_mtime_ns != time
    }
    assert touched == {("gsm", "fr")}


def test_a_killed_run_goes_on_and_ends_the_same(prepared, packages, table, tmp_path):
    listing = fetched(tmp_path, "--deb-dir", str(packages))
    command = [sys.executable, str(LOCAL / "prepare_data.py"), "--archives", str(listing), "--jobs", "2"]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "data"), "--checksums", str(table)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not list((tmp_path / "data").rglob("local/parts/*.json")):
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    prepare(listing, tmp_path / "data", table)
    assert folder_content(tmp_path / "data") == folder_content(prepared)


def changed(packages: Path, folder: Path, name: str, change) -> Path:
    """Copy the packages, with the bytes of one file of `name` changed."""
    shutil.copytree(packages, folder)
    source = Source("en", "gsm")
    files = {
        f"usr/share/asterisk/sounds/en_US_f_Allison/{key}": data for key, data in sound_files(source).items()
    }
    files = change(files, f"usr/share/asterisk/sounds/en_US_f_Allison/{name}")
    write_package(folder / "asterisk-core-sounds-en-gsm_1.6.1-1_all.deb", files)
    return folder


def test_a_file_with_another_checksum_is_named_with_both(packages, table, tmp_path):
    def flip(files, name):
        return files | {name: bytes([files[name][0], files[name][1] ^ 1]) + files[name][2:]}

    folder = changed(packages, tmp_path / "debs", "digits/7.gsm", flip)
    expected = checksums.digest((PROMPTS / "en" / "digits" / "7.gsm").read_bytes())
    with pytest.raises(
        ValueError, match=rf"digits/7\.gsm \(en\) has the SHA-256 [0-9a-f]+\.\.\., expected {expected}"
    ):
        prepare(fetched(tmp_path, "--deb-dir", str(folder)), tmp_path / "data", table)
    assert not (tmp_path / "data" / "prompts.jsonl").exists()


def test_an_archive_that_lacks_a_file_is_refused(packages, table, tmp_path):
    def drop(files, name):
        return {key: data for key, data in files.items() if key != name}

    folder = changed(packages, tmp_path / "debs", "digits/7.gsm", drop)
    with pytest.raises(ValueError, match="lacks 1 of its sound files, digits/7"):
        prepare(fetched(tmp_path, "--deb-dir", str(folder)), tmp_path / "data", table)


def test_a_member_that_points_outside_is_refused_not_written(packages, table, tmp_path):
    def point_outside(files, name):
        return files | {"../../../../tmp/evil.gsm": b"x" * 33}

    folder = changed(packages, tmp_path / "debs", "digits/7.gsm", point_outside)
    with pytest.raises(ValueError, match=r"evil\.gsm \(en\) is not in the table"):
        prepare(fetched(tmp_path, "--deb-dir", str(folder)), tmp_path / "data", table)


@pytest.mark.parametrize("keep", [7, 100, 0.5, 0.999])
def test_an_incomplete_package_is_refused(packages, tmp_path, keep):
    content = (packages / "asterisk-core-sounds-en-gsm_1.6.1-1_all.deb").read_bytes()
    path = tmp_path / "asterisk-core-sounds-en-gsm_1.6.1-1_all.deb"
    path.write_bytes(content[: keep if keep > 1 else int(keep * len(content))])
    with pytest.raises(ValueError, match=f"{path.name}: .*; remove it and fetch it again"):
        list(archives.sound_files(path, ".gsm"))


@pytest.mark.parametrize("keep", [5, 0.5, 0.99])
def test_an_incomplete_tarball_is_refused(tarballs, tmp_path, keep):
    name = "asterisk-core-sounds-en-gsm-1.6.1.tar.gz"
    content = (tarballs / name).read_bytes()
    (tmp_path / name).write_bytes(content[: keep if keep > 1 else int(keep * len(content))])
    with pytest.raises(ValueError, match=f"{name}: .*remove it and fetch it again"):
        list(archives.sound_files(tmp_path / name, ".gsm"))


def test_missing_packages_are_all_named(packages, tmp_path):
    shutil.copytree(packages, tmp_path / "debs")
    (tmp_path / "debs" / "asterisk-core-sounds-fr_1.6.1-1_all.deb").unlink()
    (tmp_path / "debs" / "asterisk-moh-opsound-g722_2.03-1.1_all.deb").unlink()
    with pytest.raises(FileNotFoundError, match=r"core-sounds-fr_\*\.deb, asterisk-moh-opsound-g722_\*\.deb"):
        fetched(tmp_path, "--deb-dir", str(tmp_path / "debs"))


APT_GET = """#!/bin/bash
set -euo pipefail
[[ $1 == update ]] && exit 0
[[ ${APT_FAILS-} ]] && { echo "E: Unable to locate package asterisk-core-sounds-en" >&2; exit 100; }
uris=false
for word in "$@"; do
  [[ $word == --print-uris ]] && uris=true
  [[ $word == asterisk-* ]] || continue
  for deb in "$DEBS/$word"_*.deb; do
    if $uris; then echo "'http://x/${deb##*/}' ${deb##*/} $(stat -c %s "$deb") SHA256:0"; else cp "$deb" .; fi
  done
  $uris || echo "$word" >>"$APT_LOG"
done
"""


@pytest.fixture
def apt(packages, tmp_path, monkeypatch) -> Path:
    """A stand-in for apt-get that takes packages from a folder; gives the list of what was downloaded."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "apt-get").write_text(APT_GET)
    (tmp_path / "bin" / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("DEBS", str(packages))
    monkeypatch.setenv("APT_LOG", str(tmp_path / "apt.log"))
    return tmp_path / "apt.log"


def test_apt_downloads_by_name_once(apt, packages, tmp_path):
    fetched(tmp_path)
    assert sorted(path.name for path in (tmp_path / "downloads").iterdir()) == sorted(
        p.name for p in packages.iterdir()
    )
    assert len(apt.read_text().split()) == 21
    fetched(tmp_path)
    assert len(apt.read_text().split()) == 21


def test_what_an_interrupted_download_left_is_not_taken(apt, packages, tmp_path):
    partial = tmp_path / "downloads" / ".partial"
    partial.mkdir(parents=True)
    name = "asterisk-core-sounds-en-gsm_1.6.1-1_all.deb"
    (partial / name).write_bytes(b"half")
    fetched(tmp_path)
    assert (tmp_path / "downloads" / name).read_bytes() == (packages / name).read_bytes()
    assert not partial.exists()


def test_when_apt_fails_its_words_and_the_other_ways_are_said(apt, tmp_path, monkeypatch):
    monkeypatch.setenv("APT_FAILS", "1")
    with pytest.raises(OSError, match="Unable to locate package") as caught:
        fetched(tmp_path)
    for way_out in ("apt-get update", "--deb-dir", "--tarball-dir", "--route upstream"):
        assert way_out in str(caught.value)


class Site(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; `break_off` names a file whose first answer ends half way, ranges are honoured."""

    break_off: set[str] = set()
    requests: list[tuple[str, str | None]] = []

    def do_GET(self):
        name = self.path.lstrip("/")
        self.requests.append((name, self.headers["Range"]))
        path = Path(self.directory) / name
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if self.headers["Range"] else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        half = name in self.break_off
        self.break_off.discard(name)
        self.wfile.write(content[start : len(content) // 2 if half else None])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def site(tarballs, monkeypatch):
    """An imitation of the upstream project's site."""
    monkeypatch.setattr(Site, "break_off", set())
    monkeypatch.setattr(Site, "requests", [])
    monkeypatch.setattr(fetch.time, "sleep", lambda seconds: None)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Site, directory=str(tarballs))
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_upstream_downloads_go_on_where_they_broke_off(site, tarballs, tmp_path):
    name = "asterisk-core-sounds-it-wav-1.6.1.tar.gz"
    Site.break_off.add(name)
    fetched(tmp_path, "--route", "upstream", "--upstream", site)
    downloads = tmp_path / "downloads"
    assert {p.name: p.read_bytes() for p in downloads.iterdir()} == {
        p.name: p.read_bytes() for p in tarballs.iterdir()
    }
    half = (tarballs / name).stat().st_size // 2
    assert [asked for asked in Site.requests if asked[0] == name] == [(name, None), (name, f"bytes={half}-")]


def test_a_file_that_upstream_lacks_is_named_with_the_answer(site, tmp_path, monkeypatch):
    with pytest.raises(
        OSError, match=r"elsewhere/asterisk-core-sounds-en-g722-1\.6\.1\.tar\.gz: the server answered 404"
    ):
        fetched(tmp_path, "--route", "upstream", "--upstream", site + "elsewhere/")
    assert not list((tmp_path / "downloads").glob("*.gz"))


def test_no_server_ends_in_an_error_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch.time, "sleep", lambda seconds: None)
    with pytest.raises(OSError, match="--deb-dir DIR or --tarball-dir DIR"):
        fetched(tmp_path, "--route", "upstream", "--upstream", "http://127.0.0.1:9/")


@pytest.mark.parametrize(
    ("key", "text", "spoken"),
    [
        ("beep", "[this is a simple beep tone]", ""),
        ("confbridge-join", "<beep ascending>", ""),
        ("silence/1", "(1 second of silence)", ""),
        ("letters/at", " at [@]", "at"),
        ("letters/space", "space [ ]", "space"),
        ("letters/exclaimation-point", "[!] punto esclamativo", "punto esclamativo"),
        ("spy-iax2", 'IAX (note: does not say "2")', "IAX"),
        ("vm-msgsaved", "Il [suo] messaggio", "Il suo messaggio"),
        ("x", "Pour (ne m'appelez plus)", "Pour (ne m'appelez plus)"),
        ("y", "two  spaces ", "two spaces"),
    ],
)
def test_spoken_text(key, text, spoken):
    assert texts.spoken_text(key, text) == spoken


def test_a_list_of_texts_is_read_as_it_is_written():
    content = "\ufeff; comment\n\na: one: two\nA/b: three\na: four\nno colon here\n".encode()
    read = texts.parse_texts(content, "list.txt")
    assert read.by_key == {"a": "one: two", "A/b": "three"}
    assert read.find("a/B") == "three"
    assert read.find("missing") == ""
    assert read.problems == [
        "list.txt:5: a has a text already; not used: four",
        "list.txt:6: no key before a colon: no colon here",
    ]


def test_the_committed_table_is_whole_and_agrees_with_the_committed_prompts():
    committed = checksums.read_table(checksums.TABLE)
    assert len(committed) == 3 * 2831 + 5
    for language in LANGUAGES:
        for audio_format in FORMATS:
            for name, data in sound_files(Source(language, audio_format)).items():
                key = name.removesuffix(f".{audio_format}")
                assert committed[language, audio_format, key] == checksums.digest(data)


def test_an_xz_stream_that_lies_about_its_end_is_refused(tmp_path):
    path = tmp_path / "x.deb"
    write_package(path, {"usr/share/asterisk/moh/a.g722": b"x" * 5000})
    content = path.read_bytes()
    start = content.index(lzma.compress(b"")[:6], content.index(b"data.tar.xz"))
    path.write_bytes(content[: start + 40] + bytes(10) + content[start + 50 :])
    with pytest.raises(ValueError, match="damaged or incomplete"):
        list(archives.sound_files(path, ".g722"))
