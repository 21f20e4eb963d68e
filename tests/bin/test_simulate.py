"""The verb simulate as a process: stopped, killed, and given files that end the process that reads them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from nest_ssl.bin import simulate
from nest_ssl.bin.progress import CorpusProgress
from nest_ssl.files.manifest import read_rows, write_rows
from tests.telephone.programs import held

ROOT = Path(simulate.__file__).resolve().parents[2]


@pytest.fixture
def noises(tmp_path) -> Path:
    """A manifest of 40 files of a second."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(40):
        soundfile.write(tmp_path / f"{number}.wav", rng.normal(0, 0.05, 16000), 16000)
        rows.append({"audio_filepath": f"{number}.wav", "id": f"u{number}", "duration": 1.0})
    write_rows(tmp_path / "in.jsonl", rows)
    return tmp_path / "in.jsonl"


def words(manifest, *more):
    out = str(manifest.parent / "out")
    return ["--manifest", str(manifest), "--out", out, "--seed", "1", "--preset", "pstn_g711a", *more]


def start(manifest, *more, **options):
    command = [sys.executable, "-m", "nest_ssl.bin.simulate", *words(manifest, *more)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, **options)


def done(manifest):
    return sum(
        path.read_bytes().count(b"\n")
        for path in (manifest.parent / "out" / "records").glob("*/1-of-1.jsonl")
    )


def wait_for_lines(process, manifest, lines):
    while process.poll() is None and done(manifest) < lines:
        time.sleep(0.002)
    assert process.poll() is None, process.stderr.read()


def alive(group):
    """Processes of a group that are no zombies."""
    found = subprocess.run(["ps", "-eo", "pgid,stat"], capture_output=True, text=True, check=True).stdout
    return [
        line for line in found.splitlines() if line.split()[0] == str(group) and "Z" not in line.split()[1]
    ]


def test_ctrl_c_leaves_no_process_and_the_next_run_ends_it(noises):
    with held(noises.parent / "39.wav"):
        process = start(noises, "--workers", "2", start_new_session=True)
        wait_for_lines(process, noises, 3)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        _, said = process.communicate(timeout=240)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted"
    assert "Traceback" not in said
    assert alive(process.pid) == []
    assert not list((noises.parent / "out" / "records").glob("unfinished*"))
    assert simulate.main(words(noises)) == 0
    assert len(list(read_rows(noises.with_name("out.jsonl")))) == 40


def test_workers_end_when_the_run_is_killed(noises):
    with held(noises.parent / "39.wav"):
        process = start(noises, "--workers", "2", start_new_session=True)
        wait_for_lines(process, noises, 1)
        process.kill()
        process.wait()
    deadline = time.monotonic() + 240
    while alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert alive(process.pid) == []


class Deadly:
    """Stands in for the channel: some utterances kill the process, as a fault in a codec's library would."""

    def __init__(self, real, victims):
        self.real, self.victims = real, victims

    def __call__(self, mix, bank, seed, utterance, key, copy):
        if utterance in self.victims:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.real(mix, bank, seed, utterance, key, copy)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers must inherit the stand-in")
def test_an_utterance_that_kills_its_worker_is_an_error_and_the_others_are_done(noises, monkeypatch):
    from nest_ssl.telephone import corpus

    with monkeypatch.context() as patch:
        patch.setattr(corpus, "draw_channel", Deadly(corpus.draw_channel, ("u7", "u31")))
        assert simulate.main(words(noises, "--workers", "2", "--max-error-rate", "0.1")) == 0
    errors = [row for _, row in read_rows(noises.with_name("out.errors.jsonl"))]
    assert [(row["id"], row["kind"]) for row in errors] == [("u7", "died"), ("u31", "died")]
    assert "SIGKILL (out of memory?)" in errors[0]["error"]
    assert len(list(read_rows(noises.with_name("out.jsonl")))) == 38
    before = (noises.parent / "out" / "copy0" / "u8.flac").stat().st_mtime_ns
    assert simulate.main(words(noises)) == 0  # the library is mended
    assert len(list(read_rows(noises.with_name("out.jsonl")))) == 40
    assert (noises.parent / "out" / "copy0" / "u8.flac").stat().st_mtime_ns == before


