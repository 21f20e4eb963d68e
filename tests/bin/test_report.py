"""The verb `report`: two pages come out of a folder, and mistakes are named with the way out."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="jinja2 is not installed")

from nest_ssl.bin import report
from tests.report.experiments import gain, make_run, mark, score_row, scores, train, validation


@pytest.fixture
def experiment(tmp_path):
    exp = tmp_path / "exp" / "nano"
    mark(exp, 1, "encoder")
    make_run(
        exp / "encoder", [validation(0, 5.0), train(20), validation(20, 3.0)], env={}, config="seed: 1\n"
    )
    return exp


def plain(page: Path) -> str:
    """The text of a page without its marks: figures and units are held together, details are in bold."""
    text = html.unescape(re.sub(r"<[^>]*>", "", page.read_text(encoding="utf-8")))
    return text.replace("\u00a0", " ")


def test_two_pages_come_out_and_the_answers_are_printed(experiment, capsys):
    assert report.main([str(experiment), "--title", "Nano at 8 kHz", "--aim", "loss_fall=0.5"]) == 0
    printed = capsys.readouterr().out
    assert "Did the loss fall by 50 % or more in each stage? Not met. It fell in encoder 40.0 %" in printed
    assert f"wrote {experiment / 'RESULTS.md'}\nwrote {experiment / 'report.html'}\n" in printed
    for name in ("RESULTS.md", "report.html"):
        text = plain(experiment / name)
        assert "Nano at 8 kHz" in text and "It fell in encoder 40.0 %" in text, name
    assert sorted(path.name for path in experiment.iterdir()) == [
        ".done",
        "RESULTS.md",
        "encoder",
        "report.html",
    ]


def test_a_default_aim_can_be_taken_away(experiment, capsys):
    report.main([str(experiment), "--aim", "loss_fall=none"])
    assert "Did the loss fall, and by how much? It fell in encoder 40.0 %." in capsys.readouterr().out


@pytest.mark.parametrize("text", ["cer", "cer=", "cer=30", "cer=-0.1", "cer=nan", "speed=0.3", "cer=x"])
def test_an_aim_that_is_none_is_refused(experiment, text, capsys):
    with pytest.raises(SystemExit):
        report.main([str(experiment), "--aim", text])
    assert text in capsys.readouterr().err


def test_a_folder_of_experiments_is_refused_with_their_names(experiment):
    make_run(experiment.parent / "second" / "lora", [train(1)])
    with pytest.raises(ValueError, match=r"holds 2; give one: .*nano, .*second"):
        report.main([str(experiment.parent)])
    assert not (experiment.parent / "RESULTS.md").exists()


def test_what_is_no_experiment_is_refused(tmp_path, experiment):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="is no experiment: it has no run directory"):
        report.main([str(tmp_path / "empty")])
    with pytest.raises(FileNotFoundError, match="does not exist; give the folder"):
        report.main([str(tmp_path / "nowhere")])
    with pytest.raises(FileNotFoundError, match="is a file; give the folder"):
        report.main([str(experiment / "encoder" / "env.json")])


def test_a_data_report_that_is_missing_writes_nothing(experiment, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data report .*gone\.json does not exist"):
        report.main([str(experiment), "--data-report", str(tmp_path / "gone.json")])
    assert not (experiment / "RESULTS.md").exists()


def test_manifests_without_a_channel_are_said_and_the_rest_is_written(experiment, tmp_path):
    for name in ("source", "simulated"):
        (tmp_path / f"{name}.jsonl").write_text('{"id": "a", "audio_filepath": "a.wav"}\n', encoding="utf-8")
    pair = [str(tmp_path / "source.jsonl"), str(tmp_path / "simulated.jsonl")]
    assert report.main([str(experiment), "--channel-example", *pair]) == 0
    assert "* no channel example: " in (experiment / "RESULTS.md").read_text(encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        report.main([str(experiment), "--channel-example", pair[0], str(tmp_path / "nowhere.jsonl")])


def test_scores_come_onto_both_pages(experiment):
    rows = [score_row("base", 0.5), score_row("lora", 0.4, step=gain("base", 0.2, 0.001))]
    found = scores(*rows)
    (experiment / "scores.json").write_text(json.dumps(found), encoding="utf-8")
    report.main([str(experiment)])
    for name in ("RESULTS.md", "report.html"):
        text = plain(experiment / name)
        assert "lora after base: 50.00 %" in text, name
    assert "**40.00** [39.00, 41.00]" in (experiment / "RESULTS.md").read_text(encoding="utf-8")


def test_a_further_test_set_has_a_section_on_both_pages(experiment):
    group = {"utterances": 9, "few": True, "hours": 0.1, "cer": {"rate": 0.4, "low": 0.3, "high": 0.5}}
    row = score_row("encoder", 0.4321, conditions={"codec": {"amr_nb": group, "g729": group}})
    for name, rows in (
        ("scores", [score_row("base", 0.5)]),
        ("scores_simulated", [score_row("base", 0.6, conditions={}), row]),
    ):
        (experiment / f"{name}.json").write_text(json.dumps(scores(*rows)))
    (experiment / "SCORES_simulated.md").write_text("#\n")
    assert report.main([str(experiment)]) == 0
    text = (experiment / "RESULTS.md").read_text(encoding="utf-8")
    section = text[text.index("## Test set simulated") :]
    assert section.index("43.21") < section.index("#### Codec") < section.index("| amr_nb | 9*")
    assert "[SCORES_simulated.md](SCORES_simulated.md)" in text
    page = (experiment / "report.html").read_text(encoding="utf-8")
    section = page[page.index('<section id="set-1"') :]
    assert "Test set simulated" in section and "CER by codec; amr_nb · 9 utt. *: 40.0 %" in section
    assert '<a href="#set-1">Set simulated</a>' in page


def test_the_verb_starts_without_torch(experiment):
    program = (
        "import sys; from nest_ssl.bin.report import main; main(sys.argv[1:]); "
        "sys.exit(sorted({'torch', 'transformers', 'torchaudio'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(experiment)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
