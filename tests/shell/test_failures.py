"""A stage that fails: it is noticed, explained, and can be resumed."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from .conftest import Stub


def one(stub: Stub, body: str, options: str = "") -> None:
    stub.write(
        f'work() {{\n{body}\n}}\nstage 0 first at:"$data" -- true\nstage 3 work at:"$data" -- work', options
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("false | cat; true", 1),
        ("false; true", 1),
        ('cat <<<"$(exit 3; true)"; x=$(false; echo y); true', 1),
        ('echo "$no_such_variable"; true', 1),
        ("no_such_command; true", 127),
        ("(exit 7); true", 7),
        ("if true; then false; fi; true", 1),
        ("false & wait; true", 1),
        ("false & wait $!; true", 1),
        ("exit 9", 9),
        ("kill -KILL $BASHPID", 137),
    ],
)
def test_no_failure_inside_a_stage_is_lost(stub: Stub, body: str, status: int) -> None:
    one(stub, body)
    got, output = stub.run()
    assert got == status, output
    assert "stage 3 (work) failed" in output
    assert stub.marker("0-first").exists()
    assert not stub.marker("3-work").exists()
    assert not (stub.data / ".lock").exists()


def test_the_failing_line_of_the_recipe_is_named(stub: Stub) -> None:
    one(stub, "  true\n  grep -q nothing /dev/null\n  true")
    number = (stub.recipe / "run.sh").read_text().splitlines().index("  grep -q nothing /dev/null") + 1
    assert f"run.sh: line {number}: status 1 from: grep -q nothing /dev/null" in stub.fail()


def test_of_a_pipeline_and_of_on_cpu_the_line_of_the_recipe_is_named(stub: Stub) -> None:
    one(stub, "  false | cat")
    assert "from: the pipeline that ends in cat\n" in stub.fail()
    one(stub, '  on_cpu "$data/log/x.log" false')
    number = (stub.recipe / "run.sh").read_text().splitlines().index('  on_cpu "$data/log/x.log" false') + 1
    output = stub.fail()
    assert f"run.sh: line {number}: status 1 from: on_cpu\n" in output
    assert "cmd.sh" not in output


def test_the_tail_has_nothing_of_an_earlier_attempt(stub: Stub) -> None:
    one(stub, '  echo "attempt $nj"; exit 1', "nj=1  # shards")
    stub.fail()
    output = stub.fail("--nj", "2")
    assert output.count("    | ") == 1 and "    | attempt 2\n" in output


def test_a_failure_shows_the_last_25_lines_and_the_command_that_resumes(stub: Stub) -> None:
    one(stub, "  seq -f 'line %g' 100; return 4", "nj=1  # shards\ntitle=x  # words")
    words = ["--nj=2", "--title", "two words", "--stage", "0", "--stop-stage", "work"]
    status, output = stub.run(*words)
    assert status == 4
    report = output[output.index("stage 3 (work) failed") :].splitlines()
    assert report[0] == "stage 3 (work) failed: status 4. The end of egs/stub/data/log/3-work.log:"
    assert report[1:26] == [f"    | line {n}" for n in range(76, 101)]
    resume = report[26].removeprefix("run.sh: to resume: ")
    assert shlex.split(resume) == [
        *("bash", "egs/stub/run.sh", "--nj=2", "--title", "two words", "--stop-stage", "work", "--stage", "3")
    ]
    assert len(report) == 27


def test_the_printed_command_does_resume(stub: Stub) -> None:
    one(stub, '  [ -e "$data/mended" ]')
    output = stub.fail("--force")
    (stub.data / "mended").touch()
    command = output.splitlines()[-1].removeprefix("run.sh: to resume: ")
    result = subprocess.run(
        ["bash", "-c", command], cwd=stub.root, capture_output=True, text=True, check=True
    )
    assert "stage 3 (work) done" in result.stdout
    assert "stage 0" not in result.stdout


def test_status_tells_failed(stub: Stub) -> None:
    one(stub, "  return 6")
    stub.fail()
    output = stub.succeed("--status")
    assert re.search(r"^  3 work         failed   20[0-9: -]{17} +\d+ s  status 6$", output, re.M)
    assert "\n      log egs/stub/data/log/3-work.log\n" in output
    assert "; next: 3 (work)\n" in output


def test_a_kill_hints_at_memory(stub: Stub) -> None:
    stub.write("stage 0 a -- bash -c 'kill -KILL $$'")
    assert "failed: killed by SIGKILL, which is often the machine running out of memory." in stub.fail()


def test_a_failing_shard_is_named_with_its_own_tail_only_once(stub: Stub) -> None:
    stub.write(
        'stage 2 shards at:"$data" -- on_cpu JOB=1:3 "$data/log/shards.JOB.log"'
        " bash -c 'for i in $(seq 40); do echo shard $1 line $i; done; [ $1 != 2 ]' x JOB"
    )
    status, output = stub.run()
    assert status == 1
    head = "run.sh: stage 2 (shards) failed: 1 of 3 shards failed: 2 (status 1). The end of "
    assert f"{head}egs/stub/data/log/shards.2.log:" in output.splitlines()
    assert output.count("    | shard 2 line 40") == 1
    assert output.count("    | ") == 25
    assert "shard 1 line" not in output
    assert "bash egs/stub/run.sh --stage 2" in output.splitlines()[-1]


def test_a_process_left_behind_fails_the_stage(stub: Stub) -> None:
    stub.write('recipe_grace_s=1\nwork() { sleep 1000 & }\nstage 3 work at:"$data" -- work')
    output = stub.fail()
    assert "the command of the stage ended but left processes running" in output
    assert "sleep 1000" in output
    assert not stub.marker("3-work").exists()


def test_a_failed_stage_leaves_no_old_marker(stub: Stub) -> None:
    one(stub, '  [ ! -e "$data/broken" ]')
    stub.succeed()
    (stub.data / "broken").touch()
    stub.fail("--stage", "work")
    assert not stub.marker("3-work").exists()


def test_an_error_between_the_stages_is_not_silent(stub: Stub) -> None:
    stub.write("stage 0 a -- true\nfalse")
    status, output = stub.run()
    assert status == 1
    assert "stopped with status 1 outside of any stage" in output


def test_a_folder_that_cannot_be_written_is_named(stub: Stub) -> None:
    one(stub, "  true")
    stub.data.write_text("a file in the way")
    assert "cannot make folders in" in stub.fail()


def test_a_full_disk_leaves_no_marker(stub: Stub) -> None:
    one(stub, "  true")
    (stub.data / ".done").mkdir(parents=True)
    (stub.data / ".done" / "3-work.new").symlink_to("/dev/full")
    assert "cannot write" in stub.fail()
    assert not stub.marker("3-work").exists()
