"""The loader: the same batches whatever the workers and the start, errors in one piece, no process left."""

import dataclasses
import multiprocessing
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest
import torch

from nest_ssl.data import ssl_dataset
from nest_ssl.data.loader import SSLDataLoader
from nest_ssl.data.plan import BatchPlan
from nest_ssl.data.ssl_dataset import AudioNoiseDataset, BatchKey
from tests.conftest import CHECKOUT
from tests.data_room.corpora import RATE, make_corpus

DURATIONS = [0.3 + 0.07 * i for i in range(22)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    return make_corpus(folder, DURATIONS), make_corpus(folder, [1.0, 2.5], "noise.jsonl", "n")


class HalfOfAnother:
    """An augmentor that draws: adds another utterance of the batch at half its level."""

    def __call__(self, batch, rng):
        other = rng.randrange(len(batch.audio))
        batch.noisy_audio = batch.audio + batch.noise + 0.5 * batch.audio[other]
        return batch


def make_loader(corpus, workers=0, max_corrupt=0, batch_size=4, **plan):
    dataset = AudioNoiseDataset(corpus[0], RATE, corpus[1], seed=3, max_corrupt=max_corrupt)
    plan = BatchPlan(dataset.lengths(), batch_size=batch_size, seed=3, **plan)
    return SSLDataLoader(dataset, plan, num_workers=workers, batch_augmentor=HalfOfAnother())


def assert_same(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        for field in dataclasses.fields(a):
            x, y = getattr(a, field.name), getattr(b, field.name)
            assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y, field.name


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_bytes(corpus, workers):
    plain, loader = make_loader(corpus), make_loader(corpus, workers)
    for epoch in (0, 1):
        assert_same(list(plain.batches(epoch)), list(loader.batches(epoch)))
    loader.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_start_in_the_middle_gives_the_rest_of_the_epoch(corpus, workers):
    whole = list(make_loader(corpus).batches(2))
    loader = make_loader(corpus, workers)
    for start in (0, 3, len(whole)):
        assert_same(whole[start:], list(loader.batches(2, start)))
    loader.close()


def test_nothing_before_the_start_is_read(corpus, monkeypatch):
    loader = make_loader(corpus)
    read = []
    original = ssl_dataset.read_audio
    monkeypatch.setattr(
        ssl_dataset, "read_audio", lambda path, *rest: (read.append(path.stem), original(path, *rest))[1]
    )
    batch = next(loader.batches(0, 4))
    assert sorted(read) == sorted(batch.utterance_ids)


def test_batches_are_the_plans(corpus):
    loader = make_loader(corpus)
    plan = loader.plan.epoch(1)
    found = [batch.utterance_ids for batch in loader.batches(1)]
    assert found == [[f"u{i:03d}" for i in plan.items(b)] for b in range(len(plan))]
    assert len(found) == loader.num_batches(1) == 6
    seconds = sum(batch.seconds for batch in loader.batches(1))
    assert seconds == pytest.approx(sum(max(d, 1.0) for d in DURATIONS), abs=0.01)


def test_an_abandoned_iteration_does_not_leak_into_the_next(corpus):
    whole = list(make_loader(corpus).batches(1))
    loader = make_loader(corpus, 2)
    abandoned = loader.batches(0)
    next(abandoned)
    assert_same(whole, list(loader.batches(1)))
    with pytest.raises(RuntimeError, match="this one has ended"):
        next(abandoned)
    loader.close()


def test_an_iteration_that_never_began_does_not_end_the_one_that_runs(corpus):
    whole = list(make_loader(corpus).batches(1))
    loader = make_loader(corpus)
    forgotten = loader.batches(0)
    running = loader.batches(1)
    first = next(running)
    with pytest.raises(RuntimeError, match="this one has ended"):
        next(forgotten)
    assert_same(whole, [first, *running])


def test_the_trainers_random_state_is_left_alone(corpus):
    loader = make_loader(corpus, 1)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(loader.batches(0))
    assert torch.equal(torch.get_rng_state(), before)
    loader.close()


@pytest.mark.parametrize("drop", ["close", "delete", "abandon and delete"])
def test_workers_end_with_the_loader(corpus, drop):
    before = set(multiprocessing.active_children())
    loader = make_loader(corpus, 2)
    iterator = loader.batches(0)
    next(iterator)
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    if drop == "close":
        loader.close()
    elif drop == "delete":
        list(iterator)
    del loader, iterator
    for worker in workers:
        worker.join(timeout=240)
        assert worker.exitcode is not None


@pytest.mark.parametrize("workers", [0, 2])
def test_a_workers_error_comes_as_its_message_alone(tmp_path, workers):
    corpus = (make_corpus(tmp_path, [1.0] * 8), None)
    (tmp_path / "audio" / "u005.flac").write_bytes(b"x")
    loader = make_loader(corpus, workers)
    with pytest.raises(ValueError) as raised:
        list(loader.batches(0))
    assert str(raised.value).startswith(f"{tmp_path}/train.jsonl:6: ")
    assert "u005.flac: not readable as audio" in str(raised.value)
    assert "Traceback" not in str(raised.value)
    loader.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_corrupt_utterances_are_counted_once_and_stop_beyond_the_limit(tmp_path, workers, caplog):
    corpus = (make_corpus(tmp_path, [1.0] * 8), None)
    bad = [tmp_path / "audio" / f"u00{i}.flac" for i in (2, 5)]
    bad[0].write_bytes(b"")
    loader = make_loader(corpus, workers, max_corrupt=1)
    for epoch in (0, 1):
        assert sum(len(batch.audio) for batch in loader.batches(epoch)) == 7
    assert list(loader.corrupt) == ["u002"]
    assert caplog.text.count("utterance u002 left out (1 of at most 1)") == 1
    bad[1].write_bytes(b"")
    with pytest.raises(ValueError, match=r"2 utterances cannot be read, more than train_ds\.max_corrupt=1"):
        list(loader.batches(0))
    loader.close()


def killed_worker(started, how=signal.SIGKILL):
    """Kill the one worker that `started` starts, and see it ended."""
    before = set(multiprocessing.active_children())
    iterator = started()
    next(iterator)
    (worker,) = set(multiprocessing.active_children()) - before
    os.kill(worker.pid, how)
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # nothing is raised here, where the signal comes
    return iterator, worker.pid


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGBUS])
def test_a_killed_worker_is_named_where_the_next_batch_is_asked_for(corpus, how):
    loader = make_loader(corpus, 1)
    iterator, pid = killed_worker(lambda: loader.batches(0), how)
    with pytest.raises(RuntimeError, match=rf"a data worker died \(process {pid} was killed by {how.name}\)"):
        next(iterator)
    assert_same(list(loader.batches(0)), list(make_loader(corpus).batches(0)))  # with new workers
    loader.close()


