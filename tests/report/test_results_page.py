"""RESULTS.md is Markdown whose tables a terminal shows, with texts that do not break it."""

from __future__ import annotations

import re

from nest_ssl.report.experiment import read_experiment
from nest_ssl.report.results_page import results_page
from nest_ssl.report.tables import table
from nest_ssl.text.alignment_file import display_width as width
from tests.report.experiments import make_run, mark, train, validation


def test_the_training_table_says_what_the_log_says(tmp_path):
    rows = [
        validation(0, 4.0),
        train(10, **{"hours_seen": 1.0, "audio_s/s": 100.0, "mem_gb": 3.25}),
        train(20, **{"hours_seen": 3.0, "audio_s/s": 400.0, "mem_gb": 7.0}),
        validation(20, 3.0),
    ]
    make_run(tmp_path / "lora", rows, env={"command": ["finetune", "--part", "lora"]}, config="seed: 17\n")
    page = results_page(read_experiment(tmp_path))
    # an hour of audio at 100 s/s and two at 400 s/s: 36 and 18 seconds for 20 steps
    cells = [" ".join(line.split()) for line in page.splitlines()]
    assert "| lora | 20 | 4.0000 | 3.0000 | 25.0 % | 3.00 | 54 s | 2700 | 7.00 GB |" in cells
    assert "* lora: commit abcdef012345 with uncommitted changes, on 2 x NVIDIA H100, started" in page
    assert "      finetune --part lora\n" in page and "Seeds: 17 (lora)." in page


def test_differences_of_settings_name_the_runs_of_each_value(tmp_path):
    same = "".join(f"k{i}: 1\n" for i in range(5))
    for name, lr in (("a", 0.1), ("b", 0.2), ("c", 0.2)):
        make_run(tmp_path / name, config=f"{same}lr: {lr}\n")
    assert "* `lr`: 0.1 (a); 0.2 (b, c)\n" in results_page(read_experiment(tmp_path))


def test_stages_have_times_and_states(tmp_path):
    mark(tmp_path, 3, "pretrain", "1 h 5 min")
    cells = [" ".join(line.split()) for line in results_page(read_experiment(tmp_path)).splitlines()]
    assert "| 3 | pretrain | done | 2026-11-21 09:55 | 2026-11-21 11:00 | 1 h 5 min |" in cells


def test_links_are_to_files_that_are_there(tmp_path):
    (tmp_path / "SCORES.md").write_text("x", encoding="utf-8")
    page = results_page(read_experiment(tmp_path))
    links = set(re.findall(r"\]\(([^)]+)\)", page))
    assert links == {"SCORES.md", "report.html"}  # the page for the browser is written with this one


def test_columns_line_up_and_full_width_characters_take_two(tmp_path):
    lines = table(["name", "n"], [["电话", "1"], ["a|b\nc", "22"]], right=[1])
    assert lines == ["| name   |  n |", "| ------ | -: |", "| 电话   |  1 |", "| a\\|b c | 22 |"]
    assert width("电话a") == 5 and width("é") == 1 and len({width(line) for line in lines}) == 1


def test_one_validation_has_no_fall(tmp_path):
    make_run(tmp_path / "ssl", [validation(20, 3.0)])
    cells = [" ".join(line.split()) for line in results_page(read_experiment(tmp_path)).splitlines()]
    assert "| ssl | 20 | 3.0000 | 3.0000 | - | - | - | - | - |" in cells
