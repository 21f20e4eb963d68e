"""FunASR, folders, Hugging Face, NeMo and Lhotse data: their rows, and what cannot be used."""

import gzip
import io
import json
import re
import sys

import numpy as np
import pytest
import soundfile

from nest_ssl.data.sources.build import BuildOptions, build_manifest
from nest_ssl.data.sources.nemo import manifest_names
from nest_ssl.data.sources.record import SourceOptions
from nest_ssl.files.audio import read_audio, write_audio
from tests.data_room.source_data import noise, rows_of, text_files


def build(kind, path, out, **options):
    return build_manifest(kind, [str(path)], out, BuildOptions(**options))


def jsonl(path, *rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def audio(tmp_path):
    """a.wav (1 s, 8 kHz), b.flac (2 s, 16 kHz) and st.wav (two channels)."""
    write_audio(tmp_path / "a.wav", noise(8000, 1), 8000)
    write_audio(tmp_path / "b.flac", noise(32000, 2), 16000)
    soundfile.write(tmp_path / "st.wav", np.stack([noise(8000, 3), noise(8000, 4)], axis=1), 8000)
    return tmp_path


def speech(path, text, **more):
    prompt = f"语音转写：<|startofspeech|>!{path}<|endofspeech|>"
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": text},
    ]
    return {"messages": messages, "speech_length": 98, "text_length": 3, **more}


def test_messages_and_classic_rows_of_funasr(audio):
    two_turns = speech("a.wav", "一", key="k2")
    two_turns["messages"] += speech("b.flac", "二")["messages"][1:]
    source = jsonl(
        audio / "train.jsonl",
        speech("a.wav", "你好", key="k1"),
        two_turns,
        speech(str(audio / "b.flac"), "没有"),
        {"key": "c", "source": "b.flac", "source_len": 200, "target": "text", "text_language": "<|en|>"},
    )
    report = build("funasr", source, audio / "out" / "m.jsonl")
    assert rows_of(audio / "out" / "m.jsonl") == [
        {"id": "k1", "audio_filepath": "../a.wav", "duration": 1.0, "text": "你好"},
        {"id": "k2-1", "audio_filepath": "../a.wav", "duration": 1.0, "text": "一"},
        {"id": "k2-2", "audio_filepath": "../b.flac", "duration": 2.0, "text": "二"},
        {
            "id": str(audio / "b.flac"),
            "audio_filepath": str(audio / "b.flac"),
            "duration": 2.0,
            "text": "没有",
        },
        {"id": "c", "audio_filepath": "../b.flac", "duration": 2.0, "text": "text", "lang": "en"},
    ]
    assert report.sample_rates == {8000: 2, 16000: 3}
    (audio / "list.txt").write_text("train.jsonl\n")
    build("funasr", audio / "list.txt", audio / "out" / "n.jsonl")
    assert rows_of(audio / "out" / "n.jsonl") == rows_of(audio / "out" / "m.jsonl")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            speech("https://x.org/a.wav", "t", key="k"),
            r"address: https://x\.org/a\.wav is not on this machine",
        ),
        (speech("no.wav", "t", key="k"), r"audio missing: no\.wav is neither in .* nor in .*; --root DIR"),
        ({"messages": [{"role": "user", "content": "hi"}]}, r"no audio: no message holds <\|startofspeech"),
        (
            {"messages": [{"role": "user", "content": "<|startofspeech|>a.wav<|endofspeech|>"}]},
            "bad line: a turn",
        ),
        ({"messages": "x"}, "bad line: messages must be a list"),
        ({"key": "k", "source": 3}, "bad line: source is 3, not the path"),
        ({"text": "t"}, "bad line: a row has messages, or key, source and target; this one has text"),
    ],
)
def test_funasr_rows_that_cannot_be_used_are_named(audio, row, message):
    source = jsonl(audio / "m.jsonl", speech("a.wav", "x", key="first"), row)
    with pytest.raises(ValueError, match=rf"(?s)1 utterances.*m\.jsonl:2: {message}"):
        build("funasr", source, audio / "out.jsonl")
    assert build("funasr", source, audio / "out.jsonl", drop_bad=True).rows == 1


