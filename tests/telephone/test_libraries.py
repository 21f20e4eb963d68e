"""Which file a codec's library is taken from, how it is named, and what is said when there is none."""

import ctypes
import hashlib
import subprocess
import sys
from types import SimpleNamespace

import pytest

from nest_ssl.telephone.codecs import codec, libraries
from nest_ssl.telephone.codecs.base import CodecMissing


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    """No library found for one test is kept for another, and the environment says nothing."""
    monkeypatch.delenv(libraries.ORDER_VARIABLE, raising=False)
    libraries._load.cache_clear()
    yield
    libraries._load.cache_clear()


def nowhere(monkeypatch, *, wheel=(), system=()):
    monkeypatch.setattr(libraries, "_in_wheel", lambda name: list(wheel))
    monkeypatch.setattr(libraries, "_in_system", lambda name: list(system))


@pytest.mark.parametrize("name", ["opencore-amrnb", "opencore-amrwb", "opus"])
def test_the_wheel_comes_first_and_the_system_when_asked(name, monkeypatch):
    wheel = libraries.load_library(name)
    assert wheel.source == "PyAV wheel"
    monkeypatch.setenv(libraries.ORDER_VARIABLE, "system")
    system = libraries.load_library(name)
    if system.source != "system":
        pytest.skip(f"the system has no {name}")
    assert system.file.is_file()
    assert system.version != wheel.version
    monkeypatch.setenv(libraries.ORDER_VARIABLE, "wheel")
    assert libraries.load_library(name).file == wheel.file


def test_an_unknown_order_is_refused(monkeypatch):
    monkeypatch.setenv(libraries.ORDER_VARIABLE, "newest")
    with pytest.raises(ValueError, match="NEST_CODEC_LIBRARIES must be one of wheel, system, not 'newest'"):
        libraries.load_library("opus")


def test_the_version_holds_the_digest_of_the_file_in_use():
    library = libraries.load_library("opencore-amrnb")
    digest = hashlib.sha256(library.file.read_bytes()).hexdigest()
    assert library.version == f"{library.file.name} {digest[:8]}"
    assert codec("amr_nb").version() == library.version
    assert str(library.file) in codec("amr_nb").route()


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("amr_nb", "pip install av"),
        ("gsm_efr", "libopencore-amrnb0"),
        ("opus_nb", "libopus0"),
        ("amr_wb", "libvo-amrwbenc0"),
        ("g729", "libbcg729-0"),
        ("speex_nb", "libspeex1"),
    ],
)
def test_a_missing_library_is_refused_with_the_package_to_install(name, package, monkeypatch):
    nowhere(monkeypatch)
    with pytest.raises(CodecMissing, match=package):
        codec(name).check()


def test_a_file_that_does_not_load_is_passed_over_and_named_if_nothing_else_is_there(tmp_path, monkeypatch):
    broken = tmp_path / "libopus-0.so"
    broken.write_text("no library")
    good = libraries.load_library("opus").file
    libraries._load.cache_clear()
    nowhere(monkeypatch, wheel=[str(broken), str(good)])
    assert libraries.load_library("opus").file == good
    libraries._load.cache_clear()
    nowhere(monkeypatch, wheel=[str(broken)], system=["libnowhere.so.0"])
    with pytest.raises(CodecMissing, match=str(broken)):
        libraries.load_library("opus")


def test_a_build_without_a_function_is_refused_by_its_name():
    with pytest.raises(CodecMissing, match="has no function opus_sing; install another build"):
        libraries.load_library("opus").function("opus_sing", None)


def test_a_name_that_the_linker_resolves_becomes_the_file_behind_it():
    if not sys.platform.startswith("linux"):
        pytest.skip("other systems are searched by path")
    try:
        handle = ctypes.CDLL("libm.so.6")
    except OSError as error:
        pytest.skip(str(error))
    file = libraries._file("libm.so.6", handle)
    assert file.is_absolute()
    assert file.is_file()
    assert file.name.startswith("libm")


@pytest.mark.parametrize(
    ("folder", "file", "name"),
    [
        ("av.libs", "libopus-114e2b1a.so.0.11.1", "opus"),
        ("av/.dylibs", "libopus.0.dylib", "opus"),
        ("av.libs", "libopencore-amrnb-0-4f2a.dll", "opencore-amrnb"),
        ("av.libs", "opus-4f2a.dll", "opus"),
    ],
)
def test_wheels_of_every_system_are_searched(folder, file, name, tmp_path, monkeypatch):
    (tmp_path / "av").mkdir()
    (tmp_path / folder).mkdir(exist_ok=True)
    for other in ("libopusenc-1.so.0", "libopusfile.0.dylib", "libopencore-amrwb-1.so.0"):
        (tmp_path / folder / other).touch()
    (tmp_path / folder / file).touch()
    package = SimpleNamespace(submodule_search_locations=[str(tmp_path / "av")])
    monkeypatch.setattr(libraries.importlib.util, "find_spec", lambda wanted: package)
    assert libraries._in_wheel(name) == [str(tmp_path / folder / file)]


def test_without_the_wheel_nothing_is_searched_in_it(monkeypatch):
    monkeypatch.setattr(libraries.importlib.util, "find_spec", lambda wanted: None)
    assert libraries._in_wheel("opus") == []


def test_importing_the_codecs_loads_no_library():
    script = (
        "from nest_ssl.telephone.codecs import CODECS, libraries\n"
        "assert len(CODECS) > 6\n"
        "assert libraries._load.cache_info().misses == 0\n"
        "import sys; assert 'av' not in sys.modules, 'av is slow to import'\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
