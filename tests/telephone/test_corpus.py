"""The corpus driver: the same bytes whatever happens on the way, and every utterance accounted for."""

import errno
import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from nest_ssl.bin import simulate
from nest_ssl.files.audio import audio_info, read_audio, write_audio
from nest_ssl.files.manifest import read_rows, write_rows
from nest_ssl.files.rows import text_digest
from nest_ssl.telephone import writer
from nest_ssl.telephone.codecs import CODECS
from nest_ssl.telephone.codecs.base import CodecMissing
from nest_ssl.telephone.corpus import TelephoneCorpus
from nest_ssl.telephone.jobs import records_folder, run_shard
from nest_ssl.telephone.records import OutOfSpace, RecordFile, out_of_space, record_files, scan_lines
from nest_ssl.telephone.row_table import RowTable
from nest_ssl.telephone.seed import key_bucket
from tests.telephone.programs import held


@pytest.fixture
def corpus(prompts, tmp_path) -> Path:
    """A copy of the prompts that a test may damage; gives its manifest."""
    shutil.copytree(prompts.parent, tmp_path / "with space")
    return tmp_path / "with space" / "prompts.jsonl"


def command(manifest: Path, *more: str, out: str = "telephone", seed: int = 17) -> list[str]:
    folder = manifest.parent
    noise = ["--noise-manifest", str(folder / "noise.jsonl")]
    return ["--manifest", str(manifest), "--out", str(folder / out), "--seed", str(seed), *noise, *more]


def rows_of(manifest: Path) -> list[dict]:
    return [row for _, row in read_rows(manifest)]


def result(manifest: Path, out: str = "telephone") -> dict[str, str]:
    """SHA-256 of the manifest and of every audio file."""
    files = [manifest.parent / f"{out}.jsonl", *(manifest.parent / out).rglob("*.flac")]
    return {
        str(path.relative_to(manifest.parent)).replace(out, "OUT"): hashlib.sha256(
            path.read_bytes().replace(f'"{out}/'.encode(), b'"OUT/')
        ).hexdigest()
        for path in files
    }


@pytest.fixture(scope="module")
def expected(prompts, tmp_path_factory) -> dict[str, str]:
    """What one uninterrupted run of one process makes of the prompts, two copies each."""
    folder = tmp_path_factory.mktemp("expected") / "with space"
    shutil.copytree(prompts.parent, folder)
    assert simulate.main(command(folder / "prompts.jsonl", "--copies", "2")) == 0
    return result(folder / "prompts.jsonl")


def test_every_row_becomes_one_row_per_copy(corpus):
    assert simulate.main(command(corpus, "--copies", "2")) == 0
    before, after = rows_of(corpus), rows_of(corpus.with_name("telephone.jsonl"))
    assert [row["source_id"] for row in after] == [row["id"] for row in before for _ in range(2)]
    assert len({row["id"] for row in after}) == len({row["audio_filepath"] for row in after}) == 60
    for source, row in zip([row for row in before for _ in range(2)], after, strict=True):
        info = audio_info(corpus.parent / row["audio_filepath"])
        assert (info.sample_rate, info.channels) == (16000, 1)
        assert info.num_frames == audio_info(corpus.parent / source["audio_filepath"]).num_frames
        assert row["duration"] == info.num_frames / 16000
        assert {name: row[name] for name in ("text", "lang", "key")} == {
            name: source[name] for name in ("text", "lang", "key")
        }
        assert row["channel"]["preset"]
        assert all(leg["version"] for leg in row["channel"]["legs"])
        assert "soxr" in row["channel"]["libraries"]


@pytest.mark.parametrize("shards", [[1, 2], [2, 1], [3, 1, 2]])
def test_the_result_does_not_depend_on_the_shards(corpus, expected, shards):
    for shard in shards:
        more = ("--copies", "2", "--shard", f"{shard}/{len(shards)}")
        assert simulate.main(command(corpus, *more)) == 0
    assert simulate.main(command(corpus, "--copies", "2", "--merge")) == 0
    assert result(corpus) == expected


def test_the_seed_and_the_copy_change_the_channel(corpus):
    assert simulate.main(command(corpus, "--copies", "2")) == 0
    assert simulate.main(command(corpus, out="other", seed=18)) == 0
    first = rows_of(corpus.with_name("telephone.jsonl"))
    other = rows_of(corpus.with_name("other.jsonl"))
    levels = [row["channel"]["level_dbov"] for row in first + other]
    assert len(set(levels)) > 85  # of 90; the ends of the range come more than once