def test_funasr_scp_files_find_their_transcripts(audio):
    text_files(audio, **{"train_wav.scp": "u2 b.flac\nu1 a.wav\n", "train_text.txt": "u1 eins\nu2 zwei\n"})
    build("funasr", audio, audio / "m.jsonl")
    assert [(row["id"], row["text"]) for row in rows_of(audio / "m.jsonl")] == [
        ("u1", "eins"),
        ("u2", "zwei"),
    ]
    text_files(audio, other="u1 uno\n")
    options = SourceOptions(texts=audio / "other")
    report = build("funasr", audio / "train_wav.scp", audio / "m.jsonl", source=options)
    assert rows_of(audio / "m.jsonl")[0]["text"] == "uno" and report.without_text == 1


def test_a_folder_gives_every_audio_file_with_its_text(audio):
    text_files(
        audio,
        **{
            "a.txt": "from\r\n  txt ",
            "b.txt": "Not this.",
            "b.normalized.txt": "normalised",
            "sub/84-1-0001.lab": "no audio of its own",
            "84/1/84-1.trans.txt": "84-1-0000 HELLO THERE\n84-1-0009 NOBODY\n",
            "notes.pdf": "x",
            ".hidden/x.wav": "x",
        },
    )
    write_audio(audio / "84" / "1" / "84-1-0000.flac", noise(800), 16000)
    (audio / "sub" / "é b.ul").write_bytes(bytes(range(200)))
    (audio / "st.wav").rename(audio / "a.x.wav")
    write_audio(audio / "a.flac", noise(800), 8000)
    build("folder", audio, audio / "m.jsonl")
    rows = {row["id"]: row for row in rows_of(audio / "m.jsonl")}
    assert [*rows] == ["a.flac", "a.wav", "a.x", "b", "84/1/84-1-0000", "sub/é b"]
    assert {name: row.get("text") for name, row in rows.items()} == {
        "a.flac": "from txt", "a.wav": "from txt", "a.x": None, "b": "normalised",
        "84/1/84-1-0000": "HELLO THERE", "sub/é b": None,
    }  # fmt: skip
    assert rows["84/1/84-1-0000"]["speaker"] == "84" and rows["sub/é b"]["duration"] == 0.025
    assert json.loads((audio / "m.report.json").read_text())["rows_of_several_channels"] == 1


def test_a_folder_without_audio_says_what_it_holds(tmp_path):
    text_files(tmp_path, **{"a.pdf": "x", "b.pdf": "x"})
    with pytest.raises(FileNotFoundError, match=r"holds no audio file; .*\.flac.* found: 2 \.pdf"):
        build("folder", tmp_path, tmp_path / "m.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.wav", b"", "unreadable audio: .*the file is empty"),
        ("x.wav", b"RIFFxxxx", "unreadable audio"),
        ("x.gsm", bytes(99), "unreadable audio: .*no GSM"),
        ("cut.wav", None, r"cut off: .*ends 0\.500 s before"),
        ("none.wav", None, "empty audio: .*no samples"),
    ],
)
def test_bad_audio_is_named(audio, name, content, reason):
    if content is None:
        write_audio(audio / name, noise(0 if name == "none.wav" else 8000), 8000)
        content = (audio / name).read_bytes()
        content = content[:-8000] if name == "cut.wav" else content
    (audio / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"1 utterances cannot be used.*\n.*{name}: {reason}"):
        build("folder", audio, audio / "m.jsonl")


def test_recordings_that_are_decoded_from_their_start_are_converted_where_asked(audio):
    (audio / "g").mkdir()
    soundfile.write(audio / "g" / "x.gsm", noise(1600), 8000, format="RAW", subtype="GSM610")
    write_audio(audio / "g" / "y.wav", noise(1600), 8000)
    with pytest.raises(ValueError, match=r"needs --audio-dir: .*x\.gsm"):
        build("folder", audio / "g", audio / "m.jsonl", convert=True)
    report = build("folder", audio / "g", audio / "m.jsonl", convert=True, audio_dir=audio / "made")
    first, second = rows_of(audio / "m.jsonl")
    assert re.fullmatch(r"made/x-[0-9a-f]{8}\.flac", first["audio_filepath"]) and report.written == 1
    assert second["audio_filepath"] == str(audio / "g" / "y.wav")
    assert np.array_equal(
        read_audio(audio / first["audio_filepath"])[0], read_audio(audio / "g" / "x.gsm")[0]
    )


