"""The sets that trainings read are told apart from the rest of a data report."""

from __future__ import annotations

import json
from pathlib import Path

from nest_ssl.report.data_reports import read_data_report
from nest_ssl.report.data_use import used_sets
from nest_ssl.report.experiment import read_experiment
from nest_ssl.report.html_page import html_page
from nest_ssl.report.results_page import results_page
from nest_ssl.report.runs import read_runs
from tests.report.experiments import make_run, train


def made(tmp_path: Path) -> tuple[Path, Path]:
    """An experiment with a pre-training and five fine-tunings, and the report of its data."""
    data = tmp_path / "data"
    data.mkdir()
    report = data / "report.json"
    counts = {name: {"rows": 5, "hours": 0.5} for name in ("train", "dev", "adapt", "corpus-fr")}
    report.write_text(json.dumps({"splits": counts}), encoding="utf-8")
    exp = tmp_path / "exp"
    model = (
        f"{{train_ds: {{manifest_filepath: {data}/train.jsonl}}, validation_ds: {{manifest_filepath: null}}}}"
    )
    make_run(exp / "pretrain", [train(1)], config=f"model: {model}\n")
    lists = f"train_data_set_list: [{data}/../data/adapt.jsonl]\nvalid_data_set_list: {data}/dev.jsonl\n"
    for name in "abcde":
        make_run(exp / name, [train(1, loss=ord(name))], config=lists)
    return exp, report


def test_sets_are_matched_by_their_manifests_and_readers_are_named(tmp_path):
    exp, report = made(tmp_path)
    used = used_sets(read_data_report(report), read_runs(exp))
    assert [(each.name, words) for each, words in used] == [
        ("train", "training of pretrain"),
        ("dev", "validation of a, b and 3 more runs"),
        ("adapt", "training of a, b and 3 more runs"),
    ]


def test_a_manifest_of_the_same_name_elsewhere_is_another_set(tmp_path):
    exp, report = made(tmp_path)
    elsewhere = tmp_path / "report.json"
    report.rename(elsewhere)
    assert used_sets(read_data_report(elsewhere), read_runs(exp)) == []


def test_both_pages_show_used_sets_first_and_fold_the_rest(tmp_path):
    exp, report = made(tmp_path)
    found = read_experiment(exp, data_reports=[report])
    text = results_page(found)
    before, folded = text[text.index("## Data") :].split("<details>")
    assert "| adapt | " in before and "corpus-fr" not in before
    assert "corpus-fr" in folded[: folded.index("</details>")]
    page = html_page(found)
    section = page[page.index('<section id="data"') :]
    before, folded = section.split('<details class="fold" ><summary>All 4 sets', 1)
    assert "training of pretrain" in before and "corpus-fr" not in before
    assert "corpus-fr" in folded[: folded.index("</section>")]


def test_without_a_training_every_set_is_shown_unfolded(tmp_path):
    _, report = made(tmp_path)
    (tmp_path / "empty").mkdir()
    found = read_experiment(tmp_path / "empty", data_reports=[report])
    assert "<details>" not in results_page(found) and "corpus-fr" in results_page(found)
    assert '<details class="fold" open><summary>All 4 sets' in html_page(found)
