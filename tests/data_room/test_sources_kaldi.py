"""Kaldi data directories: segments, pipes without a shell, archives, and every line that cannot be used."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from nest_ssl.data.sources.build import BuildOptions, build_manifest
from nest_ssl.data.sources.pipes import run_pipe, split_pipe
from nest_ssl.data.sources.record import SourceOptions
from nest_ssl.files.audio import read_audio, write_audio
from tests.data_room.source_data import noise, rows_of, text_files

PIPES = SourceOptions(allow_pipes=True)


def build(folder: Path, **options):
    return build_manifest("kaldi", [str(folder)], folder / "out.jsonl", BuildOptions(**options))


@pytest.fixture
def kaldi(tmp_path):
    """Two recordings of 2 s at 8 kHz and three utterances."""
    for number, name in enumerate(("rec a", "b")):
        write_audio(tmp_path / f"{name}.wav", noise(16000, number), 8000)
    text_files(
        tmp_path,
        **{
            "wav.scp": "recA rec a.wav\nrecB b.wav\n",
            "segments": "u3 recB 0.5 -1\nu1 recA 0.25 1.5\nu2 recA 1.5 2.0\n",
            "text": "u1 hello there\nu2 \nu3  拨　号\n",
            "utt2spk": "u1 s1\nu2 s1\nu3 s2\n",
            "spk2gender": "s1 f\n",
        },
    )
    return tmp_path


def test_segments_become_rows_in_the_order_of_their_ids(kaldi):
    report = build(kaldi)
    assert rows_of(kaldi / "out.jsonl") == [
        {"id": "u1", "audio_filepath": "rec a.wav", "duration": 1.25, "offset": 0.25, "text": "hello there",
         "speaker": "s1", "gender": "f"},
        {"id": "u2", "audio_filepath": "rec a.wav", "duration": 0.5, "offset": 1.5, "text": "",
         "speaker": "s1", "gender": "f"},
        {"id": "u3", "audio_filepath": "b.wav", "duration": 1.5, "offset": 0.5, "text": "拨　号",
         "speaker": "s2"},
    ]  # fmt: skip
    assert (report.rows, report.seconds, report.sample_rates) == (3, 3.25, {8000: 3})
    assert rows_of(kaldi / "out.dropped.jsonl") == []
    facts = json.loads((kaldi / "out.report.json").read_text())
    assert facts["rows"] == 3 and facts["dropped"] == {} and facts["rows_without_text"] == 0


def test_the_same_command_writes_the_same_bytes_with_any_number_of_jobs(kaldi):
    build(kaldi, jobs=1)
    first = (kaldi / "out.jsonl").read_bytes()
    build(kaldi, jobs=7)
    assert (kaldi / "out.jsonl").read_bytes() == first


def test_without_segments_a_recording_is_an_utterance(kaldi):
    (kaldi / "segments").unlink()
    text_files(
        kaldi, **{"text": "recA x\n", "utt2spk": "recA s1\nrecB s2\n", "utt2dur": "recA 2.0\nrecB 2.0\n"}
    )
    build(kaldi)
    assert [(row["id"], row["duration"], "offset" in row) for row in rows_of(kaldi / "out.jsonl")] == [
        ("recA", 2.0, False),
        ("recB", 2.0, False),
    ]


@pytest.mark.parametrize(
    ("files", "place", "message"),
    [
        ({"wav.scp": "recA rec a.wav\nrecB gone.wav\n"}, "segments:1",
         "audio missing: recB .*wav.scp:2.: gone"),
        ({"wav.scp": "recA rec a.wav\n"}, "segments:1",
         "segment without recording: 'u3' is a part of 'recB'"),
        ({"wav.scp": "recA rec a.wav\nrecB b.wav\nrecC\n"}, "wav.scp:3", "bad line: 'recC' has no value"),
        ({"wav.scp": "recA rec a.wav\nrecB b.wav\nrecA b.wav\n"}, "wav.scp:3",
         "double id: 'recA' stands on line 1"),
        ({"segments": "u1 recA 0.25 3.0\n"}, "segments:1",
         r"behind the end of the recording: it ends at 3.000 s of .*rec a.wav, which lasts 2.000 s"),
        ({"segments": "u1 recA 2.5 3.0\n"}, "segments:1", "behind the end of the recording"),
        ({"segments": "u1 recA 1.0 0.5\n"}, "segments:1",
         "bad segment: 'u1' begins at 1.0 s and ends at 0.5 s"),
        ({"segments": "u1 recA 1.0 nan\n"}, "segments:1", "bad segment"),
        ({"segments": "u1 recA 1.0\n"}, "segments:1", "bad line: a segment is RECORDING START END"),
        ({"segments": "u1 recA 0 1 3\n"}, "segments:1",
         "no such channel: .*channel 3 .from 0. of a file that has 1"),
        ({"text": "u1 a\nu9 b\n"}, "text:2", "text without audio: 'u9' is in text but not in segments"),
        ({"wav.scp": "recA rec a.wav\nrecB cat b.wav |\n"}, "segments:1", "pipe: .*--allow-pipes runs such"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named_with_file_and_line(kaldi, files, place, message):
    text_files(kaldi, **files)
    if "segments" in files:
        text_files(kaldi, **{"text": "u1 a\n", "utt2spk": "u1 s1\n"})
    with pytest.raises(ValueError, match=f"(?s)1 utterances cannot be used.*--drop-bad.*{place}: {message}"):
        build(kaldi)
    assert not (kaldi / "out.jsonl").exists()
    if "segments" in files:
        text_files(kaldi, segments=files["segments"] + "u2 recA 0 1\n")
    report = build(kaldi, drop_bad=True)
    (dropped,) = rows_of(kaldi / "out.dropped.jsonl")
    assert message.startswith(dropped["reason"]) and dropped["row"].endswith(place)
    assert sum(len(ids) for ids in report.dropped.values()) == 1


def test_an_end_shortly_behind_the_recording_is_cut_as_kaldi_does(kaldi):
    text_files(kaldi, segments="u1 recA 1.0 2.4\n", text="u1 a\n", utt2spk="u1 s\n")
    report = build(kaldi)
    assert rows_of(kaldi / "out.jsonl")[0]["duration"] == 1.0 and report.cut_at_the_end == 1


def test_crlf_and_a_byte_order_mark_are_taken_away(kaldi):
    (kaldi / "wav.scp").write_bytes(b"\xef\xbb\xbfrecA rec a.wav\r\nrecB b.wav\r\n")
    (kaldi / "text").write_bytes("\ufeffu1 hello\r\n".encode())
    build(kaldi)
    assert rows_of(kaldi / "out.jsonl")[0]["text"] == "hello"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_text_that_is_no_utf8_is_named_with_its_line(kaldi, encoding):
    (kaldi / "text").write_bytes("u1 a\nu2 é\n".encode(encoding))
    with pytest.raises(ValueError, match=r"text:[12]: (not UTF-8 text .byte 0xe9|UTF-16 text).*iconv -f"):
        build(kaldi)


def test_a_stated_duration_that_is_wrong_is_refused(kaldi):
    (kaldi / "segments").unlink()
    text_files(kaldi, utt2dur="recA 2.5\nrecB 2.0\n", text="", utt2spk="")
    with pytest.raises(
        ValueError, match=r"wav.scp:1: wrong duration: 2.5 s are stated, .*rec a.wav lasts 2.000 s"
    ):
        build(kaldi)


def test_a_pipe_is_run_once_and_written_as_a_file(kaldi):
    program = kaldi / "give wav.py"
    program.write_text(
        "import sys, pathlib\n"
        "pathlib.Path(sys.argv[2]).open('a').write('x')\n"
        "sys.stdout.buffer.write(pathlib.Path(sys.argv[1]).read_bytes())\n"
    )
    command = f"{sys.executable} '{program}' '{kaldi / 'b.wav'}' '{kaldi / 'runs'}' | cat |"
    text_files(kaldi, **{"wav.scp": f"recA rec a.wav\nrecB {command}\n"})
    text_files(kaldi, segments="u1 recB 0 1\nu2 recB 1 2\n", text="", utt2spk="")
    build(kaldi, source=PIPES, audio_dir=kaldi / "audio")
    assert (kaldi / "runs").read_text() == "x"
    paths = {row["audio_filepath"] for row in rows_of(kaldi / "out.jsonl")}
    assert re.fullmatch(r"audio/recB-[0-9a-f]{8}\.flac", *paths)
    assert np.array_equal(read_audio(kaldi / paths.pop())[0] * 32768, noise(16000, 1))


def test_recordings_of_one_name_in_two_directories_do_not_meet(tmp_path):
    for number, name in enumerate(("one", "two")):
        write_audio(tmp_path / f"{name}.wav", noise(800, number), 8000)
        text_files(tmp_path / name, segments=f"{name}-u rec 0 0.1\n")
        text_files(tmp_path / name, **{"wav.scp": f"rec cat '{tmp_path / name}.wav' |\n"})
    options = BuildOptions(source=PIPES, audio_dir=tmp_path / "audio")
    build_manifest("kaldi", [str(tmp_path / "one"), str(tmp_path / "two")], tmp_path / "m.jsonl", options)
    for number, row in enumerate(rows_of(tmp_path / "m.jsonl")):
        assert np.array_equal(read_audio(tmp_path / row["audio_filepath"])[0] * 32768, noise(800, number))


def test_a_pipe_needs_a_folder_to_write_to(kaldi):
    text_files(kaldi, **{"wav.scp": "recA cat b.wav |\nrecB b.wav\n"})
    with pytest.raises(ValueError, match=r"needs --audio-dir: recA: .*--audio-dir DIR says where"):
        build(kaldi, source=PIPES)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no_such_program_x a.sph |", "no_such_program_x cannot be run .*No such file"),
        ("/nowhere/sph2pipe -f wav a.sph |", "SPHERE files are read here directly"),
        ("cat nothing.wav | cat |", "cat ended with status 1: .*nothing.wav"),
        ("true |", "printed no audio"),
    ],
)
def test_a_command_that_fails_says_why(command, message):
    with pytest.raises(ValueError, match=message):
        run_pipe(command)


@pytest.mark.parametrize(
    "command",
    ["cat a > b |", "cat a; rm b |", "cat $(x) |", "cat `x` |", "cat a && b |", "cat < a |", "$X a |"],
)
def test_what_only_a_shell_understands_is_refused(command):
    with pytest.raises(ValueError, match="needs a shell"):
        split_pipe(command)


def test_quotes_and_several_programs_are_split_as_a_shell_would():
    assert split_pipe("sph2pipe -f wav 'a b.sph'|sox -t wav - -r 8k - remix 1 |") == [
        ["sph2pipe", "-f", "wav", "a b.sph"],
        ["sox", "-t", "wav", "-", "-r", "8k", "-", "remix", "1"],
    ]
    for broken in ("cat a", "| cat |", "cat a | | cat |", "cat 'a |"):
        with pytest.raises(ValueError, match=r"command|program"):
            split_pipe(broken)


def test_a_wav_in_an_archive_is_written_out(kaldi):
    content = (kaldi / "b.wav").read_bytes()
    (kaldi / "wav.1.ark").write_bytes(b"recA " + content + b"recB " + content + b"feat \0BFM ")
    at = 5 + len(content) + 5
    text_files(kaldi, **{"wav.scp": f"recA wav.1.ark:5\nrecB wav.1.ark:{at}\n"})
    build(kaldi, audio_dir=kaldi / "audio")
    written = {row["id"]: kaldi / row["audio_filepath"] for row in rows_of(kaldi / "out.jsonl")}
    assert np.array_equal(read_audio(written["u3"])[0] * 32768, noise(16000, 1))
    text_files(kaldi, **{"wav.scp": f"recA wav.1.ark:5\nrecB wav.1.ark:{at + len(content) + 5}\n"})
    with pytest.raises(
        ValueError, match=r"segments:1: unreadable audio: recB: .*ark:\d+ holds no wav .*features"
    ):
        build(kaldi, audio_dir=kaldi / "audio")


def test_a_channel_of_a_segment_is_written_out(kaldi):
    both = np.stack([noise(16000, 5), noise(16000, 6)], axis=1)
    soundfile.write(kaldi / "b.wav", both, 8000)
    text_files(kaldi, segments="u1 recB 0 1 1\nu2 recB 1 2 A\n", text="", utt2spk="")
    build(kaldi, audio_dir=kaldi / "audio")
    paths = [kaldi / row["audio_filepath"] for row in rows_of(kaldi / "out.jsonl")]
    assert [path.name.split("-")[-1] for path in paths] == ["channel1.flac", "channel0.flac"]
    assert np.array_equal(read_audio(paths[0])[0] * 32768, both[:, 1])
    assert np.array_equal(read_audio(paths[1])[0] * 32768, both[:, 0])


def test_a_folder_without_wav_scp_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no wav\.scp"):
        build(tmp_path)