def test_a_worker_that_dies_while_a_batch_is_waited_for_is_named(corpus, monkeypatch):
    read = AudioNoiseDataset.batch

    def batch(self, key, batch_augmentor=None):
        if key.batch > 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(self, key, batch_augmentor)

    monkeypatch.setattr(AudioNoiseDataset, "batch", batch)
    loader = make_loader(corpus, 1)
    with pytest.raises(RuntimeError, match=r"a data worker died \(process \d+ was killed by SIGKILL\)"):
        list(loader.batches(0))
    loader.close()


def test_a_child_that_is_no_worker_ends_without_a_word(corpus):
    seen = []
    before = signal.signal(signal.SIGCHLD, lambda number, frame: seen.append(number))
    try:
        loader = make_loader(corpus, 1)
        next(loader.batches(0))
        subprocess.run([sys.executable, "-c", "raise SystemExit(3)"], check=False)
        assert seen  # the handler that was there before goes on hearing of them
        loader.close()
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_workers_that_fail_to_start_are_nobodys_death(corpus):
    loader = make_loader(corpus, 1)
    loader.start_method = "spawn"
    loader._reader.cannot_be_sent = lambda: None
    with pytest.warns(UserWarning, match="pickle"), pytest.raises((AttributeError, pickle.PicklingError)):
        next(loader.batches(0))
    del loader._reader.cannot_be_sent
    loader.start_method = None
    assert_same(list(loader.batches(0)), list(make_loader(corpus).batches(0)))
    loader.close()


