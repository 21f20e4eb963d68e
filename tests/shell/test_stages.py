"""Which stages run, which are skipped, and what is said about it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nest_ssl.report.stages import read_stages

from .conftest import Stub

THREE = r"""
count() { echo x >>"$data/ran.$1"; }
stage_data() { count data; seq "$last" >"$data/numbers"; }
stage_split() { count split; head -n 2 "$data/numbers" >"$data/first"; }
stage_join() { count join; cat "$data/first" >"$exp/joined"; }
stage 0 data at:"$data" out:"$data/numbers" -- stage_data
stage 1 split at:"$data" in:"$data/numbers" out:"$data/first" -- stage_split
stage 4 join in:"$data/first" out:"$exp/joined" -- stage_join
"""


@pytest.fixture
def three(stub: Stub) -> Stub:
    stub.write(THREE, "last=5  # last number")
    return stub


def runs(stub: Stub) -> list[int]:
    """How often data, split and join have run so far."""
    return [
        len(path.read_text().split()) if path.exists() else 0
        for path in (stub.data / f"ran.{name}" for name in ("data", "split", "join"))
    ]


def test_all_stages_run_once_and_are_skipped_then(three: Stub) -> None:
    output = three.succeed()
    assert "run.sh: stage 0 (data) starts; log egs/stub/data/log/0-data.log" in output
    assert "run.sh: stage 4 (join) done in " in output
    assert (three.exp / "joined").read_text() == "1\n2\n"
    output = three.succeed()
    assert output.splitlines() == [
        "run.sh: stage 0 (data) already done, skipped",
        "run.sh: stage 1 (split) already done, skipped",
        "run.sh: stage 4 (join) already done, skipped",
        "run.sh: nothing to do; egs/stub/exp/default",
    ]
    assert runs(three) == [1, 1, 1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--stage", "1"], [1, 2, 1]),
        (["--stage", "split"], [1, 2, 1]),
        (["--stage=01", "--stop_stage=split"], [1, 2, 1]),
        (["--stop-stage", "data", "--force"], [2, 1, 1]),
        (["--stage", "split", "--force"], [1, 2, 2]),
        (["--force"], [2, 2, 2]),
        (["--fresh", "join"], [1, 1, 2]),
    ],
)
def test_stage_forces_itself_and_force_the_whole_range(
    three: Stub, words: list[str], expected: list[int]
) -> None:
    three.succeed()
    three.succeed(*words)
    assert runs(three) == expected


def test_stop_stage_ends_the_run(three: Stub) -> None:
    three.succeed("--stop-stage", "1")
    assert runs(three) == [1, 1, 0]


def test_a_changed_option_runs_what_depends_on_it_and_prints_the_difference(three: Stub) -> None:
    three.succeed()
    output = three.succeed("--last", "6")
    assert "stage 0 (data) starts again (changed since it was done)" in output
    assert "    was: variable last = 5\n    now: variable last = 6\n" in output
    assert "stage 1 (split) starts again (changed since it was done)" in output
    assert "    changed: input egs/stub/data/numbers\n" in output
    assert "stage 4 (join) already done, skipped" in output  # the first two numbers are the same
    assert runs(three) == [2, 2, 1]


def test_a_changed_input_file_is_seen_whatever_its_date(three: Stub) -> None:
    three.succeed()
    first = three.data / "first"
    before = first.stat()
    first.write_text("1\n3\n")
    os.utime(first, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "changed: input egs/stub/data/first" in three.succeed()
    assert runs(three) == [1, 1, 2]


def test_the_same_content_with_a_new_date_is_no_change(three: Stub) -> None:
    three.succeed()
    os.utime(three.data / "numbers", (1, 1))
    three.succeed()
    assert runs(three) == [1, 1, 1]


def test_a_large_input_counts_by_size_and_time(stub: Stub) -> None:
    stub.write(
        'stage 0 a at:"$data" in:"$recipe/big" out:"$data/ran.data" -- bash -c "echo x >>\'$data/ran.data\'"'
    )
    with (stub.recipe / "big").open("wb") as file:
        file.truncate(65 * 2**20)
    stub.succeed()
    stub.succeed()
    assert runs(stub)[0] == 1
    os.utime(stub.recipe / "big", (1, 1))
    assert "changed: input egs/stub/big" in stub.succeed()


def test_a_folder_as_input_counts_by_its_files(stub: Stub) -> None:
    stub.write(
        'stage 0 a at:"$data" in:"$recipe/in" out:"$data/ran.data" -- bash -c "echo x >>\'$data/ran.data\'"'
    )
    (stub.recipe / "in" / "deep").mkdir(parents=True)
    assert "needs egs/stub/in" not in stub.succeed()  # it has an entry
    stub.succeed()
    assert runs(stub)[0] == 1
    (stub.recipe / "in" / "deep" / "file").write_text("1")
    assert "changed: input egs/stub/in" in stub.succeed()


def test_an_edited_function_prints_its_lines(three: Stub) -> None:
    three.succeed()
    three.write(THREE.replace("head -n 2", "head -n 3"), "last=5  # last number")
    output = three.succeed()
    assert '    was: function stage_split: head -n 2 "$data/numbers" > "$data/first"' in output
    assert '    now: function stage_split: head -n 3 "$data/numbers" > "$data/first"' in output
    assert runs(three) == [1, 2, 2]


def test_a_function_called_by_the_function_counts_too(three: Stub) -> None:
    three.succeed()
    three.write(THREE.replace('ran.$1"; }', 'ran.$1"; : ; }'), "last=5  # last number")
    assert "was: function count: " in three.succeed()
    assert runs(three) == [2, 2, 2]


def test_an_option_and_its_value_in_a_command_are_one_fact(stub: Stub) -> None:
    stub.write("stage 0 a -- echo --rate \"$rate\" 'two words'", "rate=8000  # Hz")
    stub.succeed()
    output = stub.succeed("--rate", "16000")
    changes = [line for line in output.splitlines() if line.startswith("    ")]
    assert changes == ["    was: command --rate 8000", "    now: command --rate 16000"]


def test_settings_named_in_the_command_count(stub: Stub) -> None:
    module = stub.root / "verbs" / "show.py"
    module.parent.mkdir()
    module.write_text("print('first')\n")
    (stub.root / "conf.yaml").write_text("rate: 8000\n")
    stub.write('stage 0 a -- env PYTHONPATH="$root" python3 -m verbs.show --config=conf.yaml')
    stub.succeed()
    module.write_text("print('second')\n")
    assert "    changed: settings verbs/show.py\n" in stub.succeed()
    (stub.root / "conf.yaml").write_text("rate: 16000\n")
    assert "    changed: settings conf.yaml\n" in stub.succeed()
    assert "already done" in stub.succeed()


def test_scripts_and_settings_named_in_a_function_count(stub: Stub) -> None:
    script = stub.recipe / "local" / "make.py"
    script.parent.mkdir()
    script.write_text("import sys\nopen(sys.argv[1], 'w').write('rate: 8000')\n")
    stub.write(
        'make() { python3 "$recipe/local/make.py" "$data/made.yaml"; }\n'
        'stage 0 a at:"$data" out:"$data/made.yaml" -- make'
    )
    stub.succeed()
    assert "already done" in stub.succeed()  # the YAML file that it made itself is no setting
    script.write_text(script.read_text() + "# changed\n")
    assert "    changed: settings egs/stub/local/make.py\n" in stub.succeed()


def test_how_many_jobs_run_at_a_time_is_no_fact(stub: Stub) -> None:
    stub.write(
        'all() { on_cpu "JOB=1:$nj" "$data/log/a.JOB.log" true; }\nstage 0 a at:"$data" -- all',
        "nj=2  # shards",
    )
    stub.succeed()
    assert "already done" in stub.succeed("--nj", "3")
    (stub.root / "cmd.sh").write_text('on_cpu() { "${@:2}"; }\non_gpu() { on_cpu "$@"; }\n')
    assert "already done" in stub.succeed("--cmd", "cmd.sh")


def test_the_locale_is_no_fact(stub: Stub) -> None:
    stub.write('show() { echo "$title"; }\nstage 0 a -- show\nstage 1 b -- echo "$title"', "title=x  # words")
    for number, locale in enumerate(("C", "C.UTF-8")):
        status, output = stub.run("--title", "café 'q'", LC_ALL=locale)
        assert status == 0
        assert output.count("already done") == 2 * number, output


def test_a_removed_output_is_made_again(three: Stub) -> None:
    three.succeed()
    (three.data / "first").write_text("")
    output = three.succeed()
    assert "stage 1 (split) starts again (its output egs/stub/data/first is missing or empty)" in output
    assert runs(three) == [1, 2, 1]


def test_a_missing_input_names_the_stage_that_makes_it(three: Stub) -> None:
    status, output = three.run("--stage", "join")
    assert status == 1
    assert output == (
        "run.sh: stage 4 (join) needs egs/stub/data/first, which is missing; run stage 1 (split) first\n"
    )
    assert not three.recipe.joinpath("exp").exists()


def test_an_empty_input_and_one_that_no_stage_makes(stub: Stub) -> None:
    stub.write('stage 0 a in:"$recipe/list" -- true')
    (stub.recipe / "list").touch()
    assert "needs egs/stub/list, which is empty; no stage of this recipe makes it" in stub.fail()


@pytest.mark.parametrize("command", ["true", 'bash -c \': >"$1"\' x "$data/out"', 'mkdir "$data/out"'])
def test_no_marker_without_outputs(stub: Stub, command: str) -> None:
    stub.write(f'stage 0 a at:"$data" out:"$data/out" -- {command}')
    output = stub.fail()
    assert (
        "ended with status 0, but its output egs/stub/data/out is missing or empty, so it is not done"
        in output
    )
    assert "bash egs/stub/run.sh --stage 0" in output
    assert list((stub.data / ".done").glob("[!.]*")) == []
    shown = stub.succeed("--status")
    assert " 0 a            failed   20" in shown
    assert "      it ended well, but egs/stub/data/out is missing or empty\n" in shown


def test_an_output_may_be_a_folder(stub: Stub) -> None:
    stub.write(
        'make() { mkdir -p "$data/out"; touch "$data/out/.hidden"; }\n'
        'stage 0 a at:"$data" out:"$data/out" -- make'
    )
    stub.succeed()
    assert stub.marker("0-a").exists()


def test_fresh_removes_outputs_and_says_so(stub: Stub) -> None:
    stub.write(
        'grow() { mkdir -p "$data/out"; echo x >>"$data/out/log"; }\n'
        'stage 0 a at:"$data" out:"$data/out" -- grow'
    )
    stub.succeed()
    stub.succeed("--stage", "0")
    assert (stub.data / "out" / "log").read_text() == "x\nx\n"
    assert "run.sh: --fresh: removing egs/stub/data/out" in stub.succeed("--fresh", "a")
    assert (stub.data / "out" / "log").read_text() == "x\n"


@pytest.mark.parametrize(
    "path", ["$recipe/elsewhere/file", "$data", "$data/../elsewhere/file", "$data/log/x", "$data/link/file"]
)
def test_fresh_removes_nothing_outside_the_stage(stub: Stub, path: str) -> None:
    (stub.recipe / "elsewhere").mkdir()
    (stub.recipe / "elsewhere" / "file").write_text("precious")
    (stub.data / "log").mkdir(parents=True)
    (stub.data / "log" / "x").write_text("precious")
    (stub.data / "link").symlink_to("../elsewhere")
    stub.write(f'stage 0 a at:"$data" out:"{path}" -- true')
    assert "--fresh: " in stub.fail("--fresh", "a")
    assert (stub.recipe / "elsewhere" / "file").read_text() == "precious"
    assert (stub.data / "log" / "x").read_text() == "precious"


def test_fresh_outside_the_range_is_refused(three: Stub) -> None:
    assert "--fresh 0: that stage is outside --stage and --stop-stage" in three.fail(
        "--stage", "1", "--fresh", "0"
    )


def test_the_log_has_every_attempt(three: Stub) -> None:
    three.succeed()
    three.succeed("--force")
    log = (three.data / "log" / "0-data.log").read_text()
    assert log.count(" stage 0 (data) on ") == 2


def test_stage_output_reaches_the_person_and_the_log(stub: Stub) -> None:
    stub.write('talk() { echo out; echo err >&2; }\nstage 0 a at:"$data" -- talk')
    output = stub.succeed()
    assert "out\nerr\n" in output
    assert (stub.data / "log" / "0-a.log").read_text().endswith("# talk\nout\nerr\n")


def test_stages_see_no_names_of_the_layer(stub: Stub) -> None:
    """Bash functions see the locals of their callers; a recipe's own names must survive."""
    names = (
        "path log name word status line i at fd pid files state title group words marker number before now"
    )
    settings = "\n".join(f"{name}=mine" for name in names.split())
    shows = " ".join(f'"${name}"' for name in names.split())
    stub.write(f"{settings}\nshow() {{ echo {shows}; }}\nstage 0 a -- show")
    assert " ".join(["mine"] * len(names.split())) in stub.succeed()