def test_durations_and_sample_rates_leave_rows_out_by_name(audio):
    report = build("folder", audio, audio / "m.jsonl", min_duration=1.5)
    assert [row["id"] for row in rows_of(audio / "m.jsonl")] == ["b"]
    assert report.dropped == {"shorter than 1.5 s": ["a", "st"]}
    assert rows_of(audio / "m.dropped.jsonl")[0] == {
        "id": "a", "reason": "shorter than 1.5 s", "row": str(audio / "a.wav"), "detail": "1.000 s",
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"b\.flac: wrong sample rate: .*b\.flac has 16000 Hz, not 8000"):
        build("folder", audio, audio / "m.jsonl", sample_rate=8000)
    with pytest.raises(ValueError, match=r"no row of .* is left: 3 longer than 0\.5 s"):
        build("folder", audio, audio / "m.jsonl", max_duration=0.5)


def test_nemo_manifests_keep_their_fields(audio):
    (audio / "one").mkdir()
    (audio / "two").mkdir()
    jsonl(
        audio / "one" / "m_0.json", {"audio_filename": "../a.wav", "duration": 0.5, "text": "x", "speaker": 3}
    )
    jsonl(
        audio / "one" / "m_1.json",
        {"audio_filepath": str(audio / "b.flac"), "offset": 0.5, "lang": "de", "orig_sample_rate": 16000},
    )
    jsonl(audio / "two" / "m.json", {"audio_filepath": "../a.wav", "duration": 1.0, "offset": 0, "id": 7})
    named = f"{audio}/one/m_{{0..1}}.json,{audio}/two/m.json"
    build("nemo", named, audio / "all.jsonl")
    assert rows_of(audio / "all.jsonl") == [
        {"audio_filepath": "a.wav", "duration": 0.5, "text": "x", "speaker": 3},
        {"audio_filepath": str(audio / "b.flac"), "duration": 1.5, "offset": 0.5, "lang": "de",
         "orig_sample_rate": 16000},
        {"audio_filepath": "a.wav", "duration": 1.0, "offset": 0, "id": 7},
    ]  # fmt: skip


def test_names_of_manifests_are_expanded_as_nemo_does():
    names = [str(path) for path in manifest_names("a.json, m_{08..10}.json,x__OP_1..2_CL_/[3..4].json")]
    assert names == [
        "a.json", "m_08.json", "m_09.json", "m_10.json",
        "x_1/3.json", "x_1/4.json", "x_2/3.json", "x_2/4.json",
    ]  # fmt: skip


def test_rows_of_tarred_manifests_pass_as_they_are(tmp_path):
    row = {"audio_filepath": "utt1.flac", "duration": 2.0, "text": "x", "shard_id": 3}
    source = jsonl(tmp_path / "tarred_audio_manifest.json", row, row | {"offset": 2.0, "shard_id": 0})
    report = build("nemo", source, tmp_path / "m.jsonl")
    assert rows_of(tmp_path / "m.jsonl") == rows_of(source) and report.not_looked_at == 2
    with pytest.raises(ValueError, match=r":1: bad duration: a row of a tarred manifest must state"):
        build("nemo", jsonl(source, {"audio_filepath": "a.flac"}), tmp_path / "m.jsonl")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "x"}, "no audio_filepath: audio_filepath is None; the row has text"),
        ({"audio_filepath": "no.wav"}, "audio missing: no.wav is neither there nor in"),
        ({"audio_filepath": "a.wav", "duration": 0}, "bad duration: 0 is not"),
        ({"audio_filepath": "a.wav", "offset": "1"}, "bad offset: offset is '1'"),
        ({"audio_filepath": "a.wav", "duration": 2.0}, "behind the end of the recording: it ends at 2.000 s"),
        ({"audio_filepath": "a.wav", "orig_sample_rate": 16000},
         "wrong sample rate: orig_sample_rate is 16000, .*a.wav has 8000 Hz"),
        ({"audio_filepath": "b.flac"}, "double id: .*b.flac@0.0' is also that of .*m.json:1"),
    ],
)  # fmt: skip
def test_nemo_rows_that_cannot_be_used_are_named(audio, row, message):
    source = jsonl(audio / "m.json", {"audio_filepath": "b.flac"}, row)
    with pytest.raises(ValueError, match=rf"m\.json:2: {message}"):
        build("nemo", source, audio / "out.jsonl")


