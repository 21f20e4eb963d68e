"""utils/setup_env.sh and path.sh, with a pip that installs stubs: nothing here needs a network."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import TIMEOUT_S, is_alive, wait_until

CORE = {
    "torch": "import types\n__version__ = '2.13.0+stub'\n"
    "version = types.SimpleNamespace(cuda=None, hip=None)\ndef ones(*shape): return shape\n",
    "scipy": "",
    "scipy/signal": "",
    **dict.fromkeys(("numpy", "soundfile", "soxr", "av", "omegaconf", "yaml", "safetensors"), ""),
    **dict.fromkeys(("tensorboard", "tqdm"), ""),
}
# As the real one: the import fails while its compiled part is there and does not load.
TORCHAUDIO = """
import pathlib, types
if list(pathlib.Path(__file__).parent.glob("lib/*.so")): raise OSError("Could not load this library")
compliance = types.SimpleNamespace(kaldi=types.SimpleNamespace(fbank=lambda waveform: waveform))
"""

FAKE_PIP = """
import json, os, pathlib, sys, sysconfig, time
arguments = sys.argv[1:]
if arguments == ["--version"]: sys.exit()
with open(os.environ["FAKE_PIP_CALLS"], "a") as file: print(json.dumps(arguments), file=file)
if os.environ.get("FAKE_PIP_FAIL"):
    print(os.environ["FAKE_PIP_FAIL"])
    sys.exit(1)
if os.environ.get("FAKE_PIP_GATE"):
    gate = pathlib.Path(os.environ["FAKE_PIP_GATE"])
    pathlib.Path(f"{gate}.pid").write_text(f"{os.getpid()}\\n")
    while not gate.exists(): time.sleep(0.01)
site = pathlib.Path(sysconfig.get_path("purelib"))
for name, text in json.loads(os.environ["FAKE_PIP_PACKAGES"]).items():
    (site / name / "lib").mkdir(parents=True, exist_ok=True)
    (site / name / "__init__.py").write_text(text)
    if name == "torchaudio": (site / name / "lib" / "_torchaudio.abi3.so").write_text("not loadable")
"""

# Stands for the system's Python: its virtual environments get the pip above.
FAKE_PYTHON = """#!/usr/bin/env bash
case "$*" in
  "-m venv -- "*)
    {real} -m venv --without-pip "${{@:4}}" || exit 1
    for site in "$4"/lib/python*/site-packages; do cp -r {pip} "$site/pip"; done ;;
  *ensurepip*) [[ ! -e {no_venv} ]] ;;
  *) exec {real} "$@" ;;
