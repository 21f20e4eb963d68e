"""One writer per folder."""

from __future__ import annotations

import os
import re
import socket

from .conftest import Stub, wait_until

BLOCK = r"""
prepare() { echo x >"$data/list"; }
train() {
  mkdir -p "$exp/train"
  echo "$BASHPID" >"$data/pid.$tag"
  until [ -e "$data/go" ]; do sleep 0.01; done
  echo x >"$exp/train/model"
}
stage 0 prepare at:"$data" out:"$data/list" -- prepare
stage 1 train in:"$data/list" out:"$exp/train/model" -- train
"""


def test_a_second_run_on_the_same_folder_is_refused_and_told_why(stub: Stub) -> None:
    stub.write(BLOCK)
    process = stub.start()
    stub.pid("pid.default")
    status, output = stub.run()
    assert status == 1
    holder = f"pid {process.pid} on {socket.gethostname()}, since 20"
    assert f"egs/stub/exp/default is in use by another run: {holder}" in output
    assert f"at stage 1 (train). Wait for it, stop it with: kill {process.pid}" in output
    (stub.data / "go").touch()
    status, output = stub.finish(process)
    assert status == 0, output
    assert "nothing to do" in stub.succeed()


def test_another_tag_may_run_beside_it_but_not_change_its_data(stub: Stub) -> None:
    stub.write(BLOCK)
    first = stub.start()
    stub.pid("pid.default")
    assert "egs/stub/data is in use by another run" in stub.fail("--tag", "b", "--stage", "0")
    second = stub.start("--tag", "b")
    stub.pid("pid.b")
    (stub.data / "go").touch()
    for process in (first, second):
        status, output = stub.finish(process)
        assert status == 0, output


def test_status_shows_the_running_step(stub: Stub) -> None:
    stub.write(BLOCK)
    process = stub.start()
    stub.pid("pid.default")
    shown = stub.succeed("--status")
    assert re.search(
        rf"^  1 train        running  since \d\d-\d\d [0-9:]+ +\d+ s  pid {process.pid} on ", shown, re.M
    )
    assert shown.endswith("s of work; running: 1 (train)\n")
    (stub.exp / "train" / "train.log").write_text(
        "2026-11-21 19:37:00 step 2300/500000 epoch 3 loss 5.3 lr 1e-3 eta 02:12:50\n"
        "2026-11-21 19:38:00 validation step 2300/500000 epoch 3 val_loss 4.9000 val_acc 0.5 seconds 3\n"
        "2026-11-21 19:39:01 validation step 2400/500000 epoch 3 val_loss 5.1000 val_acc 0.5 seconds 3\n"
        "2026-11-21 19:40:01 step 2500/500000 epoch 3 batch 412/980 loss 5.1234 lr 1.2e-03 eta 02:11:40\n"
    )
    output = stub.succeed("--status")
    figures = "loss 5.1234  val_loss 5.1000 (best 4.9000)  eta 02:11:40"
    assert f"\n      train  step 2500/500000  0 %  {figures}\n" in output
    assert max(map(len, output.splitlines())) <= 100 and "\033" not in output
    (stub.data / "go").touch()
    stub.finish(process)
    assert " 1 train        done     20" in stub.succeed("--status")


def test_status_counts_the_shards_of_the_running_stage(stub: Stub) -> None:
    """Shard 1 is done, 2 and 3 wait in the middle of their work, 4 has not begun."""
    line = "2026-11-21 19:40:01 INFO decode shard $1/4 utterances $10/200 (5.0 %) audio_s/s 9 eta 0:0$1:00"
    hold = '[ "$1" = 1 ] || until [ -e "$2/go" ]; do sleep 0.01; done'
    stub.write(
        f'work() {{ echo "{line}"; echo $$ >"$2/pid.$1"; {hold}; }}\nexport -f work\n'
        'stage 0 a at:"$data" -- on_cpu --max-jobs-run 2 JOB=1:4 "$data/log/a.JOB.log" '
        'bash -c \'work "$@"\' x JOB "$data"'
    )
    process = stub.start()
    for number in (1, 2, 3):
        stub.pid(f"pid.{number}")
    expected = "\n      shards 1 of 4 done, 2 running; these at utterances 50 of 400, eta 0:03:00\n"
    wait_until(lambda: expected in stub.succeed("--status"), "the status to count the shards")
    (stub.data / "go").touch()
    status, output = stub.finish(process)
    assert status == 0, output


def test_the_lock_is_freed_even_if_a_daemon_of_a_stage_fled(stub: Stub) -> None:
    """Descriptors are inherited; a process that hid from the layer must not hold the folder for ever."""
    stub.write(
        'flee() { env -i "$(type -P setsid)" -f sleep 30 >/dev/null 2>&1; }\nstage 0 a at:"$data" -- flee'
    )
    stub.succeed()
    stub.succeed("--force")


def test_a_silent_run_on_another_machine_is_doubted(stub: Stub) -> None:
    stub.write(BLOCK)
    (stub.data / "log").mkdir(parents=True)
    log = stub.data / "log" / "0-prepare.log"
    log.write_text("a line")
    (stub.data / ".lock").write_text(
        "pid 1\nhost other\nsince x\nstart 1\nrun x.1.1\nstage stage 0 (prepare)\n"
    )
    assert re.search(r"^  0 prepare      running .* pid 1 on other$", stub.succeed("--status"), re.M)
    os.utime(log, (log.stat().st_mtime - 3600,) * 2)
    assert "pid 1 on other; no line in its log for 60 min: was it killed?\n" in stub.succeed("--status")


def test_a_lock_from_another_life_is_no_obstacle(stub: Stub) -> None:
    """A machine that lost power leaves the file, but no process and no kernel lock."""
    stub.write(BLOCK)
    (stub.data / "go").parent.mkdir()
    (stub.data / "go").touch()
    (stub.data / ".lock").write_text(
        f"pid 1\nhost {socket.gethostname()}\nsince 2026-01-01 00:00:00\nstart 1\nrun x.1.1\n"
        "stage stage 0 (prepare)\n"
    )
    assert "missing" in stub.succeed("--status")
    assert (
        "run 1 (since 2026-01-01 00:00:00) was killed at stage 0 (prepare); going on from there"
        in stub.succeed()
    )


def test_two_runs_started_together_never_write_together(stub: Stub) -> None:
    stub.write(
        'once() { mkdir "$data/alone"; until [ -e "$data/go" ]; do sleep 0.01; done; rmdir "$data/alone"; }\n'
        'stage 0 a at:"$data" -- once'
    )
    both = [stub.start("--force") for _ in range(4)]
    wait_until(
        lambda: sum(process.poll() is not None for process in both) == 3, "three of four to be refused"
    )
    (stub.data / "go").touch()
    ended = [stub.finish(process) for process in both]
    assert sorted(status for status, _ in ended) == [0, 1, 1, 1], ended
