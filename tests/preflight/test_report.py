"""The report: levels, exit status, text and JSON."""

import json

import pytest

from nest_ssl.bin.preflight import main
from nest_ssl.preflight.report import Finding, Report, shown

ERROR = Finding("error", "A.one", "seen this", "because", "do that")
WARNING = Finding("warning", "A.two", "seen that")


def test_warnings_fail_only_when_strict():
    assert not Report([WARNING]).failed()
    assert Report([WARNING]).failed(strict=True)
    assert Report([ERROR]).failed()


def test_raise_errors_says_what_why_and_how():
    with pytest.raises(ValueError, match=r"(?s)1 reason not to start:\nERROR   A.one\n.*because.*do that"):
        Report([ERROR, WARNING]).raise_errors()
    Report([WARNING]).raise_errors()


def test_errors_come_first_and_lines_keep_their_width():
    text = Report([WARNING, ERROR, Finding("note", "A.three", "word " * 60)], {"x": "no data"}).text()
    assert text.index("A.one") < text.index("A.two") < text.index("A.three")
    assert max(map(len, text.splitlines())) <= 110
    assert text.splitlines()[-1] == "preflight: 1 error, 1 warning, 1 note, 1 skipped"


def test_a_long_list_is_cut_with_a_count():
    assert shown([1, 2]) == "1, 2"
    assert shown(range(5), 3) == "0, 1, 2 and 2 more"


def test_json_and_exit_status_of_the_verb(world, capsys):
    world.words = ["++train_conf.use_bf16=true"]
    assert main(world.argv("--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"]["error"] == 0
    assert "PREC.cpu" in [finding["code"] for finding in found["findings"]]
    assert main(world.argv("--strict")) == 1
    world.words = ["++frontend_conf.fs=8000"]
    assert main(world.argv()) == 1


def test_all_but_the_model_may_be_left_out(world, capsys):
    words = world.argv("--json")
    at = words.index("--out")
    assert main(words[:at] + words[at + 2 :]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["error"] == 0
    assert main(["--model", str(world.model), "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["skipped"]
