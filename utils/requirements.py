#!/usr/bin/env python3
"""What nest_ssl needs, read from setup.py as text, and what of it a Python environment lacks.

    requirements.py list  [--extras dev,llm]                 one requirement a line, for `pip install -r`
    requirements.py check [--extras dev] [--optional llm]    what this interpreter lacks; changes nothing

`check` fails when a distribution of the core or of --extras is missing or older than setup.py's bound. A
missing one of --optional, and a version other than the one in constraints.txt, is a warning.
Standard library only: it runs before anything is installed.
"""

import argparse
import ast
import re
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def read_requirements(setup_py: Path) -> dict[str, list[str]]:
    """Requirements by extra; the core's have the key "". Only literals are read, nothing is run."""
    found = {}
    for node in ast.parse(setup_py.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in ("CORE", "EXTRAS"):
                found[name] = ast.literal_eval(node.value)
    if set(found) != {"CORE", "EXTRAS"}:
        raise ValueError(f"{setup_py} needs CORE = [...] and EXTRAS = {{...}}; found {sorted(found)}")
    return {"": found["CORE"], **found["EXTRAS"]}


def read_pins(constraints: Path) -> dict[str, str]:
    """Exact version by distribution name (lower case, dashes)."""
    pins = {}
    for line in constraints.read_text(encoding="utf-8").splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s;#]+)", line)
        if match:
            pins[canonical(match[1])] = match[2]
    return pins


def canonical(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: 2.13.0+cpu gives (2, 13, 0)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def select(requirements: dict[str, list[str]], extras: str) -> list[str]:
    """Requirements of a comma-separated list of extras; ValueError for an extra that setup.py lacks."""
    selected = []
    for extra in filter(None, (word.strip() for word in extras.split(","))):
        if extra not in requirements:
            known = ", ".join(sorted(filter(None, requirements)))
            raise ValueError(f"setup.py has no extra {extra!r}; NEST_EXTRAS takes a list of: {known}")
        selected += requirements[extra]
    return selected


def problems(requirements: list[str], pins: dict[str, str]) -> tuple[list[str], list[str], list[str]]:
    """(faults, what to give pip to mend them, versions that only differ from the pin) of this environment."""
    faults, wanted, different = [], [], []
    for requirement in requirements:
        name, _, bound = requirement.partition(">=")
        pin = pins.get(canonical(name))
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            faults.append(f"{name} is missing")
        else:
            if bound and release(version) < release(bound):
                faults.append(f"{name} is {version}, needs {bound} or newer")
            else:
                if pin and version.split("+")[0] != pin:
                    different.append(f"{name} {version} (tried with {pin})")
                continue
        wanted.append(f"{name}=={pin}" if pin else requirement)
    return faults, wanted, different


def check(requirements: dict[str, list[str]], pins: dict[str, str], extras: str, optional: str) -> int:
    """Print what is wrong with this environment to stderr; 0 when recipes can run in it."""
    faults, wanted, different = problems(requirements[""] + select(requirements, extras), pins)
    lacking, also, also_different = problems(select(requirements, optional), pins)
    pip = f"{sys.executable} -m pip install"
    if faults:
        report(f"{sys.executable} cannot run nest_ssl: {'; '.join(faults)}.")
        report(f"Nothing was changed there. To install them: {pip} {' '.join(wanted)}")
        return 1
    if lacking:
        report(f"warning: of the extras {optional}: {'; '.join(lacking)}. If wanted: {pip} {' '.join(also)}")
    if different or also_different:
        report(f"warning: other versions than tried: {', '.join(different + also_different)}")
    return 0


def report(line: str) -> None:
    """One line to stderr; stdout carries data only."""
    print(line, file=sys.stderr)


def main() -> int:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("action", choices=("list", "check"))
    parser.add_argument("--extras", default="", help="comma-separated")
    parser.add_argument("--optional", default="", help="extras whose absence is only a warning")
    arguments = parser.parse_args()
    requirements = read_requirements(ROOT / "setup.py")
    try:
        if arguments.action == "list":
            print("\n".join(requirements[""] + select(requirements, arguments.extras)))
            return 0
        pins = read_pins(ROOT / "constraints.txt")
        return check(requirements, pins, arguments.extras, arguments.optional)
    except ValueError as error:
        report(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