def test_the_environment_is_made_only_when_something_runs(three: Stub) -> None:
    (three.root / "path.sh").write_text(f'echo made >>"{three.root}/made"\nexport PATH PYTHONPATH=here\n')
    for words in (["--help"], ["--status"], ["--dry-run"]):
        three.succeed(*words)
    three.fail("--stage", "join")
    assert not (three.root / "made").exists()
    three.succeed()
    (three.root / "made").unlink()
    three.succeed()
    assert not (three.root / "made").exists()


def test_a_set_up_that_fails_ends_the_run(three: Stub) -> None:
    (three.root / "path.sh").write_text("echo no network >&2\nreturn 1\n")
    output = three.fail()
    assert "no network" in output
    assert "the environment is not ready (path.sh: status 1), so nothing was run" in output
    assert runs(three) == [0, 0, 0]
    assert not (three.data / ".lock").exists()


def test_status_and_dry_run_touch_nothing(three: Stub) -> None:
    output = three.succeed("--status")
    assert "\n  0 data         missing\n" in output
    assert re.search(r"^  1 split        missing +waits for stage 0 \(data\)$", output, re.M)
    assert output.endswith("0 of 3 stages done; next: 0 (data)\n")
    output = three.succeed("--dry-run")
    assert "stage 0 (data) would run: it has not been done yet\n    stage_data\n" in output
    assert "stage 4 (join) would run once stage 1 has made egs/stub/data/first" in output
    assert [path.name for path in three.recipe.iterdir()] == ["run.sh"]


