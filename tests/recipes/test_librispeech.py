"""egs/librispeech on miniature corpora in the publishers' layout, from a site on this machine."""

from __future__ import annotations

import contextlib
import functools
import http.server
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from nest_ssl.files import download
from nest_ssl.models.ssl_models import EncDecDenoiseMaskedTokenPredModel
from tests.recipes.librispeech_corpora import SECONDS, write_archives, write_trees

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / "egs" / "librispeech" / "local"


def module(name: str):
    """A script of the recipe as a module; other recipes have scripts of the same names."""
    spec = importlib.util.spec_from_file_location(f"librispeech_{name}", LOCAL / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


class Site(http.server.SimpleHTTPRequestHandler):
    """A site that understands Range, and breaks off in the middle of the archives named in break_off."""

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
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        half = name in self.break_off
        self.break_off.discard(name)
        self.wfile.write(content[start : len(content) // 2 if half else None])

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def trees(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpora")
    write_trees(folder)
    return folder


@pytest.fixture(scope="module")
def archives(trees, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archives") / "site"
    write_archives(trees, folder)
    return folder


@pytest.fixture
def site(archives, monkeypatch):
    monkeypatch.setattr(Site, "break_off", set())
    monkeypatch.setattr(Site, "requests", [])
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Site, directory=str(archives))
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def recipe(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NEST_")}
    environment |= {"NEST_PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "no_proxy": "127.0.0.1"}
    words = ["bash", str(ROOT / "egs" / "librispeech" / "run.sh")]
    words += ["--data-dir", str(folder / "data"), "--exp-dir", str(folder / "exp"), *options]
    words += ["--train", "train-clean-100", "--librilight", "small", "--max-duration", "3.2"]
    return subprocess.run(
        words,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_data_come_from_the_publishers_layout_to_manifests(site, trees, tmp_path):
    """Through a connection that breaks off: what is there is not loaded again."""
    Site.break_off.add("train-clean-100.tar.gz")
    result = recipe(tmp_path, "--site", site, "--stop-stage", "manifests")
    assert result.returncode == 0, result.stdout + result.stderr
    asked = [request for request in Site.requests if request[0] == "train-clean-100.tar.gz"]
    size = (tmp_path / "data/downloads/train-clean-100.tar.gz").stat().st_size
    assert asked == [("train-clean-100.tar.gz", None), ("train-clean-100.tar.gz", f"bytes={size // 2}-")]

    corpora = tmp_path / "data" / "corpora"
    unpacked = {p.relative_to(corpora): p.read_bytes() for p in corpora.rglob("*") if p.is_file()}
    wanted = {p.relative_to(trees): p.read_bytes() for p in trees.rglob("*") if p.is_file()}
    del wanted[Path("LibriSpeech/README.TXT")]
    assert unpacked == wanted

    manifests = tmp_path / "data" / "manifests"
    train = rows(manifests / "train.jsonl")
    spoken = [row for row in train if row["corpus"] == "train-clean-100"]
    assert [row["id"] for row in spoken] == ["103-1240-0000", "103-1240-0001", "103-1240-0002"]
    assert [row["duration"] for row in spoken] == list(SECONDS[:3])
    assert spoken[0]["text"] == "chapter one of train-clean-100 0"
    assert {row["speaker"] for row in spoken} == {"103"}
    light = [(row["offset"], row["duration"], row["speaker"]) for row in train if row["corpus"] == "small"]
    # speech at 0.4-2.0, 2.5-3.4 and 4.0-7.9 s, in pieces of at most 3.2 s
    assert light == [(0.4, 3.0, "960"), (4.0, 1.95, "960"), (5.95, 1.95, "960")]
    assert {row["corpus"] for row in rows(manifests / "dev.jsonl")} == {"dev-clean", "dev-other"}
    assert {row["corpus"] for row in rows(manifests / "test.jsonl")} == {"test-clean", "test-other"}
    noise = rows(manifests / "noise.jsonl")
    assert sorted((row["corpus"], row["kind"]) for row in noise) == [
        *(("musan", "music"), ("musan", "noise"), ("rirs", "noise"))
    ]
    report = json.loads((manifests / "report.json").read_text())
    assert report["train"]["dropped"] == {"shorter than min_duration": 1}


def fetch(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    options = ["--corpora", folder / "c", "--downloads", folder / "d", "--out", folder / "list.json"]
    return subprocess.run(
        [sys.executable, str(LOCAL / "fetch.py"), *map(str, options), *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=480,
        check=False,
    )


def test_an_archive_that_is_not_the_published_one_is_refused(site, archives, tmp_path):
    (tmp_path / "d").mkdir()
    good = (archives / "musan.tar.gz").read_bytes()
    (tmp_path / "d" / "musan.tar.gz").write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    result = fetch(tmp_path, "--site", site, "musan")
    assert result.returncode == 1
    assert "musan.tar.gz: its MD5 is " in result.stderr and "the publisher says " in result.stderr
    assert "remove it and run the same command again" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "c" / "musan").exists()


def test_a_whole_part_left_by_a_kill_is_not_loaded_again(site, archives, tmp_path):
    (tmp_path / "d").mkdir()
    shutil.copy(archives / "small.tar", tmp_path / "d" / "small.tar.partial")
    result = fetch(tmp_path, "--site", site, "small")
    assert result.returncode == 0, result.stderr
    size = (archives / "small.tar").stat().st_size
    assert [asked for asked in Site.requests if asked[0] == "small.tar"] == [("small.tar", f"bytes={size}-")]


def test_archives_and_corpora_at_hand_need_no_network(archives, trees, tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "musan").symlink_to(trees / "musan")
    shutil.copytree(archives, tmp_path / "d")
    result = fetch(tmp_path, "--offline", "musan", "dev-clean")
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "list.json").read_text()) == {
        "musan": str(trees / "musan"),
        "dev-clean": str(tmp_path / "c/LibriSpeech/dev-clean"),
    }
    result = fetch(tmp_path, "--offline", "large")
    assert result.returncode == 1
    assert "d/large.tar is missing, and --offline loads nothing" in result.stderr


def tar_with(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, 1 if kind == tarfile.REGTYPE else 0
    return info


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([member("small/../../out")], "leads out of its folder"),
        ([member("/small/a")], "leads out of its folder"),
        ([member("small/a", tarfile.SYMTYPE, "/etc/passwd")], "is no plain file"),
        ([member("small/a", tarfile.LNKTYPE, "small/b")], "is no plain file"),
        ([member("small/a", tarfile.FIFOTYPE)], "is no plain file"),
        ([member("small/a"), member("small/a")], "comes twice"),
        ([member("other/a")], "has nothing under small/"),
    ],
)
def test_a_hostile_archive_is_refused_and_leaves_nothing(tmp_path, members, message):
    archive = tar_with(tmp_path / "small.tar", *members)
    with pytest.raises(ValueError, match=message):
        module("unpack").unpack(archive, "small", tmp_path / "corpora")
    assert not (tmp_path / "corpora" / "small").exists()
    assert not (tmp_path / "out").exists()


def test_a_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("RIRS_NOISES/a")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as pack:
        pack.writestr(info, "/etc/passwd")
    with pytest.raises(ValueError, match="is no plain file"):
        module("unpack").unpack(tmp_path / "x.zip", "RIRS_NOISES", tmp_path)


def test_a_size_that_is_not_known_is_refused(tmp_path):
    result = recipe(tmp_path, "--config", "huge")
    assert result.returncode == 2
    assert "--config huge: small, medium, large, xlarge or xxlarge" in result.stderr


def test_several_machines_need_a_cluster_and_it_is_said_before_any_download(tmp_path):
    result = recipe(tmp_path, "--num-nodes", "2", "--dry-run")
    assert result.returncode == 2
    assert "--num-nodes 2 needs a --cmd, such as --cmd conf/slurm.sh" in result.stderr
    result = recipe(tmp_path, "--num-nodes", "2", "--dry-run", "--cmd", str(ROOT / "conf" / "slurm.sh"))
    assert result.returncode == 0, result.stderr


def test_an_archive_that_the_disk_has_no_room_for_is_not_begun(site, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    bar = contextlib.nullcontext(SimpleNamespace(update=lambda count: None))
    with pytest.raises(OSError, match=r"MB are to come and 0 MB free.*musan.tar.gz.partial"):
        download.download(f"{site}/musan.tar.gz", tmp_path / "musan.tar.gz", lambda *a: bar, "")
    assert not list(tmp_path.iterdir())
    assert len(Site.requests) == 1  # trying again would not help


def test_archives_are_removed_once_unpacked_if_asked(archives, tmp_path):
    shutil.copytree(archives, tmp_path / "d")
    result = fetch(tmp_path, "--offline", "--remove-archives", "musan")
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "d" / "musan.tar.gz").exists()
    assert fetch(tmp_path, "--offline", "--remove-archives", "musan").returncode == 0


@pytest.mark.slow
def test_the_recipe_goes_on_to_a_model(trees, tmp_path):
    """With telephone versions of the speech, and a tiny model for two steps."""
    tiny = (
        "model.encoder.d_model=16 model.encoder.n_heads=2 model.encoder.n_layers=1 "
        "model.encoder.subsampling_conv_channels=4 model.num_classes=16 "
        "exp_manager.create_tensorboard_logger=false"
    )
    result = recipe(
        tmp_path, "--corpora-dir", str(trees), "--offline", "true", "--telephone", "true", "--nj", "2",
        "--config", "small", "--accelerator", "cpu", "--precision", "32", "--batch-duration", "6",
        "--max-steps", "2", "--num-workers", "0", "--pretrain-conf", tiny,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    data, exp = tmp_path / "data", tmp_path / "exp" / "large"
    assert len(rows(data / "train_telephone.jsonl")) == 2 * len(rows(data / "manifests" / "train.jsonl"))
    assert "finished at step 2" in (exp / "pretrain" / "train.log").read_text()
    model = EncDecDenoiseMaskedTokenPredModel.restore_from(exp / "pretrain" / "final.nemo")
    assert model.cfg.encoder.d_model == 16