esac
"""


class Checkout:
    """The files that set-up reads, in a folder whose name has a space, and a PATH with the stand-ins."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.root = folder / "check out"
        self.venv = self.root / ".venv"
        self.calls_file = folder / "pip_calls"
        self.stand_ins = folder / "bin"
        self.no_venv = folder / "no_venv_module"  # exists: the system's Python cannot make a venv
        self.packages = {**CORE, "torchaudio": TORCHAUDIO}
        self.started: list[subprocess.Popen[str]] = []
        (self.root / "utils").mkdir(parents=True)
        for name in ("setup.py", "constraints.txt", "path.sh", "utils/setup_env.sh", "utils/requirements.py"):
            shutil.copy(source / name, self.root / name)
        (folder / "pip").mkdir()
        (folder / "pip" / "__init__.py").touch()
        (folder / "pip" / "__main__.py").write_text(FAKE_PIP)
        self.stand_ins.mkdir()
        python = FAKE_PYTHON.format(real=sys.executable, pip=folder / "pip", no_venv=self.no_venv)
        self.stand_in("python3", python)
        for name in ("python3.11", "python3.12", "python3.13", "nvidia-smi"):
            self.stand_in(name, "#!/bin/sh\nexit 127\n")

    def stand_in(self, name: str, text: str) -> None:
        (self.stand_ins / name).write_text(text)
        (self.stand_ins / name).chmod(0o755)

    def start(self, *command: str | Path, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command or ["bash", self.root / "utils" / "setup_env.sh"],
            cwd=self.root.parent,
            env={
                "PATH": f"{self.stand_ins}:{os.environ['PATH']}",
                "HOME": str(self.root.parent),
                "FAKE_PIP_CALLS": str(self.calls_file),
                "FAKE_PIP_PACKAGES": json.dumps(self.packages),
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def finish(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        output, _ = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, output

    def run(self, *options: str, **environment: str) -> tuple[int, str]:
        """Status and output of setup_env.sh."""
        command = ["bash", self.root / "utils" / "setup_env.sh", *options]
        return self.finish(self.start(*command, **environment))

    def bash(self, script: str, **environment: str) -> tuple[int, str]:
        return self.finish(self.start("bash", "-c", script, **environment))

    def calls(self) -> list[list[str]]:
        """Arguments of every `pip install` so far."""
        if not self.calls_file.exists():
            return []
        return [json.loads(line) for line in self.calls_file.read_text().splitlines()]

    def state(self) -> str:
        return (self.venv / "nest_ssl.state").read_text()

    def site(self) -> Path:
        return next(self.venv.glob("lib/python*/site-packages"))


@pytest.fixture
def fresh(checkout: Path, tmp_path: Path) -> Iterator[Checkout]:
    fresh = Checkout(checkout, tmp_path)
    yield fresh
    for process in fresh.started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def finished(fresh: Checkout) -> Checkout:
    status, output = fresh.run()
    assert status == 0, output
    return fresh


def test_setup_installs_torch_first_and_everything_by_the_pins(finished):
    torch, rest = finished.calls()
    pins = ["-c", str(finished.root / "constraints.txt")]
    assert torch[-1] == "torch==2.13.0" and torch[-3:-1] == pins
    assert rest[-4:] == [*pins, "-r", str(finished.venv / "requirements.txt")]
    assert "peft\n" in (finished.venv / "requirements.txt").read_text()
    assert finished.state().startswith("finished\n")


def test_a_finished_environment_starts_neither_pip_nor_python(finished, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(f"open({str(tmp_path / 'python_started')!r}, 'w')")
    before = finished.calls()
    status, output = finished.run("--print-bin", PYTHONPATH=str(tmp_path))
    assert (status, output) == (0, f"{finished.venv}/bin\n")
    assert finished.calls() == before
    assert not (tmp_path / "python_started").exists()


def test_changed_pins_are_named_and_installed_into_the_same_environment(finished):
    kept = finished.venv / "kept"
    kept.touch()
    with (finished.root / "constraints.txt").open("a") as file:
        file.write("another==1.0\n")
    status, output = finished.run()
    assert status == 0
    assert "changed: constraints.txt" in output
    assert len(finished.calls()) == 4
    assert kept.exists()
    assert finished.run()[1].startswith("setup_env: ready")


def test_other_extras_are_installed(finished):
    status, output = finished.run(NEST_EXTRAS="dev")
    assert status == 0
    assert "changed: extras dev" in output
    requirements = (finished.venv / "requirements.txt").read_text()
    assert "pytest\n" in requirements and "peft\n" not in requirements


def test_an_unknown_extra_is_refused_by_name(fresh):
    status, output = fresh.run(NEST_EXTRAS="dev,lm")
    assert status != 0
    assert (
        "no extra 'lm'; NEST_EXTRAS takes a list of: " in output and " dev, " in output and ", llm" in output
    )


def test_torch_index_serves_torch_alone_and_its_password_is_not_kept(fresh):
    index = "https://me:secret@wheels.example/cu126"
    status, output = fresh.run(NEST_TORCH_INDEX=index)
    assert status == 0
    torch, rest = fresh.calls()
    assert torch[-3:] == ["--index-url", index, "torch==2.13.0"] and "-c" not in torch
    assert index not in rest and "-c" in rest
    kept = "".join(path.read_text() for path in fresh.venv.iterdir() if path.is_file())
    assert "wheels.example/cu126" in kept
    assert "secret" not in kept + output


def test_a_failing_pip_shows_its_end_and_a_likely_cause_and_the_next_run_goes_on(fresh):
    noise = "".join(f"line {number}\n" for number in range(100))
    status, output = fresh.run(FAKE_PIP_FAIL=noise + "OSError: [Errno 28] No space left on device")
    assert status == 1
    assert "line 99\n" in output and "line 60\n" not in output
    assert "the disk is full" in output
    assert fresh.state() == "incomplete\n"
    status, output = fresh.run()
    assert status == 0, output
    assert "virtual environment" not in output  # that part was in order


@pytest.mark.parametrize(
    ("printed", "advice"),
    [
        ("NewConnectionError: Failed to establish a new connection", "no network?"),
        ("ERROR: No matching distribution found for torch==2.13.0", "the package index lacks that version"),
        ("SSLError(SSLCertVerificationError: CERTIFICATE_VERIFY_FAILED", "PIP_CERT"),
    ],
)
def test_advice_follows_what_pip_printed(fresh, printed, advice):
    assert advice in fresh.run(FAKE_PIP_FAIL=printed)[1]


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_setup_leaves_no_process_and_the_next_run_mends_it(fresh, tmp_path, which):
    process = fresh.start(FAKE_PIP_GATE=str(tmp_path / "gate"))
    wait_until(lambda: (tmp_path / "gate.pid").exists(), "pip")
    process.send_signal(which)
    status, output = fresh.finish(process)
    assert status == -which
    assert "interrupted" in output
    assert not is_alive(int((tmp_path / "gate.pid").read_text()))
    half_made = fresh.site() / "half_made"
    half_made.touch()
    status, output = fresh.run()
    assert status == 0, output
    assert "starting over" in output
    assert not half_made.exists()


def test_a_killed_setup_is_mended(fresh, tmp_path):
    process = fresh.start(FAKE_PIP_GATE=str(tmp_path / "gate"))
    wait_until(lambda: (tmp_path / "gate.pid").exists(), "pip")
    os.killpg(process.pid, signal.SIGKILL)
    fresh.finish(process)
    status, output = fresh.run()
    assert status == 0, output
    assert "starting over" in output
    assert fresh.state().startswith("finished\n")


def test_a_killed_removal_of_the_old_environment_is_mended(finished):
    (finished.venv / "nest_ssl.state").write_text("installing\n")
    shutil.rmtree(finished.venv / "bin")
    assert finished.run()[0] == 0
    assert (finished.venv / "bin" / "python3").exists()


def test_a_second_setup_waits_and_finds_the_first_ones_result(fresh, tmp_path):
    gate = tmp_path / "gate"
    first = fresh.start(FAKE_PIP_GATE=str(gate))
    wait_until(Path(f"{gate}.pid").exists, "pip")
    second = fresh.start()
    assert second.stdout is not None
    assert "waiting" in second.stdout.readline()
    gate.touch()
    assert fresh.finish(first)[0] == 0
    assert fresh.finish(second)[0] == 0
    assert len(fresh.calls()) == 2


def test_a_venv_of_the_users_own_is_left_alone(fresh):
    precious = fresh.venv / "lib" / "precious"
    precious.parent.mkdir(parents=True)
    precious.touch()
    status, output = fresh.run()
    assert status == 1
    assert "was not made by this script" in output
    assert precious.exists() and not fresh.calls()


def test_a_linked_venv_folder_stays_a_link(fresh, tmp_path):
    (tmp_path / "large disk").mkdir()
    fresh.venv.symlink_to(tmp_path / "large disk")
    status, output = fresh.run()
    assert status == 0, output
    (fresh.venv / "nest_ssl.state").write_text("installing\n")
    assert fresh.run()[0] == 0
    assert fresh.venv.is_symlink() and (tmp_path / "large disk" / "bin" / "python3").exists()


def test_a_moved_checkout_is_set_up_anew_but_usable_by_jobs(finished, tmp_path):
    finished.root = finished.root.rename(tmp_path / "elsewhere")
    finished.venv = finished.root / ".venv"
    assert finished.run("--require")[0] == 0
    status, output = finished.run()
    assert status == 0
    assert "changed: root" in output and "virtual environment" in output


def test_torchaudio_that_does_not_load_loses_its_compiled_part(finished):
    folder = finished.site() / "torchaudio"
    assert folder.is_dir() and not list(folder.glob("lib/*.so"))
    check = [finished.venv / "bin" / "python3", "-c", "import torchaudio"]
    assert subprocess.run(check, capture_output=True, check=False).returncode == 0


def test_torchaudio_that_loads_is_left_as_it_is(fresh):
    fresh.packages["torchaudio"] = TORCHAUDIO.replace("raise OSError", "lambda text: ")
    assert fresh.run()[0] == 0
    assert list((fresh.site() / "torchaudio").glob("lib/*.so"))


def test_torchaudio_beyond_repair_fails_the_setup(fresh):
    fresh.packages["torchaudio"] = "raise OSError('still broken')"
    status, output = fresh.run()
    assert status == 1
    assert "torchaudio failed" in output and "still broken" in output
    assert fresh.state() == "incomplete\n"


def test_no_suitable_python_names_what_was_found(fresh):
    fresh.stand_in("python3", "#!/bin/sh\necho 3.9\n")
    fresh.stand_in("python3.13", "#!/bin/sh\necho 3.14\n")
    status, output = fresh.run()
    assert status == 1
    assert "needs Python 3.11 to 3.13 and found: python3 (3.9) python3.13 (3.14)" in output


def test_missing_venv_module_comes_from_apt_or_with_the_command_for_it(fresh):
    fresh.no_venv.touch()
    fresh.stand_in("apt-get", f'#!/bin/sh\necho "apt-get $*"\nrm -f "{fresh.no_venv}"\n')
    package = f"python3.{sys.version_info.minor}-venv"
    status, output = fresh.run()
    if os.geteuid() == 0:
        assert status == 0, output
        assert f"apt-get install {package}" in output
    else:
        assert status == 1
        assert f"sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends {package}" in output


def test_a_job_builds_nothing_and_says_what_to_run(fresh):
    for environment in ({"SLURM_JOB_ID": "7"}, {"NEST_REQUIRE_ENV": "1"}):
        status, output = fresh.bash(f'source "{fresh.root}/path.sh" && echo went on', **environment)
        assert status == 1
        assert "run this on the login machine first: bash utils/setup_env.sh" in output
        assert "went on" not in output
    assert not fresh.venv.exists()


def test_path_sh_twice_is_path_sh_once(finished):
    script = f"""
        set -euo pipefail
        source "{finished.root}/path.sh" >stdout
        once="$PATH $PYTHONPATH $LC_ALL"
        source "{finished.root}/path.sh"
        [[ $once == "$PATH $PYTHONPATH $LC_ALL" ]]
        [[ ! -s stdout ]]
        type -P python3
        echo "$PYTHONPATH"
    """
    status, output = finished.bash(script, PYTHONPATH="/other")
    assert (status, output) == (0, f"{finished.venv}/bin/python3\n{finished.root}:/other\n")


def test_path_sh_ends_a_script_when_setup_fails(fresh):
    script = f'set -e; source "{fresh.root}/path.sh"; echo went on'
    status, output = fresh.bash(script, FAKE_PIP_FAIL="broken")
    assert status == 1
    assert "went on" not in output


class Own:
    """An environment of the user's own: a venv without pip that holds the metadata of some distributions."""

    def __init__(self, folder: Path, pins: dict[str, str]) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.folder = folder
        self.python = folder / "bin" / "python3"
        self.site = next(folder.glob("lib/python*/site-packages"))
        for name, version in pins.items():
            self.install(name, version)

    def install(self, name: str, version: str) -> None:
        info = self.site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

    def remove(self, name: str) -> None:
        shutil.rmtree(next(self.site.glob(f"{name}-*.dist-info")))

    def contents(self) -> list[tuple[str, float]]:
        return sorted((str(path), path.lstat().st_mtime) for path in self.folder.rglob("*"))


@pytest.fixture
def own(checkout: Path, tmp_path: Path) -> Own:
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (checkout / "constraints.txt").read_text(), re.MULTILINE))
    return Own(tmp_path / "my env", pins)


def test_nest_python_is_used_and_not_changed(fresh, own):
    before = own.contents()
    status, output = fresh.bash(
        f'set -eu; source "{fresh.root}/path.sh"; python3 -c "import sys; print(sys.prefix)"',
        NEST_PYTHON=str(own.python),
    )
    assert status == 0, output
    assert output.splitlines() == [
        f"setup_env: using NEST_PYTHON={own.python} (Python 3.{sys.version_info.minor}) as it is",
        str(own.folder),
    ]
    assert own.contents() == before
    assert not fresh.venv.exists() and not fresh.calls()


def test_nest_python_is_checked_again_only_when_its_packages_change(fresh, own):
    assert "using NEST_PYTHON" in fresh.run(NEST_PYTHON=str(own.python))[1]
    assert fresh.run(NEST_PYTHON=str(own.python)) == (0, "")
    own.remove("soxr")
    os.utime(own.site, (1, 1))  # as if some time had passed
    assert "soxr is missing" in fresh.run(NEST_PYTHON=str(own.python))[1]


def test_nest_python_found_in_path_stays_itself_inside_a_recipe(fresh, own):
    script = f'set -eu; source "{fresh.root}/path.sh"; source "{fresh.root}/path.sh"; type -P python3'
    path = f"{own.folder}/bin:{os.environ['PATH']}"
    status, output = fresh.bash(script, NEST_PYTHON="python3", PATH=path)
    assert status == 0
    assert output.count(".nest_python") == 1
    assert len(list((fresh.root / ".nest_python").iterdir())) == 1


def test_nest_python_without_a_package_says_which_and_how_to_get_it(fresh, own):
    own.remove("soxr")
    own.remove("av")
    status, output = fresh.run(NEST_PYTHON=str(own.python))
    assert status == 1
    assert "soxr is missing; av is missing" in output
    assert re.search(r"-m pip install soxr==[\d.]+ av==[\d.]+$", output, re.MULTILINE)
    assert not (fresh.root / ".nest_python").exists()


def test_nest_python_with_an_older_torch_is_refused_and_with_another_version_warned_of(fresh, own):
    own.remove("torch")
    own.install("torch", "2.14.1+cu126")
    status, output = fresh.run(NEST_PYTHON=str(own.python))
    assert status == 0
    assert "warning: other versions than tried: torch 2.14.1+cu126 (tried with 2.13.0)" in output
    own.remove("torch")
    own.install("torch", "2.9.1")
    os.utime(own.site, (1, 1))
    status, output = fresh.run(NEST_PYTHON=str(own.python))
    assert status == 1
    assert "torch is 2.9.1, needs 2.13 or newer" in output


def test_nest_python_needs_extras_only_when_they_are_asked_for(fresh, own):
    own.remove("peft")
    status, output = fresh.run(NEST_PYTHON=str(own.python))
    assert status == 0
    assert "warning: of the extras dev,llm: peft is missing" in output
    status, output = fresh.run(NEST_PYTHON=str(own.python), NEST_EXTRAS="llm")
    assert status == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is not an executable file"),
        ("#!/bin/sh\nexit 1\n", "does not start as a Python interpreter"),
        ("#!/bin/sh\necho 3.10\n", "is Python 3.10; nest_ssl needs 3.11 to 3.13"),
    ],
)
def test_nest_python_that_is_none_is_refused(fresh, tmp_path, text, message):
    if text:
        fresh.stand_in("other", text)
    status, output = fresh.run(NEST_PYTHON=str(fresh.stand_ins / "other"))
    assert status == 1
    assert message in output


def test_a_mistyped_option_is_refused(fresh):
    status, output = fresh.run("--requires")
    assert status == 1
    assert "unknown option --requires" in output


def test_every_requirement_has_a_pin(checkout):
    listed = [sys.executable, checkout / "utils" / "requirements.py", "list", "--extras", "dev,llm"]
    requirements = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    pins = re.findall(r"^([\w.-]+)==", (checkout / "constraints.txt").read_text(), re.MULTILINE)
    missing = {re.split(">=", requirement)[0] for requirement in requirements} - set(pins)
    assert missing == set()
