"""Of the configurations only what differs between comparable runs is shown, with short paths."""

from __future__ import annotations

from pathlib import Path

from nest_ssl.report.runs import Run, read_runs
from nest_ssl.report.setting_changes import path_today, setting_changes
from tests.report.experiments import make_run

SAME = "".join(f"k{i}: 1\n" for i in range(8))


def changes(folder, above=()):
    return setting_changes(read_runs(folder), folder, above)


def test_only_keys_that_differ_are_given(tmp_path):
    make_run(tmp_path / "a", config=SAME + "optim:\n  lr: 0.1\n  name: adamw\n")
    make_run(tmp_path / "b", config=SAME + "optim:\n  lr: 0.2\n  name: adamw\nextra: [1, 2]\n")
    assert changes(tmp_path) == {"optim.lr": {"a": 0.1, "b": 0.2}, "extra": {"b": [1, 2]}}


def test_one_and_true_differ(tmp_path):
    make_run(tmp_path / "a", config=SAME + "flag: true\n")
    make_run(tmp_path / "b", config=SAME + "flag: 1\n")
    assert changes(tmp_path) == {"flag": {"a": True, "b": 1}}


def test_runs_of_another_kind_of_model_are_not_compared(tmp_path):
    make_run(tmp_path / "a", config=SAME + "lr: 1\n")
    make_run(tmp_path / "b", config="".join(f"other{i}: 1\n" for i in range(9)))
    assert changes(tmp_path) == {}


def test_paths_are_short_and_the_run_s_own_folder_hides_no_difference(tmp_path):
    exp = tmp_path / "exp" / "nano"
    for name, start in (("a", "b"), ("b", "a")):
        text = f"out: {exp}/{name}\nlog: {exp}/{name}/log\nstart: {exp}/{start}/model\n"
        text += f"data: [{tmp_path}/data/{name}.jsonl]\n"
        make_run(exp / name, config=SAME + text)
    assert changes(exp, above=[tmp_path]) == {
        "start": {"a": "EXP/b/model", "b": "EXP/a/model"},
        "data": {"a": ["data/a.jsonl"], "b": ["data/b.jsonl"]},
    }


def test_an_experiment_that_was_moved_has_short_paths_too(tmp_path):
    for name in ("a", "b"):
        text = f"out: /there/nano/{name}\nstart: /there/nano/{name}0/model\n"
        make_run(tmp_path / "nano" / name, config=SAME + text)
    assert changes(tmp_path / "nano") == {"start": {"a": "EXP/a0/model", "b": "EXP/b0/model"}}


def test_a_path_is_found_near_a_moved_experiment(tmp_path):
    now = tmp_path / "moved" / "egs" / "stub"
    run = Run("base", now / "exp" / "small" / "base", settings={"dir": "/former/egs/stub/exp/small/base"})
    (now / "exp" / "small").mkdir(parents=True)
    (now / "data").mkdir()
    (now / "data" / "train.jsonl").write_text("{}")
    today = path_today([run], now / "exp" / "small")
    assert today("/former/egs/stub/data/train.jsonl") == now / "data" / "train.jsonl"
    for gone in ("/former/egs/stub/data/dev.jsonl", "/elsewhere/data/train.jsonl"):
        assert today(gone) == Path(gone)
    assert path_today([], now)("/former/x") == Path("/former/x")
