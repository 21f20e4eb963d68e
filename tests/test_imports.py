"""What starts without torch, and what an import may cost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fun_asr_tiny import make_model_dir

CHECKOUT = Path(__file__).resolve().parent.parent
VERB_FILES = sorted((CHECKOUT / "nest_ssl" / "bin").glob("*.py"))
VERBS = [path.stem for path in VERB_FILES if "\ndef main(" in path.read_text(encoding="utf-8")]
HEAVY = ("torch", "torchaudio", "transformers", "lightning", "pandas", "matplotlib", "tensorboard")
SAY_WHAT_IS_LOADED = (
    "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
)


def loaded_by(program: str, *words: str) -> set[str]:
    """Top-level modules in a fresh process after `program`."""
    return set(said_last(f"{program}\n{SAY_WHAT_IS_LOADED}", *words))


def said_last(program: str, *words: str) -> list:
    """What the last line that `program` writes in a fresh process says, in JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


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


def test_the_work_of_verbs_loads_no_second_framework():
    loaded = loaded_by("from nest_ssl.bin import decode_run, finetune_run, pretrain_run")
    assert "torch" in loaded
    assert sorted(loaded & (set(HEAVY) - {"torch"})) == []


MODEL_VERBS = {  # each with words that are right, but for a path where nothing is
    "decode": "--device cpu --model absent a.wav",
    "export": "--to nemo absent out",
    "extract_features": "--device cpu --model absent --manifest absent.jsonl --out out",
    "finetune": "--part encoder --model absent --train absent.jsonl --out out",
    "finetune_ctc": "init_from_nemo_model=absent.nemo",
    "init_model": "--config absent.yaml --out out",
    "pretrain": "--config absent.yaml",
    "transcribe": "--device cpu --model absent.nemo a.wav",
}
ASK = """
import contextlib, importlib, io, json, sys
slow = ("torch", "transformers", "torchaudio", "scipy.signal", "scipy.ndimage", "matplotlib")
def ask(verb, words):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            end = importlib.import_module("nest_ssl.bin." + verb).main(words)
        except SystemExit as stopped:
            end = stopped.code
        except (ValueError, OSError) as error:
            end = str(error)
    return [verb, end, [name for name in slow if name in sys.modules]]
print(json.dumps([ask(verb, words.split()) for verb, words in json.loads(sys.argv[1])]))
"""


def asked(questions: list[tuple[str, str]]) -> list[tuple[str, object, list[str]]]:
    """(verb, exit status or error, what is slow to load and now loaded) of each, all in one process."""
    return [tuple(answer) for answer in said_last(ASK, json.dumps(questions))]


def test_help_and_a_mistyped_option_load_nothing_slow():
    questions = [(verb, words) for verb in VERBS for words in ("--help", "--no-such-option")]
    expected = [(verb, 2 * (words != "--help"), []) for verb, words in questions]
    assert asked(questions) == expected


def test_a_wrong_path_is_told_before_anything_slow_is_loaded():
    answers = asked(list(MODEL_VERBS.items()))
    assert [(verb, loaded) for verb, _, loaded in answers] == [(verb, []) for verb in MODEL_VERBS]
    assert [verb for verb, error, _ in answers if "absent" not in str(error)] == []


def test_every_verb_with_a_model_is_asked_for_a_wrong_path():
    """Apart from preflight, to which a wrong path is one finding among others."""
    works = {path.stem.removesuffix("_run") for path in VERB_FILES if path.stem.endswith("_run")}
    assert works - {"preflight", "training"} == set(MODEL_VERBS)


def test_decode_loads_no_library_that_it_does_not_need(tmp_path):
    """Apart from what transformers loads of its own accord."""
    model = make_model_dir(tmp_path / "model")
    audio = str(CHECKOUT / "tests" / "data" / "asterisk" / "en" / "hello-world.wav")
    program = "import sys\nfrom nest_ssl.bin.decode import main\nassert not main(sys.argv[1:])"
    loaded = loaded_by(program, "--device", "cpu", "--model", str(model), "--mode", "llm", audio)
    assert "transformers" in loaded
    needless = {"peft", "tensorboard", "matplotlib", "jiwer", "opencc", "av", "lightning", "onnxruntime"}
    assert sorted(loaded & needless) == []