def test_dry_run_says_why(three: Stub) -> None:
    three.succeed()
    before = snapshot(three.recipe)
    output = three.succeed("--dry-run", "--last", "9", "--stage", "0")
    assert "stage 0 (data) would run, as asked" in output
    assert "stage 1 (split) is done; would run if stage 0 (data) changes egs/stub/data/numbers" in output
    output = three.succeed("--dry-run", "--last", "9")
    assert "stage 0 (data) would run: changed since it was done\n    was: variable last = 5" in output
    assert "stage 0 (data) already done, would be skipped" in three.succeed("--dry-run")
    assert "first removing egs/stub/exp/default/joined" in three.succeed("--dry-run", "--fresh", "join")
    (three.data / "numbers").unlink()
    assert "stage 1 (split) cannot run: needs egs/stub/data/numbers" in three.succeed(
        "--dry-run", "--stage", "1"
    )
    (three.data / "numbers").write_text("1\n2\n3\n4\n5\n")
    assert snapshot(three.recipe) == before


def snapshot(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def test_status_tells_done_stale_and_missing(three: Stub) -> None:
    three.succeed("--stop-stage", "1")
    output = three.succeed("--status", "--last", "6")
    assert re.search(
        r"^  0 data         stale    20[0-9: -]{17} +\d+ s  changed since it was done$", output, re.M
    )
    assert "\n      now: variable last = 6\n" in output
    assert re.search(r"^  1 split        done     20[0-9: -]{17} +\d+ s$", output, re.M)
    assert "\n  4 join         missing\n" in output
    assert re.search(r"^1 of 3 stages done, \d+ s of work; next: 0 \(data\)\n$", output, re.M)


def move(stub: Stub, target: Path) -> Stub:
    """Take the whole checkout elsewhere."""
    target.mkdir()
    former = stub.root.parent
    stub.root.rename(target / stub.root.name)
    for name in ("root", "recipe", "data", "exp"):
        setattr(stub, name, target / getattr(stub, name).relative_to(former))
    return stub


def test_a_moved_checkout_stays_done(three: Stub, tmp_path: Path) -> None:
    three.succeed()
    marker = (three.exp / ".done" / "4-join").read_text().splitlines()
    assert marker[0] == "command stage_join"
    assert "variable data = @data@" in marker
    assert "input @data@/first = sha256 " in "\n".join(marker)
    assert marker[-2] == "output @exp@/joined"
    moved = move(three, tmp_path / "elsewhere")
    assert "nothing to do" in moved.succeed()
    assert runs(moved) == [1, 1, 1]


def test_moved_data_and_experiments_stay_done(three: Stub, tmp_path: Path) -> None:
    three.succeed()
    (tmp_path / "disk").mkdir()
    data, exp = three.data.rename(tmp_path / "disk" / "speech"), tmp_path / "disk" / "runs"
    three.exp.parent.rename(exp)
    where = ("--data-dir", str(data), "--exp-dir", str(exp))
    assert "nothing to do" in three.succeed(*where)
    (data / "first").write_text("1\n3\n")
    shown = three.succeed("--dry-run", *where)
    assert f"    changed: input {data}/first\n" in shown  # where it is now


def test_moved_outputs_that_name_their_folder_are_made_again(stub: Stub, tmp_path: Path) -> None:
    stub.write(
        'list() { echo "{\\"audio_filepath\\": \\"$data/a.flac\\"}" >"$data/list"; }\n'
        'look() { echo "$data/list has it" >"$exp/seen"; }\n'
        'stage 0 list at:"$data" out:"$data/list" -- list\n'
        'stage 1 look in:"$data/list" out:"$exp/seen" -- look'
    )
    stub.succeed()
    assert "nothing to do" in stub.succeed()
    former = stub.data
    moved = move(stub, tmp_path / "elsewhere")
    why = f"its outputs name files in {former}, from where they were moved"
    shown = moved.succeed("--dry-run")
    assert f"stage 0 (list) would run: {why}\n" in shown
    assert "stage 1 (look) is done; would run if stage 0 (list) changes egs/stub/data/list\n" in shown
    assert [(stage.state, stage.detail) for stage in read_stages(moved.exp)] == [("stale", why), ("done", "")]
    moved.succeed()
    assert (moved.data / "list").read_text() == f'{{"audio_filepath": "{moved.data}/a.flac"}}\n'
    assert "nothing to do" in moved.succeed()


def test_outputs_that_name_their_folder_stay_done_where_that_is_reached_by_a_link(
    stub: Stub, tmp_path: Path
) -> None:
    stub.write(
        'list() { echo "$data/a.flac" >"$data/list"; }\nstage 0 list at:"$data" out:"$data/list" -- list'
    )
    stub.succeed()
    (tmp_path / "link").symlink_to(stub.root)
    stub.root = tmp_path / "link"
    assert "nothing to do" in stub.succeed("--data-dir", str(tmp_path / "link/egs/stub/data"))


def test_the_verb_status_finds_the_data_of_experiments_behind_a_link(three: Stub, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (three.recipe / "exp").symlink_to(tmp_path / "disk")
    three.succeed()
    for folder in (three.exp, three.exp.resolve()):
        assert [stage.state for stage in read_stages(folder)] == ["done"] * 3


def test_a_marker_with_full_paths_is_read_and_is_stale_once_moved(three: Stub, tmp_path: Path) -> None:
    """As they were written before the names @exp@, @data@ and @checkout@."""
    data, exp = tmp_path / "data", tmp_path / "exp"
    where = ["--data-dir", str(data), "--exp-dir", str(exp)]
    three.succeed(*where)
    marker = exp / "default" / ".done" / "4-join"
    text = marker.read_text().replace("@data@", str(data)).replace("@exp@", str(exp / "default"))
    marker.write_text("".join(line for line in text.splitlines(True) if not line.startswith("output")))
    assert "nothing to do" in three.succeed(*where)
    where[1] = str(data.rename(tmp_path / "moved"))
    shown = three.succeed("--dry-run", *where)
    assert "stage 1 (split) already done" in shown
    assert "stage 4 (join) would run: changed since it was done" in shown
    assert f"    was: variable data = {data}\n    now: variable data = {tmp_path}/moved\n" in shown


def test_a_name_that_only_begins_like_a_folder_is_left_alone(stub: Stub) -> None:
    stub.write('stage 0 a -- echo "$exp-2/x" "$exp/x" "a$exp/x" "$exp"')
    stub.succeed()
    facts = (stub.exp / ".done" / "0-a").read_text().splitlines()
    assert facts[1:-1] == [
        "command @checkout@/egs/stub/exp/default-2/x",
        "command @exp@/x",
        f"command 'a{stub.exp}/x'",
        "command @exp@",
    ]


def change_input(stub: Stub) -> None:
    (stub.data / "numbers").write_text("7\n")


def change_large_input(stub: Stub) -> None:
    os.utime(stub.recipe / "big", (1, 1))


def change_folder(stub: Stub) -> None:
    (stub.recipe / "in" / "deep" / "file").write_text("longer")


def change_settings(stub: Stub) -> None:
    (stub.root / "conf.yaml").write_text("rate: 16000\n")


def remove_settings(stub: Stub) -> None:
    (stub.root / "conf.yaml").unlink()


def remove_output(stub: Stub) -> None:
    (stub.exp / "joined").unlink()


def empty_input(stub: Stub) -> None:
    (stub.data / "numbers").write_text("")


@pytest.mark.parametrize(
    ("change", "states"),
    [
        (None, ["done", "done"]),
        (change_input, ["done", "stale"]),
        (change_large_input, ["stale", "done"]),
        (change_folder, ["stale", "done"]),
        (change_settings, ["done", "stale"]),
        (remove_settings, ["done", "stale"]),
        (remove_output, ["done", "stale"]),
        (empty_input, ["stale", "stale"]),
    ],
)
def test_the_verb_status_finds_stale_what_the_recipe_does(
    stub: Stub, change: Callable[[Stub], None] | None, states: list[str]
) -> None:
    (stub.recipe / "in" / "deep").mkdir(parents=True)
    for name in ("deep/file", "deep/ü", "other", "deep.txt"):
        (stub.recipe / "in" / name).write_text(name)
    (stub.recipe / "in" / "link").symlink_to("other")
    with (stub.recipe / "big").open("wb") as file:
        file.truncate(65 * 2**20)
    (stub.root / "conf.yaml").write_text("rate: 8000\n")
    stub.write(
        'stage_data() { seq 5 >"$data/numbers"; }\n'
        'stage_join() { cat "$root/conf.yaml" "$data/numbers" >"$exp/joined"; }\n'
        'stage 0 data at:"$data" in:"$recipe/big" in:"$recipe/in" out:"$data/numbers" -- stage_data\n'
        'stage 1 join in:"$data/numbers" out:"$exp/joined" -- stage_join'
    )
    stub.succeed()
    if change:
        change(stub)
    shown = stub.succeed("--status")
    found = read_stages(stub.exp)
    assert re.findall(r"^  \d (?:data|join) +(\w+)", shown, re.M) == states
    assert [stage.state for stage in found] == states
    for words in (words for stage in found for words in (stage.detail, *stage.changes)):
        assert words.replace(f"{stub.root}/", "") in shown


def test_a_run_leaves_its_stages_and_its_call(three: Stub) -> None:
    three.succeed("--stop-stage", "1")
    three.succeed("--last", "6", "--data-dir", "egs/stub/it's")
    left = three.exp / ".done"
    assert (left / ".stages").read_text().splitlines() == [
        "0\tdata\t../../it's\t../../it's/log/0-data.log",
        "1\tsplit\t../../it's\t../../it's/log/1-split.log",
        "4\tjoin\t.\tlog/4-join.log",
    ]
    head, first, _, second = (left / ".command").read_text().splitlines()
    assert re.fullmatch(r"# 20[0-9: -]{17} on \S+ in /.*", head)
    assert head.endswith(f" in {three.root}")
    assert first == "bash egs/stub/run.sh --stop-stage 1"
    assert second == "bash egs/stub/run.sh --last 6 --data-dir 'egs/stub/it'\\''s'"
    three.succeed("--last", "6", "--data-dir", "egs/stub/it's")  # nothing to do
    three.succeed("--status")
    assert len((left / ".command").read_text().splitlines()) == 4


def test_the_checkout_may_be_reached_by_any_path(three: Stub, tmp_path: Path) -> None:
    three.succeed()
    (tmp_path / "other").mkdir()
    for folder, path in (
        (three.recipe, "./run.sh"),
        (three.recipe, "run.sh"),
        (tmp_path / "other", f"{three.recipe}/run.sh"),
    ):
        result = subprocess.run(["bash", path], cwd=folder, capture_output=True, text=True, check=True)
        assert result.stdout.count("already done") == 3
    shutil.rmtree(three.exp)
    result = subprocess.run(
        ["bash", "run.sh", "--exp-dir", "exp"], cwd=three.recipe, capture_output=True, text=True, check=True
    )
    assert "log exp/default/log/4-join.log" in result.stdout


def test_a_skipped_stage_is_cheap(three: Stub) -> None:
    """50 ms a stage is the promise, counted in processor time, which other work does not lengthen.

    Ten times that is allowed here, for slow machines.
    """
    three.succeed()
    before = os.times()
    three.succeed()
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert 0 < spent < 3 * 0.5
