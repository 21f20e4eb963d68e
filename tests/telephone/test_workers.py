"""Worker processes: every unit done once whatever dies, and nothing left running."""

import faulthandler
import multiprocessing
import os
import signal
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from nest_ssl.telephone.workers import limit_blas_threads, run_tasks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the deaths below are of forked processes")


class Work:
    """Squares numbers; `deaths`: number -> how often it kills its worker first, counted in `folder`."""

    def __init__(self, folder: Path, deaths: dict[int, int] | None = None, raises: int | None = None):
        self.folder, self.deaths, self.raises = folder, deaths or {}, raises

    def start(self):
        return self.square

    def square(self, unit):
        (number,) = unit
        with open(self.folder / str(number), "a") as file:
            file.write("x")
        tries = (self.folder / str(number)).stat().st_size
        if tries <= self.deaths.get(number, 0):
            faulthandler.disable()  # which pytest has switched on
            os.kill(os.getpid(), signal.SIGSEGV)
        if number == self.raises:
            raise OSError(28, "No space left on device", "x")
        return str(number**2).encode()


def tasks(count, size):
    units = [(number,) for number in range(count)]
    return iter([units[start : start + size] for start in range(0, count, size)])


@pytest.mark.parametrize("workers", [1, 3])
def test_every_unit_is_done_once(tmp_path, workers):
    reports = list(run_tasks(Work(tmp_path), tasks(50, 7), workers))
    assert sorted(report.unit for report in reports) == [(number,) for number in range(50)]
    assert all(report.result == str(report.unit[0] ** 2).encode() for report in reports)
    assert all(path.stat().st_size == 1 for path in tmp_path.iterdir())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_death_costs_the_unit_a_second_try_alone_and_the_others_nothing(tmp_path, workers):
    work = Work(tmp_path, deaths={3: 1, 4: 99, 20: 99})
    reports = {report.unit[0]: report for report in run_tasks(work, tasks(30, 6), workers)}
    assert sorted(reports) == list(range(30))
    dead = {number: report.death for number, report in reports.items() if report.result is None}
    assert dead.keys() == {4, 20}
    assert "SIGSEGV" in dead[4]
    assert reports[3].result == b"9"
    tries = {int(path.name): path.stat().st_size for path in tmp_path.iterdir()}
    assert {number for number, count in tries.items() if count > 1} == {3, 4, 20}


def test_an_exception_ends_all_and_is_raised_here(tmp_path):
    with pytest.raises(OSError, match="No space left") as caught:
        list(run_tasks(Work(tmp_path, raises=9), tasks(30, 3), 2))
    assert caught.value.errno == 28
    assert multiprocessing.active_children() == []


def test_a_reader_that_stops_leaves_no_process(tmp_path):
    with closing(run_tasks(Work(tmp_path), tasks(300, 3), 3)) as reports:
        next(reports)
        assert multiprocessing.active_children()
    assert multiprocessing.active_children() == []


class Stillborn:
    def start(self):
        os.kill(os.getpid(), signal.SIGKILL)


def test_workers_that_die_before_they_are_ready_are_not_started_for_ever():
    with pytest.raises(ChildProcessError, match=r"before they are ready: .*SIGKILL"):
        list(run_tasks(Stillborn(), tasks(100, 3), 2))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc")
def test_a_worker_multiplies_matrices_with_one_thread():
    class Multiply:
        def start(self):
            return self.threads

        def threads(self, unit):
            product = np.ones((400, 400)) @ np.ones((400, 400))
            assert product[0, 0] == 400
            return str(len(list(Path("/proc/self/task").iterdir()))).encode()

    [report] = run_tasks(Multiply(), iter([[(0,)]]), 1)
    assert report.result == b"1"


def test_limiting_threads_changes_no_result():
    a = np.random.default_rng(0).normal(size=(50, 50))
    expected = [[float(sum(x * y for x, y in zip(row, column, strict=True))) for column in a.T] for row in a]
    environment = dict(os.environ)
    limit_blas_threads()
    os.environ.clear()
    os.environ.update(environment)
    np.testing.assert_allclose(a @ a, expected)