def test_a_second_run_beside_the_first_is_refused(noises):
    from nest_ssl.telephone.records import RecordFile

    with RecordFile(noises.parent / "records" / "1-of-1.jsonl"):
        program = (
            "import sys; from pathlib import Path; from nest_ssl.telephone.records import RecordFile\n"
            "RecordFile(Path(sys.argv[1]))"
        )
        path = noises.parent / "records" / "1-of-1.jsonl"
        found = subprocess.run(
            [sys.executable, "-c", program, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert "is being written by another process" in found.stderr


def test_errors_are_counted_by_kind(noises, caplog):
    folder = noises.parent
    (folder / "0.wav").unlink()
    (folder / "1.wav").write_bytes(b"")
    (folder / "2.wav").write_bytes(b"not audio at all")
    soundfile.write(folder / "3.wav", np.full(8000, np.nan), 16000, subtype="FLOAT")
    soundfile.write(folder / "4.wav", np.zeros((8000, 2)), 16000)
    soundfile.write(folder / "5.wav", np.zeros(8000), 1000)
    assert simulate.main(words(noises, "--max-error-rate", "0.5")) == 0
    kinds = {row["id"]: row["kind"] for _, row in read_rows(noises.with_name("out.errors.jsonl"))}
    expected = ("missing", "empty", "unreadable", "not_finite", "channels", "sample_rate")
    assert kinds == {f"u{number}": kind for number, kind in enumerate(expected)}
    assert "channels 1 empty 1 missing 1 not_finite 1 sample_rate 1 unreadable 1" in caplog.text


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers must inherit the stand-in")
def test_a_fault_of_ours_is_counted_with_its_place(noises, monkeypatch):
    from nest_ssl.telephone import corpus

    real = corpus.draw_channel

    def faulty(mix, bank, seed, utterance, key, copy):
        return real(mix, bank, seed, utterance, key, copy) if utterance != "u7" else {}["absent"]

    monkeypatch.setattr(corpus, "draw_channel", faulty)
    assert simulate.main(words(noises, "--max-error-rate", "0.1")) == 0
    [(_, row)] = read_rows(noises.with_name("out.errors.jsonl"))
    assert row["kind"] == "fault"
    assert "KeyError: 'absent' (test_simulate.py:" in row["error"]


def test_large_folders_are_split_and_small_ones_stay(noises, monkeypatch):
    monkeypatch.setattr("nest_ssl.telephone.row_table.FILES_IN_A_FOLDER", 8)
    rows = [row for _, row in read_rows(noises)]
    rows[:5] = [row | {"id": f"speaker/{row['id']}"} for row in rows[:5]]
    write_rows(noises, rows)
    assert simulate.main(words(noises)) == 0
    made = [row for _, row in read_rows(noises.with_name("out.jsonl"))]
    assert made[0]["audio_filepath"] == "out/copy0/speaker/u0.flac"
    folders = [Path(row["audio_filepath"]).parent for row in made[5:]]
    assert all(folder.parent == Path("out/copy0") for folder in folders)
    assert max(folders.count(folder) for folder in folders) <= 8
    assert all((noises.parent / row["audio_filepath"]).is_file() for row in made)


def test_wav_is_written_when_asked_for(noises):
    assert simulate.main(words(noises, "--format", "wav", "--out-rate", "8000")) == 0
    for _, row in read_rows(noises.with_name("out.jsonl")):
        info = soundfile.info(noises.parent / row["audio_filepath"])
        assert (info.format, info.subtype, info.samplerate, info.frames) == ("WAV", "PCM_16", 8000, 8000)


def test_a_row_can_be_replayed_from_the_manifest(noises):
    from nest_ssl.files.audio import read_audio
    from nest_ssl.telephone.chain import apply_channel
    from nest_ssl.telephone.noise import NoiseBank

    assert simulate.main([*words(noises), "channel.noise.probability=0"]) == 0
    for _, row in list(read_rows(noises.with_name("out.jsonl")))[:5]:
        samples, rate = read_audio(noises.parent / f"{row['source_id'][1:]}.wav")
        again, _ = apply_channel(samples, rate, json.loads(json.dumps(row["channel"])), NoiseBank(), 16000)
        written, _ = soundfile.read(noises.parent / row["audio_filepath"], dtype="int16")
        np.testing.assert_array_equal(again, written)


def test_rows_with_babble_and_recordings_can_be_replayed(noises, monkeypatch):
    from nest_ssl import telephone
    from nest_ssl.files.audio import read_audio

    monkeypatch.setattr("nest_ssl.telephone.noise.FEWEST_VOICES", 1)
    kinds = ["channel.noise.probability=1.0", "channel.noise.kinds={babble: 0.5, music: 0.5}"]
    music = noises.with_name("music")
    music.mkdir()
    soundfile.write(music / "a.wav", np.random.default_rng(0).normal(0, 0.1, 20000), 11025)
    assert simulate.main([*words(noises), *kinds, "--noise-manifest", f"music={music}"]) == 0
    out = noises.with_name("out")
    bank = telephone.noise_bank(noises, {"music": out / "recordings" / "music.jsonl"})
    channel = telephone.preset("clean_8k", bank=bank)
    seen = set()
    for _, row in read_rows(noises.with_name("out.jsonl")):
        samples, rate = read_audio(noises.parent / f"{row['source_id'][1:]}.wav")
        again = channel.replay(samples, row["channel"], sr=rate, out_sr=16000)
        written, _ = soundfile.read(noises.parent / row["audio_filepath"], dtype="int16")
        np.testing.assert_array_equal(again, written)
        seen.add((row["channel"]["noise"] or {}).get("kind"))
    assert {"babble", "music"} <= seen


def test_progress_tells_rate_and_time_left(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    caplog.set_level("INFO")
    progress = CorpusProgress(1000, "simulate", None)
    now[0] = 30.0
    progress.advance(400, 0.0)  # by an earlier run
    for second in range(31, 92):
        now[0] = float(second)
        progress.advance(1, 200.0)
    [line] = caplog.messages
    assert line == "simulate utterances 430/1000 (43.0 %) audio_s/s 200 eta 0:09:30"
