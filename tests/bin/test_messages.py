"""What verbs say on standard error: colours for a person alone, every warning once, no noise."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings

import pytest

from nest_ssl.bin.messages import SAME_KIND, Folded, show_warning, uses_colour


def record(level: int, text: str, *values: object) -> logging.LogRecord:
    return logging.LogRecord("x", level, "x.py", 1, text, values, None)


def test_a_warning_is_said_once_and_counted(caplog):
    caplog.set_level(logging.INFO)
    folded = Folded()
    shown = [folded.filter(record(logging.WARNING, "noise kind %s left out", "babble")) for _ in range(4)]
    assert shown == [True, False, False, False]
    assert folded.filter(record(logging.WARNING, "noise kind %s left out", "music"))
    folded.say_rest()
    assert [r.getMessage() for r in caplog.records] == ["said 3 times more: noise kind %s left out"]


def test_of_one_kind_only_the_first_are_shown():
    folded = Folded()
    shown = [folded.filter(record(logging.WARNING, "utterance %s is odd", n)) for n in range(SAME_KIND + 5)]
    assert shown == [True] * SAME_KIND + [False] * 5
    # a message without words of its own is no kind
    assert all(folded.filter(record(logging.WARNING, "%s: %s", n, "odd")) for n in range(SAME_KIND + 5))


def test_information_and_errors_are_never_folded():
    folded = Folded()
    for level in (logging.INFO, logging.ERROR):
        assert all(folded.filter(record(level, "again")) for _ in range(3))


@pytest.mark.parametrize(
    ("text", "category", "expected"),
    [
        ("Grad strides do not match bucket view strides. This may\nmore", UserWarning, []),
        ("x is deprecated", FutureWarning, []),
        (
            "the GPU is too old for this build\nmore lines",
            UserWarning,
            ["the GPU is too old for this build (torch)"],
        ),
    ],
)
def test_of_libraries_only_what_matters_is_shown(caplog, monkeypatch, text, category, expected):
    monkeypatch.delenv("NEST_TRACEBACK", raising=False)
    show_warning(text, category, "/x/lib/site-packages/torch/cuda/a.py", 3)
    assert [r.getMessage() for r in caplog.records] == expected
    monkeypatch.setenv("NEST_TRACEBACK", "1")
    show_warning(text, category, "/x/lib/site-packages/torch/cuda/a.py", 3)
    assert text in caplog.records[-1].getMessage()


class Terminal:
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": ""}, True)],
)
def test_a_person_may_ask_for_plain_text(monkeypatch, environment, expected):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert uses_colour(Terminal()) is expected


def test_a_program_logs_warnings_of_python_on_one_line_without_colour_into_a_pipe(checkout):
    program = (
        "import warnings, logging; from nest_ssl.bin.terminal import start_logging; start_logging()\n"
        "for n in range(3): logging.getLogger('a').warning('again')\n"
        "warnings.warn('mind\\nthis')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=checkout, capture_output=True, text=True, check=True
    )
    lines = [line.split(" ", 2)[2] for line in done.stderr.splitlines()]
    assert lines == ["WARNING again", "WARNING mind (<string>)", "INFO said 2 times more: again"]


def test_ctrl_c_while_a_verb_is_imported_ends_in_one_word(checkout):
    program = "import sys; sys.argv = ['-m']; import nest_ssl.bin\nraise KeyboardInterrupt"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.stderr == "interrupted\n"
    assert done.returncode != 0
    program = "import sys; sys.argv = ['-m']; import nest_ssl.bin\nraise RuntimeError('ours')"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.stderr.startswith("Traceback") and "RuntimeError: ours" in done.stderr


def test_the_tests_own_handling_of_warnings_is_left_alone():
    with pytest.warns(UserWarning, match="seen"):
        warnings.warn("seen", UserWarning, stacklevel=1)