def test_the_handler_of_an_earlier_loader_of_pytorch_raises_nothing(corpus):
    """A program of its own, since PyTorch sets its handler once in a process."""
    program = f"""
import multiprocessing, os, signal
from torch.utils.data import DataLoader
from tests.data_room.test_loader import killed_worker, make_loader
plain = iter(DataLoader([1, 2], num_workers=1))
next(plain)
loader = make_loader(({str(corpus[0])!r}, {str(corpus[1])!r}), 1)
iterator, pid = killed_worker(lambda: loader.batches(0))
try:
    next(iterator)
except RuntimeError as error:
    print("a data worker died" in str(error))
"""
    assert python(program).stdout == "True\n"


@pytest.mark.parametrize("end", ["pass", "list(iterator)"])
def test_a_program_ends_that_never_closed_its_loader(corpus, end):
    """The interpreter waits for its child processes, and these ignore the signal that it sends them."""
    program = f"""
from tests.data_room.test_loader import make_loader
loader = make_loader(({str(corpus[0])!r}, {str(corpus[1])!r}), 2)
iterator = loader.batches(0)
next(iterator)
{end}
"""
    done = python(program)
    assert (done.returncode, done.stderr) == (0, "")


def python(program):
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_the_workers_part_can_be_sent_to_a_fresh_process(corpus):
    loader = make_loader(corpus)
    copy = pickle.loads(pickle.dumps(loader._reader))
    key = BatchKey(1, 2, 0, loader.plan.epoch(1).items(2))
    assert_same([copy[key]], [loader._reader[key]])


def test_little_shared_memory_is_said_beforehand(corpus, monkeypatch, caplog):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    loader = make_loader(corpus, 1)
    next(loader.batches(0))
    loader.close()
    assert "--shm-size" in caplog.text


def test_num_batches_of_batches_by_seconds_is_planned_once(corpus, monkeypatch):
    loader = make_loader(corpus, batch_size=None, batch_duration=5.0)
    counts = [loader.num_batches(epoch) for epoch in range(3)]
    assert counts == [len(loader.plan.epoch(epoch)) for epoch in range(3)]
    monkeypatch.setattr(loader.plan, "epoch", None)
    assert [loader.num_batches(epoch) for epoch in range(3)] == counts


def test_a_start_beyond_the_epoch_is_refused(corpus):
    with pytest.raises(ValueError, match="epoch 0 has 6 batches, so none is number 7"):
        make_loader(corpus).batches(0, 7)


@pytest.mark.slow
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_when_the_main_process_is_killed(corpus, checkout, tmp_path, how, start_method):
    """Also those that are in the middle of a batch, as here: from the second one on none comes to its end."""
    (tmp_path / "killed.py").write_text(
        textwrap.dedent(f"""
        import multiprocessing, os, sys
        from nest_ssl.data.plan import BatchPlan
        from nest_ssl.data.loader import SSLDataLoader
        from nest_ssl.data.ssl_dataset import AudioNoiseDataset

        class Stuck(AudioNoiseDataset):
            def batch(self, key, batch_augmentor=None):
                if key.batch > 0:
                    open(sys.argv[1]).read()
                return super().batch(key, batch_augmentor)

        if __name__ == "__main__":
            dataset = Stuck({str(corpus[0])!r}, {RATE})
            plan = BatchPlan(dataset.lengths(), batch_size=1)
            loader = SSLDataLoader(dataset, plan, num_workers=2, start_method={start_method!r})
            next(loader.batches(0))
            print(*[child.pid for child in multiprocessing.active_children()], flush=True)
            sys.stdin.read()
        """)
    )
    os.mkfifo(tmp_path / "never")  # opening it for reading waits for a writer
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    with subprocess.Popen(
        [sys.executable, tmp_path / "killed.py", tmp_path / "never"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        workers = [int(pid) for pid in process.stdout.readline().split()]
        assert len(workers) == 2
        descriptors = [os.pidfd_open(pid) for pid in workers]
        process.send_signal(how)
        process.wait(timeout=240)
        ended = [select.select([descriptor], [], [], 240)[0] for descriptor in descriptors]
        for descriptor, pid, end in zip(descriptors, workers, ended, strict=True):
            os.close(descriptor)
            if not end:
                os.kill(pid, signal.SIGKILL)
        assert all(ended), "a worker outlived the main process by 240 s"