@pytest.mark.parametrize("lines", [20, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("workers", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_and_ends_the_same(corpus, expected, lines, workers):
    words = command(corpus, "--copies", "2", "--workers", str(workers))
    folder = corpus.parent / "telephone" / "records"
    with held(corpus.parent / rows_of(corpus)[-1]["audio_filepath"]):
        process = subprocess.Popen(
            [sys.executable, "-m", "nest_ssl.bin.simulate", *words],
            env=os.environ | {"PYTHONPATH": str(Path(simulate.__file__).parents[2])},
            stderr=subprocess.DEVNULL,
        )
        while (
            process.poll() is None
            and sum(p.read_bytes().count(b"\n") for p in folder.glob("*/1-of-1.jsonl")) < lines
        ):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not corpus.with_name("telephone.jsonl").exists()
    assert simulate.main(words) == 0
    assert result(corpus) == expected
    assert list(folder.glob("unfinished*")) == []


def test_a_second_run_makes_nothing_again(corpus):
    assert simulate.main(command(corpus)) == 0
    times = {path: path.stat().st_mtime_ns for path in (corpus.parent / "telephone").rglob("*.flac")}
    assert len(times) == 30
    assert simulate.main(command(corpus)) == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_record_cut_off_in_its_last_line_is_made_again(corpus, expected):
    assert simulate.main(command(corpus, "--copies", "2")) == 0
    [path] = (corpus.parent / "telephone" / "records").rglob("1-of-1.jsonl")
    path.write_bytes(path.read_bytes()[:-200])
    assert simulate.main(command(corpus, "--copies", "2")) == 0
    assert result(corpus) == expected
    assert len(list(scan_lines(record_files(path.parent)))) == 60


@pytest.mark.parametrize("damage", ["absent", "short"])
def test_an_output_that_is_not_whole_is_made_again(corpus, expected, damage):
    assert simulate.main(command(corpus, "--copies", "2")) == 0
    victim = corpus.parent / rows_of(corpus.with_name("telephone.jsonl"))[5]["audio_filepath"]
    if damage == "absent":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(
        ValueError, match=r"1 of 60 utterances have not been done by simulate \(the first is en/digits/7\)"
    ):
        simulate.main(command(corpus, "--copies", "2", "--merge"))
    assert simulate.main(command(corpus, "--copies", "2")) == 0
    assert result(corpus) == expected


def test_a_changed_source_is_simulated_again(corpus):
    assert simulate.main(command(corpus)) == 0
    row = rows_of(corpus)[3]
    samples, rate = read_audio(corpus.parent / row["audio_filepath"])
    write_audio(corpus.parent / row["audio_filepath"], samples[::-1].copy(), rate)
    before = result(corpus)
    assert simulate.main(command(corpus)) == 0
    after = result(corpus)
    changed = {name for name in before if before[name] != after[name]}
    assert f"OUT/copy0/{row['id']}.flac" in changed
    # the utterances in which it is one of the talkers keep theirs: their own source is as it was
    assert len(changed - {"OUT.jsonl"}) == 1


def test_other_settings_are_refused_by_what_differs(corpus):
    assert simulate.main(command(corpus, "channel.noise.probability=0")) == 0
    with pytest.raises(ValueError, match="must not mix") as caught:
        simulate.main(command(corpus, seed=18))
    assert "\n  seed: 17 -> 18\n" in str(caught.value)
    assert "noise.probability: 0 -> 0.6" in str(caught.value)
    assert "--force" in str(caught.value)


def test_another_library_version_is_refused(corpus, monkeypatch):
    assert simulate.main(command(corpus, "--shard", "1/2")) == 0
    monkeypatch.setattr("soxr.__version__", "9.9")
    for part in ("--shard=2/2", "--merge"):
        with pytest.raises(ValueError, match=r"versions\.soxr: .* -> 9\.9"):
            simulate.main(command(corpus, part))


def test_force_makes_all_anew_and_leaves_nothing_of_before(corpus):
    assert simulate.main(command(corpus, "channel.noise.probability=0", "--format", "wav")) == 0
    assert simulate.main(command(corpus, "--force", "--shard", "1/2")) == 0
    assert simulate.main(command(corpus, "--shard", "2/2")) == 0  # the folder is of these settings now
    assert simulate.main(command(corpus, "--merge")) == 0
    once = result(corpus)
    assert list((corpus.parent / "telephone").rglob("*.wav")) == []
    assert len(list((corpus.parent / "telephone" / "records").iterdir())) == 1
    assert simulate.main(command(corpus, out="fresh")) == 0
    assert result(corpus, "fresh") == once


@pytest.mark.parametrize("workers", [2, 4])
def test_the_result_does_not_depend_on_the_workers(corpus, expected, workers):
    assert simulate.main(command(corpus, "--copies", "2", "--workers", str(workers))) == 0
    assert result(corpus) == expected


def test_the_order_of_the_manifest_changes_no_utterance(corpus, expected):
    rows = rows_of(corpus)
    write_rows(corpus, [rows[i] for i in np.random.default_rng(0).permutation(len(rows))])
    assert simulate.main(command(corpus, "--copies", "2")) == 0
    found = result(corpus)
    lines = corpus.with_name("telephone.jsonl").read_bytes().splitlines()
    assert {name for name in expected if found[name] != expected[name]} == {"OUT.jsonl"}
    write_rows(corpus, rows)
    assert simulate.main(command(corpus, "--copies", "2", "--force")) == 0
    assert sorted(lines) == sorted(corpus.with_name("telephone.jsonl").read_bytes().splitlines())


def test_a_damaged_file_is_named_and_counted(corpus, caplog):
    victim = corpus.parent / rows_of(corpus)[7]["audio_filepath"]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    victim.write_bytes(content)
    assert simulate.main(command(corpus)) == 3
    assert str(victim) in caplog.text
    assert not corpus.with_name("telephone.jsonl").exists()
    assert simulate.main(command(corpus, "--max-error-rate", "0.05")) == 0
    assert len(rows_of(corpus.with_name("telephone.jsonl"))) == 29
    [error] = rows_of(corpus.with_name("telephone.errors.jsonl"))
    assert error["id"] == rows_of(corpus)[7]["id"]
    assert error["error"].startswith(f"{corpus}:8: {victim}")


def test_a_mended_file_clears_its_error_and_is_heard_in_babble_again(corpus):
    keys = [f"key{i}" for i in range(2000) if key_bucket(f"key{i}") == 0][:6]  # talkers share a bucket
    rows = [row | {"key": key} for row, key in zip(rows_of(corpus), keys, strict=False)]
    write_rows(corpus, rows)
    settings = ["channel.noise={probability: 1.0, snr_db: {min: 8, max: 9}, kinds: {babble: 1.0}, "]
    settings[0] += "talkers: {min: 3, max: 5}, exponent: {min: 0, max: 0}}"
    victim = corpus.parent / rows[2]["audio_filepath"]
    content, modified = victim.read_bytes(), victim.stat().st_mtime_ns
    victim.write_bytes(b"not audio")
    assert simulate.main(command(corpus, *settings)) == 3
    assert simulate.main(command(corpus, "--max-error-rate", "0.2", *settings)) == 0
    without = rows_of(corpus.with_name("telephone.jsonl"))
    assert any(str(victim) in str(row["channel"]["noise"].get("left_out")) for row in without)
    victim.write_bytes(content)
    os.utime(victim, ns=(modified, modified))
    assert simulate.main(command(corpus, *settings)) == 0
    assert not corpus.with_name("telephone.errors.jsonl").exists()
    assert simulate.main(command(corpus, *settings, out="fresh")) == 0
    assert result(corpus) == result(corpus, "fresh")
    assert len(rows_of(corpus.with_name("telephone.jsonl"))) == 6


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (np.zeros(0), "no audio samples"),
        (np.full(100, np.nan), "100 of 100 samples are not finite"),
        (np.zeros((100, 2)), "2 channels; set channel_selector"),
    ],
)
def test_audio_that_is_no_utterance_is_recorded_with_its_reason(tmp_path, samples, said):
    soundfile.write(tmp_path / "odd.wav", samples, 16000, subtype="FLOAT")
    write_rows(tmp_path / "in.jsonl", [{"audio_filepath": "odd.wav"}])
    words = ["--manifest", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out"), "--seed", "1"]
    assert simulate.main(words) == 3
    [error] = rows_of(tmp_path / "out.errors.jsonl")
    assert said in error["error"]


def test_rows_without_id_of_any_rate_and_with_offsets(tmp_path):
    time = np.arange(44100) / 44100
    for rate in (8000, 11025, 44100):
        soundfile.write(tmp_path / f"{rate}.wav", 0.1 * np.sin(700 * time[:rate]), rate)
    rows = [{"audio_filepath": f"{rate}.wav", "text": "x"} for rate in (8000, 11025, 44100)]
    rows += [{"audio_filepath": str(tmp_path / "44100.wav"), "offset": 0.25, "duration": 0.5}]
    write_rows(tmp_path / "in.jsonl", rows)
    words = ["--manifest", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out"), "--seed", "1"]
    assert simulate.main(words) == 0
    made = rows_of(tmp_path / "out.jsonl")
    assert [row["duration"] for row in made] == [1.0, 1.0, 1.0, 0.5]
    assert "offset" not in made[3]
    assert all((tmp_path / row["audio_filepath"]).is_file() for row in made)


def test_rows_with_nemos_other_names_are_taken(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 8000), 16000)
    write_rows(tmp_path / "in.jsonl", [{"audio_filename": "a.wav", "utt": "u1", "key": 0}])
    words = ["--manifest", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out"), "--seed", "1"]
    assert simulate.main(words) == 0
    [row] = rows_of(tmp_path / "out.jsonl")
    assert (row["id"], row["source_id"], row["key"]) == ("u1#telephone0", "u1", "0")
    assert row["audio_filepath"] == "out/copy0/u1.flac"
    assert "audio_filename" not in row


def test_a_record_of_another_id_is_made_anew(prompts, mix, tmp_path):
    corpus = TelephoneCorpus(prompts, tmp_path / "out", mix, seed=1)
    run_shard(corpus, 1, 15)
    [records] = records_folder(corpus).glob("*.jsonl")
    records.write_text(records.read_text().replace('"id": "en/agent-loginok",', '"id": "of old",', 1))
    assert run_shard(corpus, 1, 15).written == 1


def test_stereo_with_a_channel_selector_is_taken(tmp_path):
    soundfile.write(tmp_path / "two.wav", np.random.default_rng(0).normal(0, 0.1, (8000, 2)), 16000)
    write_rows(tmp_path / "in.jsonl", [{"audio_filepath": "two.wav", "channel_selector": "average"}])
    words = ["--manifest", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out"), "--seed", "1"]
    assert simulate.main(words) == 0
    assert audio_info(tmp_path / rows_of(tmp_path / "out.jsonl")[0]["audio_filepath"]).num_frames == 8000


@pytest.mark.parametrize("digits", [0, 2])
def test_ids_that_are_no_file_names_stay_inside_the_folder_and_apart(tmp_path, digits):
    folders = {text_digest(folder): digits for folder in ("", "a", "%-86")} if digits else {}
    table = RowTable(np.zeros(0, np.uint64), folders)
    ids = [
        "../../etc/passwd",
        "a/../b",
        "/a",
        "a",
        ".",
        "",
        "%2E",
        "ключ",
        "x" * 300,
        "x" * 301,
        "a#1",
        "a:1",
        "%-86/a",
    ]
    paths = [tmp_path / "out" / table.audio_name(name, ".flac") for name in ids]
    for path in paths:
        assert path.resolve().is_relative_to(tmp_path / "out")
        assert all(len(part.encode()) <= 255 for part in path.parts)
    assert len({str(path) for path in paths}) == len(ids)


def test_two_rows_of_one_id_are_refused_by_line(corpus):
    rows = rows_of(corpus)
    write_rows(corpus, [*rows, rows[4]])
    with pytest.raises(
        ValueError, match=r"prompts\.jsonl:31: the utterance id 'en/letters/at' is that of line 5"
    ):
        simulate.main(command(corpus))


def test_an_empty_manifest_is_refused(tmp_path):
    (tmp_path / "in.jsonl").write_text("\n")
    words = ["--manifest", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out"), "--seed", "1"]
    with pytest.raises(ValueError, match="no rows"):
        simulate.main(words)


def test_merging_before_all_shards_ran_says_what_is_missing(corpus):
    assert simulate.main(command(corpus, "--shard", "1/3")) == 0
    with pytest.raises(ValueError, match="20 of 30 utterances have not been done"):
        simulate.main(command(corpus, "--merge"))


@pytest.mark.parametrize("refused", ["audio", "records"])
def test_a_full_disk_stops_the_run_and_the_next_one_goes_on(corpus, expected, monkeypatch, refused):
    words = command(corpus, "--copies", "2")
    real = writer.write_bytes if refused == "audio" else RecordFile.append
    calls = []

    def full(*arguments):
        calls.append(arguments)
        if len(calls) > 9:
            error = OSError(errno.ENOSPC, "No space left on device")
            raise error if refused == "audio" else out_of_space(error, Path("x"))
        return real(*arguments)

    with monkeypatch.context() as patch:
        if refused == "audio":
            patch.setattr(writer, "write_bytes", full)
        else:
            patch.setattr(RecordFile, "append", full)
        with pytest.raises(OSError, match="No space left on device; what is done is recorded") as caught:
            simulate.main(words)
    assert caught.value.errno == errno.ENOSPC
    assert not list(corpus.parent.rglob("*.tmp"))
    assert simulate.main(words) == 0
    assert result(corpus) == expected


@pytest.mark.parametrize("streamed", [False, True])
def test_a_file_that_the_system_refuses_leaves_nothing_behind(tmp_path, streamed):
    resource = pytest.importorskip("resource")
    noise = np.random.default_rng(0).integers(-9000, 9000, 20000).astype(np.int16)
    files = writer.AudioWriter(tmp_path / "unfinished", "flac")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, before[1]))
    try:
        with pytest.raises(OutOfSpace) as caught:
            if streamed:
                with files.stream(f"{tmp_path}/a/b.flac", 8000) as audio:
                    audio.write(noise)
            else:
                files.write(f"{tmp_path}/a/b.flac", noise, 8000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # as a worker sends it
    assert list((tmp_path / "a").iterdir()) == list((tmp_path / "unfinished").iterdir()) == []


def test_settings_are_left_beside_the_records(corpus):
    assert simulate.main(command(corpus)) == 0
    [path] = (corpus.parent / "telephone" / "records").rglob("settings.json")
    settings = json.loads(path.read_text())
    assert settings["seed"] == 17
    assert settings["versions"]["codecs"]["gsm_fr"]
    assert settings["versions"]["soxr"]


def test_a_codec_that_is_missing_is_refused_or_its_presets_dropped(corpus, monkeypatch, caplog):
    def missing(self):
        raise CodecMissing("codec gsm_fr needs libgsm: apt-get install libgsm1")

    monkeypatch.setattr(type(CODECS["gsm_fr"]), "check", missing)
    with pytest.raises(CodecMissing, match="apt-get install libgsm1"):
        simulate.main(command(corpus))
    assert simulate.main(command(corpus, "--missing", "drop")) == 0
    assert "preset mobile_gsm_fr left out" in caplog.text
    [path] = (corpus.parent / "telephone" / "records").rglob("settings.json")
    presets = json.loads(path.read_text())["presets"]
    assert "mobile_gsm_fr" not in presets and "pstn_g711a" in presets
    assert sum(preset["weight"] for preset in presets.values()) == pytest.approx(1)


def test_noise_comes_from_folders_and_manifests_by_kind(corpus):
    street = corpus.parent / "street"
    street.mkdir()
    shutil.copy(corpus.parent / "audio/music.flac", street / "one.flac")
    kinds = "channel.noise.kinds={music: 0.5, street: 0.5}"
    words = command(corpus, kinds, "channel.noise.probability=1", "--noise-manifest", f"street={street}")
    assert simulate.main(words) == 0
    noises = [row["channel"]["noise"] for row in rows_of(corpus.with_name("telephone.jsonl"))]
    assert {noise["recording"] for noise in noises if noise and noise["kind"] == "street"} == {"one.flac"}
    assert {noise["kind"] for noise in noises if noise} == {"music", "street"}
    with pytest.raises(ValueError, match=r"noise kind street has .* already"):
        simulate.main([*words, "--noise-manifest", f"street={street}"])


def test_a_recorded_room_is_heard(corpus):
    rooms = corpus.parent / "rooms"
    rooms.mkdir()
    soundfile.write(rooms / "r.wav", np.r_[1.0, np.zeros(799), 0.5, np.zeros(200)], 16000)
    words = command(corpus, "--room-dir", str(rooms), "channel.room.probability=1")
    assert simulate.main(words) == 0
    found = [row["channel"]["room"] for row in rows_of(corpus.with_name("telephone.jsonl"))]
    assert any("r.wav" in json.dumps(room) for room in found)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["presets.pstn_g711a.legs=[{codec: g999}]"], "presets.pstn_g711a.legs.0.codec.*'g999'"),
        (["channel.noise.probability=2"], "noise.probability: must lie within 0 and 1"),
        (["+channel.nose=1"], "channel.nose|presets.pstn_g711a.nose: is not a known key"),
        (["channel.level_dbov.min=-10"], "level_dbov: min -10 lies above max -16"),
        (["+presets.pstn_g711a.noise.snr=3"], "presets.pstn_g711a"),
        (["--mix", "chian"], "no mix 'chian'"),
        (["--preset", "isdn"], "no preset 'isdn'"),
    ],
)
def test_impossible_settings_are_refused_by_name(prompts, tmp_path, words, said):
    command = ["--manifest", str(prompts), "--out", str(tmp_path / "out"), "--seed", "1", *words]
    with pytest.raises(ValueError, match=said):
        simulate.main(command)