def test_a_bad_line_of_json_is_named(tmp_path):
    (tmp_path / "m.json").write_text('{"audio_filepath": "a"\n')
    with pytest.raises(ValueError, match=r"m\.json:1: not a JSON object"):
        build("nemo", tmp_path / "m.json", tmp_path / "out.jsonl")


def cut(name, path, **more):
    recording = {
        "id": f"rec-{name}",
        "sources": [{"type": "file", "channels": [0, 1] if "st" in path else [0], "source": path}],
        "sampling_rate": 8000, "num_samples": 8000, "duration": 1.0,
    }  # fmt: skip
    supervisions = [
        {"id": "b", "start": 0.3, "duration": 0.2, "text": "world", "speaker": "s", "language": "en"},
        {"id": "a", "start": 0, "duration": 0.2, "text": "hello", "speaker": "s"},
    ]
    return {"id": name, "start": 0.25, "duration": 0.5, "channel": 0, "supervisions": supervisions,
            "recording": recording, "type": "MonoCut", **more}  # fmt: skip


def test_lhotse_cuts_become_rows(audio):
    lines = [cut("c1", "a.wav"), cut("c2", "st.wav", channel=1, supervisions=[])]
    source = audio / "cuts.jsonl.gz"
    source.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
    build("lhotse", source, audio / "m.jsonl", audio_dir=audio / "made")
    first, second = rows_of(audio / "m.jsonl")
    assert first == {"id": "c1", "audio_filepath": "a.wav", "duration": 0.5, "offset": 0.25,
                     "text": "hello world", "speaker": "s", "lang": "en"}  # fmt: skip
    assert np.array_equal(read_audio(audio / second["audio_filepath"])[0] * 32768, noise(8000, 4))
    source.write_bytes(source.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"cuts\.jsonl\.gz: the compressed file is damaged"):
        build("lhotse", source, audio / "m.jsonl")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "MixedCut"}, "no plain cut: MixedCut"),
        ({"duration": None}, "bad segment: it begins at 0.25 s and lasts None s"),
        ({"duration": 1.0}, "behind the end of the recording"),
        ({"recording": {"id": "r", "sources": [{"type": "url", "channels": [0], "source": "http://x"}]}},
         "no audio: audio of type 'url'"),
        ({"recording": {"id": "r", "sources": [{"type": "command", "channels": [0], "source": "cat a.wav"}]}},
         "pipe: .*--allow-pipes"),
        ({"recording": cut("r", "a.wav")["recording"] | {"transforms": [{"name": "Speed"}]}}, "no plain cut"),
    ],
)  # fmt: skip
def test_lhotse_cuts_that_cannot_be_used_are_named(audio, change, message):
    source = jsonl(audio / "cuts.jsonl", cut("c1", "a.wav"), cut("c2", "a.wav") | change)
    with pytest.raises(ValueError, match=rf"cuts\.jsonl:2: {message}"):
        build("lhotse", source, audio / "m.jsonl")


def wav_bytes(samples, rate=8000, container="WAV"):
    content = io.BytesIO()
    soundfile.write(content, samples, rate, format=container)
    return content.getvalue()


