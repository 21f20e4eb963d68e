"""Options of a recipe: one source for parsing and for --help, and mistakes that are named."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from .conftest import Stub

OPTIONS = """# options
tag=small            # name of the experiment
max_steps=400        # steps of the optimiser
title="a b"          # words, with # a hash
deb_dir=             # folder of .deb files
# how loud it is,
# in decibels
level_db=-26
quick=false          # true or false
"""
SHOW = """show() {
  printf '<%s>\\n' "$tag" "$max_steps" "$title" "$deb_dir" "$level_db" "$quick" >"$data/shown"
}
stage 0 show at:"$data" out:"$data/shown" -- show"""


@pytest.fixture
def shown(stub: Stub) -> Stub:
    stub.write(SHOW, OPTIONS)
    return stub


def values(stub: Stub, *options: str) -> list[str]:
    stub.succeed(*options)
    return [line[1:-1] for line in (stub.data / "shown").read_text().splitlines()]


def test_without_options_the_defaults_hold(shown: Stub) -> None:
    assert values(shown) == ["small", "400", "a b", "", "-26", "false"]


def test_values_come_after_a_space_or_an_equals_sign(shown: Stub) -> None:
    words = [
        "--tag",
        "x y",
        "--max-steps=7",
        "--title=one = two",
        "--deb-dir",
        "",
        "--level_db",
        "-3",
        "--quick",
        "true",
    ]
    assert values(shown, *words) == ["x y", "7", "one = two", "", "-3", "true"]


def test_quotes_and_expansions_in_a_value_stay_text(shown: Stub) -> None:
    text = "$(touch bad) `touch bad` \"'\\ *"
    assert values(shown, "--title", text)[2] == text
    assert not (shown.root / "bad").exists()


def test_environment_never_changes_an_option(shown: Stub) -> None:
    status, output = shown.run(
        tag="other", max_steps="1", quick="true", stage="9", exp="/nowhere", force="true"
    )
    assert status == 0, output
    assert (shown.data / "shown").read_text().split("\n")[:2] == ["<small>", "<400>"]


def test_help_prints_header_options_defaults_and_stages_and_touches_nothing(shown: Stub) -> None:
    output = shown.succeed("--help")
    assert output.startswith("Usage: bash egs/stub/run.sh [options]\n\nA stub recipe.\n")
    for line in (
        "--max-steps VALUE      steps of the optimiser [400]",
        "--title VALUE          words, with # a hash [a b]",
        "--deb-dir VALUE        folder of .deb files\n",
        "--level-db VALUE       how loud it is, in decibels [-26]",
        "--tag VALUE            name of the experiment [small]",
        "Stages: 0 show",
    ):
        assert line in output
    assert shown.succeed("-h") == output
    assert "--help-all prints 2 more options" in output and "--cmd FILE" not in output
    assert [path.name for path in shown.recipe.iterdir()] == ["run.sh"]


def test_options_below_a_comment_of_help_all_are_left_out_of_help_alone(stub: Stub) -> None:
    stub.write(SHOW, OPTIONS.replace("title=", "# --help-all shows these as well\ntitle="))
    output = stub.succeed("--help")
    assert "--max-steps VALUE" in output and "--help-all prints 6 more options" in output
    rare = ("--title VALUE", "--deb-dir VALUE", "--level-db VALUE", "--quick VALUE", "--fresh", "--cmd")
    assert not [option for option in rare if option in output]
    everything = stub.succeed("--help-all")
    assert not [option for option in rare if option not in everything]
    assert "--title VALUE          words, with # a hash [a b]" in everything
    assert set(output.splitlines()) - set(everything.splitlines()) == {
        "  -h, --help             print this; --help-all prints 6 more options"
    }
    assert values(stub, "--title", "x")[2] == "x"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-step", "3"], "unknown option --max-step; did you mean --max-steps?"),
        (["--tilte", "x"], "unknown option --tilte; did you mean --title?"),
        (["--dryrun"], "unknown option --dryrun; did you mean --dry-run?"),
        (["--zzz", "x"], "unknown option --zzz; --help lists the options"),
        (["--max-steps"], "--max-steps needs a value"),
        (["--title", "--quick", "true"], "--title needs a value"),
        (["--stage="], "--stage needs a value"),
        (["--quick", "yes"], "--quick is true or false, not 'yes'"),
        (["--force=true"], "--force takes no value"),
        (["--help-al"], "unknown option --help-al; did you mean --help-all?"),
        (["data"], "unexpected argument 'data'"),
        (["--"], "unexpected argument '--'"),
        (["-x"], "unexpected argument '-x'"),
        (["--tag", "a/b"], "--tag 'a/b' cannot name a folder"),
        (["--tag="], "--tag '' cannot name a folder"),
        (["--cmd", "nothing.sh"], "--cmd nothing.sh: no such file"),
        (
            ["--stage", "shaw"],
            "--stage shaw: there is no such stage (did you mean show?); the stages are 0 show",
        ),
        (["--stop-stage", "7"], "--stop-stage 7: there is no such stage; the stages are 0 show"),
        (["--fresh", "3"], "--fresh 3: there is no such stage"),
    ],
)
def test_a_mistake_is_named_and_nothing_runs(shown: Stub, words: list[str], message: str) -> None:
    status, output = shown.run(*words)
    assert status == 2
    assert message in output
    assert len(output.splitlines()) == 1
    assert not shown.data.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("nj=2", "run.sh:8: an assignment above parse_options is an option and needs a comment"),
        (
            "tag=a  # name\nexp_name=x_$tag  # computed",
            "'exp_name' is computed from 'tag' before options are parsed",
        ),
        ("nj=${NJ:-2}  # shards", "the default of 'nj' comes from the environment"),
        ("stage=0  # where to start", "the name 'stage' belongs to the recipe layer"),
        ("nj=1  # one\nnj=2  # two", "option 'nj' is declared twice"),
    ],
)
def test_a_declaration_that_would_surprise_is_refused(stub: Stub, options: str, message: str) -> None:
    stub.write("stage 0 show -- true", options)
    status, output = stub.run()
    assert status == 2
    assert message in output


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("stage 1 b -- true\nstage 0 a -- true", "stages are declared in rising order"),
        ("stage 0 a -- true\nstage 1 a -- true", "there is another stage of that name"),
        ("stage 0 a true", "'true' is none of at:FOLDER, in:PATH, out:PATH"),
        ("stage 0 a in: -- true", "'in:' names no path"),
        ("stage 0 a --", "no command after --"),
        ("stage zero a -- true", "the form is: stage NUMBER NAME"),
    ],
)
def test_a_stage_that_is_declared_wrongly_is_refused(stub: Stub, stages: str, message: str) -> None:
    stub.write(stages)
    status, output = stub.run()
    assert status == 2
    assert message in output


def test_a_recipe_refuses_a_call_in_one_line(stub: Stub) -> None:
    checks = "one_of my_mode joint llm ctc\nnumbers share most\n"
    checks += '[ "$nj" -gt 0 ] || usage_error "--nj $nj: at least 1"\n'
    options = "nj=2  # number\nmy_mode=llm  # of decoding\nshare=0.5  # of it\nmost=  # of them"
    stub.write(checks + "stage 0 a -- true", options)
    assert stub.run("--nj", "0") == (2, "run.sh: --nj 0: at least 1\n")
    assert stub.run("--my-mode", "a b") == (2, "run.sh: --my-mode a b: joint, llm or ctc\n")
    assert stub.run("--my-mode", "")[0] == 2
    for words in ("two", "1 2", "1.2.3", "--", "2x", "-", "e5", ""):
        assert stub.run(f"--share={words}") == (2, f"run.sh: --share is a number, not '{words}'\n")
    for number in ("-1", ".5", "2.", "1e-3"):
        stub.succeed(f"--share={number}")
    stub.succeed("--most", "")
    assert "--most is a number" in stub.fail("--most", "all")
    stub.succeed("--my-mode", "ctc")


def test_the_data_folder_can_be_moved(shown: Stub, tmp_path: Path) -> None:
    shown.succeed("--data-dir", str(tmp_path / "my data"))
    assert (tmp_path / "my data" / "shown").exists()
    assert not shown.data.exists()


def test_a_recipe_that_never_calls_run_stages_is_an_error(stub: Stub) -> None:
    stub.write("stage 0 a -- true", end="")
    status, output = stub.run()
    assert status == 1
    assert "never calls run_stages, so nothing was run" in output


def test_run_stages_inside_a_condition_is_refused(stub: Stub) -> None:
    stub.write("stage 0 a -- false", end="if run_stages; then echo fine; fi\n")
    status, output = stub.run()
    assert status == 2
    assert "run_stages must stand on a line of its own" in output


def test_cmd_replaces_how_commands_run(stub: Stub) -> None:
    cmd = 'on_cpu() { shift 2; echo mine >"$data/how"; "$@"; }\non_gpu() { on_cpu "$@"; }\n'
    (stub.root / "my cmd.sh").write_text(cmd)
    stub.write('stage 0 a at:"$data" out:"$data/how" -- on_cpu JOB=1:2 log true')
    stub.succeed("--cmd", "my cmd.sh")
    assert (stub.data / "how").read_text() == "mine\n"
    (stub.root / "my cmd.sh").write_text("on_cpu() { :; }\n")
    assert "does not define on_gpu" in stub.fail("--cmd", "my cmd.sh", "--force")


def test_an_old_bash_is_refused_in_words(checkout: Path) -> None:
    text = (checkout / "utils" / "recipe.sh").read_text().replace("BASH_VERSINFO", "VERSION")
    result = subprocess.run(
        ["bash", "-c", f"VERSION=(4 3)\n{text}"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "needs bash 4.4 or newer" in result.stderr


MADE_FROM_STEPS = """make() { echo "$max_steps" >"$exp/made"; }
stage 0 make out:"$exp/made" -- make"""


def stub_run_with(stub: Stub, *options: str) -> None:
    stub.write(MADE_FROM_STEPS, "tag=default  # name\nmax_steps=400  # steps\ntitle=  # words")
    stub.succeed(*options)


def test_status_without_options_is_about_those_of_the_last_run(stub: Stub) -> None:
    stub_run_with(stub, "--max-steps", "7", "--title=it's 'a b' \\ c", "--stage", "0", "--force")
    shown = stub.succeed("--status")
    assert re.search(r"^  0 make         done ", shown, re.M)
    assert "\nfor  the options of the last run, as none are given: --max-steps 7 --title " in shown
    assert r"'it'\''s '\''a b'\'' \ c'" in shown
    shown = stub.succeed("--status", "--tag", "other")
    assert " missing" in shown and "for  " not in shown


def test_status_with_options_is_about_these_and_names_the_last_ones(stub: Stub) -> None:
    stub_run_with(stub, "--max-steps", "7")
    shown = stub.succeed("--status", "--max-steps", "400")
    assert "\nfor  the options given now; the last run had --max-steps 7\n" in shown
    assert "stale" in shown and "now: variable max_steps = 400" in shown
    assert "for  " not in stub.succeed("--status", "--max-steps", "7")


def test_status_finds_the_data_of_the_last_run(stub: Stub) -> None:
    stub.write(
        'stage 0 make at:"$data" out:"$data/made" -- touch_it',
        'tag=default  # name\ntouch_it() { echo >"$data/made"; }',
    )
    stub.succeed("--data-dir", "else where")
    assert "data else where\n" in stub.succeed("--status")
    assert "  0 make         done " in stub.succeed("--status")
    assert "data other\n" in stub.succeed("--status", "--data-dir", "other")


def test_status_does_without_a_last_call_that_it_cannot_read(stub: Stub) -> None:
    stub_run_with(stub, "--title", "x")
    stub.write(MADE_FROM_STEPS, "tag=default  # name\nmax_steps=400  # steps")  # --title is gone
    shown = stub.succeed("--status")
    assert "  0 make         done " in shown and "for  " not in shown


def test_help_is_folded_to_the_screen(stub: Stub) -> None:
    stub.write("stage 0 make -- true", f"tag=default  # {'name of it ' * 20}\nx=1  # {'y' * 120}")
    lines = stub.succeed("--help").splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("  --tag VALUE  "))
    assert lines[at + 1][:25] == " " * 25 != lines[at + 1]
    assert [line for line in lines if len(line) > 100] == [f"  --x VALUE              {'y' * 120}"]


@pytest.mark.parametrize("option", ["--status", "--help", "--dry-run"])
def test_what_is_read_in_part_ends_quietly(shown: Stub, option: str) -> None:
    command = ["bash", "-c", f"bash egs/stub/run.sh {option} | true; echo ${{PIPESTATUS[0]}}"]
    done = subprocess.run(command, cwd=shown.root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("141", "0") and not done.stderr  # 0 if all of it fitted into the pipe
