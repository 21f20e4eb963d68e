"""What starts without torch, and what an import may cost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "torchaudio", "transformers", "lightning", "pandas", "matplotlib", "tensorboard")
SAY_WHAT_IS_LOADED = (
    "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
)


def loaded_by(program: str, *words: str) -> set[str]:
    """Top-level modules in a fresh process after `program`."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{SAY_WHAT_IS_LOADED}", *words],
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_nothing_but_it():
    before, after = loaded_by(""), loaded_by("import nest_ssl")
    assert after - before == {"nest_ssl"}


@pytest.mark.parametrize("verb", ["simulate", "manifest"])
def test_a_data_verb_runs_from_end_to_end_without_torch(verb, tmp_path):
    """Not at its import alone: nothing that it does on the way needs torch either."""
    audio = str(CHECKOUT / "tests" / "data" / "asterisk" / "en" / "hello-world.wav")
    rows = [{"id": f"u{n}", "audio_filepath": audio, "duration": 1.0} for n in range(3)]
    manifest = tmp_path / "in.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = {
        "simulate": ["--manifest", str(manifest), "--out", str(tmp_path / "out"), "--seed", "1"],
        "manifest": [
            "--in",
            str(manifest),
            "--out-dir",
            str(tmp_path / "out"),
            "--split-by",
            "id",
            "--dev",
            "0",
            "--test",
            "0",
        ],
    }[verb]
    program = f"import sys\nfrom nest_ssl.bin.{verb} import main\nassert not main(sys.argv[1:])"
    loaded = loaded_by(program, *words)
    assert "nest_ssl" in loaded
    assert sorted(loaded & set(HEAVY)) == []


def test_pretraining_loads_no_second_framework():
    loaded = loaded_by("import nest_ssl.bin.pretrain")
    assert "torch" in loaded
    assert sorted(loaded & (set(HEAVY) - {"torch"})) == []