def hub_rows():
    return {
        "audio": [
            {"bytes": wav_bytes(noise(8000, 1)), "path": "x.wav"},
            {"bytes": wav_bytes(noise(4000, 2), container="FLAC"), "path": None},
            {"bytes": None, "path": "a.wav"},
        ],
        "sentence": ["eins", None, "drei"],
        "client_id": ["s1", "s2", ""],
        "language": [1, 0, 1],
    }


def test_parquet_shards_give_rows_and_files(audio):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    features = {"language": {"names": ["de", "en"], "_type": "ClassLabel"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table = pyarrow.table(hub_rows()).replace_schema_metadata(metadata)
    (audio / "hub").mkdir()
    parquet.write_table(table, audio / "hub" / "train-00000-of-00001.parquet", row_group_size=2)
    options = SourceOptions(root=audio, split="train")
    build("huggingface", audio / "hub", audio / "m.jsonl", audio_dir=audio / "made", source=options)
    shard = "train-00000-of-00001"
    rows = rows_of(audio / "m.jsonl")
    written = [audio / row["audio_filepath"] for row in rows]
    for row in rows:
        row["audio_filepath"] = re.sub(r"-[0-9a-f]{8}\.", ".", row["audio_filepath"])
    assert rows == [
        {"id": f"{shard}-000001", "audio_filepath": f"made/{shard}-000001.wav", "duration": 1.0,
         "text": "eins", "speaker": "s1", "lang": "en"},
        {"id": f"{shard}-000002", "audio_filepath": f"made/{shard}-000002.flac", "duration": 0.5,
         "speaker": "s2", "lang": "de"},
        {"id": f"{shard}-000003", "audio_filepath": "a.wav", "duration": 1.0, "text": "drei", "lang": "en"},
    ]  # fmt: skip
    assert written[0].read_bytes() == hub_rows()["audio"][0]["bytes"]
    with pytest.raises(ValueError, match=r"row 1: needs --audio-dir"):
        build("huggingface", audio / "hub", audio / "m.jsonl", source=options)
    for wrong, message in (
        (SourceOptions(audio_column="sound"), "--audio-column sound: the columns are audio, sentence"),
        (SourceOptions(text_column="words"), "--text-column words: the columns are"),
    ):
        with pytest.raises(ValueError, match=message):
            build("huggingface", audio / "hub", audio / "m.jsonl", source=wrong)
    with pytest.raises(FileNotFoundError, match=r"no \.parquet or \.arrow file of split test"):
        build("huggingface", audio / "hub", audio / "m.jsonl", source=SourceOptions(split="test"))
    shard_file = audio / "hub" / f"{shard}.parquet"
    shard_file.write_bytes(shard_file.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"parquet: the shard is damaged after row 0"):
        build("huggingface", audio / "hub", audio / "m.jsonl", audio_dir=audio / "made")


def test_what_save_to_disk_wrote_is_read(audio):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
         "sentence": datasets.Value("string"), "client_id": datasets.Value("string"),
         "language": datasets.ClassLabel(names=["de", "en"])}
    )  # fmt: skip
    data = datasets.Dataset.from_dict(hub_rows(), features=features)
    datasets.DatasetDict({"train": data, "test": data.select([0])}).save_to_disk(audio / "saved")
    options = SourceOptions(root=audio, split="train")
    build("huggingface", audio / "saved", audio / "m.jsonl", audio_dir=audio / "made", source=options)
    rows = rows_of(audio / "m.jsonl")
    assert [(row.get("text"), row["lang"], row["duration"]) for row in rows] == [
        ("eins", "en", 1.0),
        (None, "de", 0.5),
        ("drei", "en", 1.0),
    ]


def test_a_missing_pyarrow_is_said_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"needs pyarrow, .*pip install 'nest_ssl\[huggingface\]'"):
        build("huggingface", tmp_path, tmp_path / "m.jsonl")


def test_ids_that_come_twice_are_named_with_both_places(audio):
    source = jsonl(audio / "m.jsonl", speech("a.wav", "x", key="k"), speech("b.flac", "y", key="k"))
    with pytest.raises(ValueError, match=r"m\.jsonl:2: double id: 'k' is also that of .*m\.jsonl:1"):
        build("funasr", source, audio / "out.jsonl")
