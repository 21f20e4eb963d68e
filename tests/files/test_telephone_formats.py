"""Telephone formats: decoded as reference programs do, parts exact, damage named."""

import io
import shutil
import subprocess

import av
import numpy as np
import pytest
import soundfile

from nest_ssl.files import streams
from nest_ssl.files.audio import audio_info, read_audio
from nest_ssl.files.shorten import decode_shorten
from nest_ssl.files.telephone_formats import AMR_BYTES, AMR_MAGIC
from tests.files.telephone_audio import BitWriter, shorten, sphere


def speech(count: int = 4000, rate: int = 8000) -> np.ndarray:
    """(count,) int16: a tone that rises, and noise."""
    time = np.arange(count) / rate
    tone = 8000 * np.sin(2 * np.pi * (200 + 300 * time) * time)
    return (tone + 300 * np.random.default_rng(0).standard_normal(count)).astype(np.int16)


def g711(samples: np.ndarray, subtype: str) -> bytes:
    coded = io.BytesIO()
    soundfile.write(coded, samples, 8000, format="RAW", subtype=subtype)
    return coded.getvalue()


def expanded(content: bytes, subtype: str) -> np.ndarray:
    return soundfile.read(
        io.BytesIO(content), format="RAW", subtype=subtype, samplerate=8000, channels=1, dtype="float32"
    )[0]


def check_parts(path, whole: np.ndarray, rate: int) -> None:
    """Parts are what the whole has there, to the last bit."""
    for offset_s, duration_s in ((0.1, 0.05), (0.12345, None), (0.3001, 9.0)):
        part, _ = read_audio(path, offset_s=offset_s, duration_s=duration_s)
        start = int(offset_s * rate)
        end = None if duration_s is None else start + int(duration_s * rate)
        assert np.array_equal(part, whole[start:end])


@pytest.mark.parametrize(
    ("suffix", "subtype", "size"),
    [
        (".ul", "ULAW", 4000), (".PCMU", "ULAW", 4000), (".al", "ALAW", 4000), (".alaw", "ALAW", 4000),
        (".vox", "VOX_ADPCM", 2000), (".gsm", "GSM610", 825), (".sln", "PCM_16", 8000),
    ],
)  # fmt: skip
def test_headerless_files_are_told_by_their_suffix(tmp_path, suffix, subtype, size):
    content = g711(speech(), subtype)
    assert len(content) == size
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    info = audio_info(path)
    assert (info.sample_rate, info.num_frames, info.channels) == (8000, 4000, 1)
    whole, rate = read_audio(path)
    reference = soundfile.read(
        io.BytesIO(content), frames=4000, format="RAW", subtype=subtype, samplerate=8000, channels=1,
        dtype="float32",
    )[0]  # fmt: skip
    assert rate == 8000 and np.array_equal(whole, reference)
    check_parts(path, whole, 8000)


@pytest.mark.skipif(shutil.which("sox") is None, reason="sox is not installed")
@pytest.mark.parametrize("suffix", [".vox", ".gsm", ".ul", ".al", ".sph", ".cvsd"])
def test_sox_decodes_the_same(tmp_path, suffix):
    soundfile.write(tmp_path / "a.wav", speech(), 8000)
    subprocess.run(["sox", "a.wav", f"a{suffix}"], cwd=tmp_path, check=True)
    decoded = subprocess.run(
        ["sox", f"a{suffix}", "-t", "raw", "-e", "signed", "-b", "16", "-"],
        cwd=tmp_path, check=True, capture_output=True,
    ).stdout  # fmt: skip
    reference = np.frombuffer(decoded, np.int16)
    ours = read_audio(tmp_path / f"a{suffix}")[0] * 32768
    assert len(ours) == len(reference) and np.abs(ours - reference).max() <= (16 if suffix == ".vox" else 1)


def test_g722_and_amr_parts_are_those_of_the_whole(tmp_path):
    for suffix, codec, rate in ((".g722", "g722", 16000), (".amr", "libopencore_amrnb", 8000)):
        path = tmp_path / f"a{suffix}"
        encoder = av.CodecContext.create(codec, "w")
        encoder.sample_rate, encoder.layout, encoder.format = rate, "mono", "s16"
        if suffix == ".amr":
            encoder.bit_rate = 12200
        packets = []
        for begin in range(0, rate, rate // 50):
            frame = av.AudioFrame.from_ndarray(
                speech(rate, rate)[None, begin : begin + rate // 50], "s16", "mono"
            )
            frame.sample_rate = rate
            packets += encoder.encode(frame)
        packets += encoder.encode(None)
        content = b"".join(bytes(packet) for packet in packets)
        path.write_bytes((AMR_MAGIC if suffix == ".amr" else b"") + content)
        whole, found = read_audio(path)
        info = audio_info(path)
        assert found == rate and info.num_frames == len(whole) and abs(len(whole) - rate) <= rate // 50
        assert not info.seekable and np.abs(whole).max() > 0.1
        check_parts(path, whole, rate)


def test_amr_frames_of_every_type_are_counted(tmp_path):
    frames = [bytes([kind << 3 | 4]) + bytes(AMR_BYTES[kind] - 1) for kind in (0, 7, 8, 15, 3)]
    path = tmp_path / "a.amr"
    path.write_bytes(AMR_MAGIC + b"".join(frames))
    assert audio_info(path).num_frames == 5 * 160
    path.write_bytes(AMR_MAGIC + b"".join(frames)[:-3])
    assert audio_info(path).missing_frames == 160
    with pytest.raises(ValueError, match=r"a\.amr: the audio is damaged: it ends 0\.020 s before"):
        read_audio(path)


def test_the_content_wins_over_the_suffix(tmp_path):
    soundfile.write(tmp_path / "a.wav", speech(), 8000)
    for name in ("a.ul", "a.gsm", "a.vox", "a.mp3", "a.raw", "a"):
        shutil.copy(tmp_path / "a.wav", tmp_path / name)
        assert np.array_equal(read_audio(tmp_path / name)[0] * 32768, speech())


@pytest.mark.parametrize(
    ("fields", "content", "expected"),
    [
        ({"sample_byte_format": "01"}, speech().astype("<i2").tobytes(), speech() / 32768),
        ({"sample_byte_format": "10"}, speech().astype(">i2").tobytes(), speech() / 32768),
        ({"sample_n_bytes": 1, "sample_coding": "ulaw"}, g711(speech(), "ULAW"),
         expanded(g711(speech(), "ULAW"), "ULAW")),
        ({"sample_n_bytes": 1, "sample_coding": "alaw"}, g711(speech(), "ALAW"),
         expanded(g711(speech(), "ALAW"), "ALAW")),
        ({"sample_coding": "pcm,embedded-shorten-v2.00"}, shorten([speech().tolist()], 5, [1, 2, 3]),
         speech() / 32768),
    ],
)  # fmt: skip
def test_sphere_is_read_in_every_coding(tmp_path, fields, content, expected):
    path = tmp_path / "a.sph"
    path.write_bytes(sphere(content, sample_count=4000, **fields))
    info = audio_info(path)
    assert (info.sample_rate, info.num_frames, info.channels) == (8000, 4000, 1)
    whole, _ = read_audio(path)
    assert np.array_equal(whole, expected.astype(np.float32))
    check_parts(path, whole, 8000)


def test_sphere_without_a_count_takes_it_from_the_file(tmp_path):
    for name, content in (("a", speech().tobytes()), ("b", shorten([speech().tolist()], 5, [1]))):
        (tmp_path / f"{name}.sph").write_bytes(sphere(content))
        assert audio_info(tmp_path / f"{name}.sph").num_frames == 4000


def test_two_channels_of_a_sphere_file_are_told_apart(tmp_path):
    both = np.stack([speech(), speech()[::-1]], axis=1)
    path = tmp_path / "call.sph"
    compressed = shorten([both[:, 0].tolist(), both[:, 1].tolist()], 5, [2])
    for content, coding in ((both.tobytes(), "pcm"), (compressed, "pcm,embedded-shorten-v2.00")):
        path.write_bytes(sphere(content, channel_count=2, sample_count=4000, sample_coding=coding))
        for channel in (0, 1):
            assert np.array_equal(read_audio(path, channel=channel)[0] * 32768, both[:, channel])
        with pytest.raises(ValueError, match=r"call\.sph: the file has 2 channels; set channel_selector"):
            read_audio(path)


def wav_head(channels: int, count: int) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, np.zeros((count, channels)), 8000, format="WAV", subtype="PCM_16")
    return content.getvalue()[:44]


@pytest.mark.parametrize("functions", [[0], [1], [2], [3], [7], [0, 1, 2, 3, 7, 8]])
@pytest.mark.parametrize("num_means", [0, 4])
@pytest.mark.parametrize("shift", [0, 3])
def test_shorten_gives_what_was_written_and_what_ffmpeg_decodes(functions, num_means, shift):
    left, right = speech(1024).astype(int) // 16 + 40, speech(1024)[::-1].astype(int) // 16 - 25
    stream = shorten(
        [left.tolist(), right.tolist()], 5, functions, shift, num_means=num_means, linear=(40, -20, 5),
        verbatim=wav_head(2, 1024),
    )  # fmt: skip
    decoded, coding = decode_shorten(stream)
    if 8 not in functions:
        assert np.array_equal(decoded, np.stack([left, right], axis=1) << shift)
    with av.open(io.BytesIO(stream), format="shn") as container:
        reference = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1).T
    assert coding == "pcm16" and np.array_equal(decoded, reference)


@pytest.mark.parametrize("kind", [0, 8, 9])
def test_shorten_gives_every_law_code_back(kind):
    values = [*range(-128, 128)]
    decoded, coding = decode_shorten(shorten([values], kind, [1]))
    assert coding == ("alaw" if kind == 9 else "ulaw")
    assert sorted(decoded[:, 0]) == list(range(256))  # one code for each value
    linear = expanded(decoded.astype(np.uint8).tobytes(), coding.upper())
    if kind == 0:  # minus zero is the lowest value, all others rise
        assert decoded[0, 0] == 0x7F and (np.diff(linear[1:]) > 0).all()
    else:
        assert (np.diff(linear) >= 0).all()


def test_shifted_mu_law_values_are_the_codes_of_multiples():
    """A block whose 14-bit magnitudes are multiples of 4 has a shift of 1: 64 in 16 bits is the value 4."""
    codes = decode_shorten(shorten([list(range(-3, 4))], 8, [1], shift=1))[0][:, 0]
    linear = expanded(codes.astype(np.uint8).tobytes(), "ULAW") * 32768
    assert codes[2] == 0x7F  # -1 is minus zero
    assert linear[3:].tolist() == [0, 16, 32, 48] and linear[:2].tolist() == [-32, -16]


def test_a_stream_over_many_windows_is_the_same(monkeypatch):
    monkeypatch.setattr("nest_ssl.files.shorten.WINDOW_BYTES", 64)
    assert np.array_equal(decode_shorten(shorten([speech().tolist()], 5, [1]))[0][:, 0], speech())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:1500], "shorten-compressed audio is damaged: the stream ends"),
        (lambda content: content[:1040] + bytes(400) + content[1440:], "shorten-compressed audio is damaged"),
        (lambda content: content[:1028] + b"\x07" + content[1029:], "shorten version 7 is not known"),
        (lambda content: content[:500], "SPHERE header has no end_head|not decoded|damaged"),
        (lambda content: content.replace(b"end_head", b"xxx_head"), "SPHERE header has no end_head"),
        (lambda content: content.replace(b"-i 8000", b"-i 8k00"), "sample_rate is '8k00', not a number"),
        (lambda content: content.replace(b"pcm,", b"mp4,"), "sample_coding mp4.* is not known; sph2pipe may"),
        (lambda content: content.replace(b"shorten-v2.00", b"wavpack-v2.00"), "w_decode decodes it"),
        (lambda content: content.replace(b"count -i 1", b"count -i 2"), "has 1 channels, not 2"),
    ],
)
def test_damaged_sphere_files_are_named(tmp_path, damage, message):
    content = sphere(
        shorten([speech().tolist()], 5, [1]), sample_count=4000, sample_coding="pcm,embedded-shorten-v2.00"
    )
    path = tmp_path / "bad.sph"
    path.write_bytes(damage(content))
    with pytest.raises(ValueError, match=rf"bad\.sph: .*({message})"):
        read_audio(path)


@pytest.mark.parametrize("seed", range(12))
def test_a_shorten_stream_with_flipped_bits_ends_in_a_sentence_or_in_samples(seed):
    content = bytearray(shorten([speech(1024).tolist()], 5, [1, 3, 7], linear=(40, -20)))
    rng = np.random.default_rng(seed)
    for place in rng.integers(5, len(content), 3):
        content[place] ^= 1 << rng.integers(8)
    try:
        decoded, _ = decode_shorten(bytes(content))
    except ValueError:
        return
    assert decoded.ndim == 2


def test_a_few_bytes_do_not_become_hours_of_zeros():
    out = BitWriter()
    for value in (3, 1, 1 << 16, 0, 0, 0):  # int16, one channel, blocks of 65536
        out.number(value)
    for _ in range(2000):
        out.unsigned(8, 2)  # a block of zeros
    out.unsigned(4, 2)
    content = b"ajkg\x02" + out.content()
    for num_frames in (-1, 8000):
        with pytest.raises(ValueError, match=r"more than .* samples: the stream or the header is damaged"):
            decode_shorten(content, 1, num_frames)


def test_a_block_does_not_grow_over_the_first_one():
    out = BitWriter()
    for value in (3, 1, 256, 0, 0, 0):
        out.number(value)
    out.unsigned(5, 2)
    out.number(257)
    with pytest.raises(ValueError, match="a block of 257 samples"):
        decode_shorten(b"ajkg\x02" + out.content())


def test_gsm_and_amr_frames_that_do_not_exist_are_named(tmp_path):
    frames = soundfile_gsm()
    frames[33 * 20] ^= 0x80
    (tmp_path / "a.gsm").write_bytes(frames)
    with pytest.raises(ValueError, match=r"a\.gsm: no GSM 06\.10 frames .*frame 20 is none"):
        read_audio(tmp_path / "a.gsm")
    (tmp_path / "a.amr").write_bytes(b"#!AMR\n" + b"\x7c" * 5 + bytes([13 << 3]))
    with pytest.raises(ValueError, match=r"a\.amr: .*frame 5 is of type 13, which does not exist"):
        audio_info(tmp_path / "a.amr")


def soundfile_gsm() -> bytearray:
    """25 frames."""
    stream = io.BytesIO()
    soundfile.write(stream, speech(4000), 8000, format="RAW", subtype="GSM610")
    return bytearray(stream.getvalue())


def test_cut_off_files_are_named(tmp_path):
    path = tmp_path / "a.sph"
    path.write_bytes(sphere(speech().tobytes()[:6000], sample_count=4000))
    assert audio_info(path).missing_frames == 1000
    assert len(read_audio(path, duration_s=0.3)[0]) == 2400  # what is there can be used
    soundfile.write(tmp_path / "a.wav", speech(), 8000)
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(content[:-2000])
    assert audio_info(tmp_path / "a.wav").missing_frames == 1000
    for cut in (path, tmp_path / "a.wav"):
        with pytest.raises(
            ValueError, match=r"a\.\w+: the audio is damaged: it ends 0\.125 s before the end"
        ):
            read_audio(cut)


def test_a_wav_written_into_a_pipe_is_whole_whatever_size_it_states(tmp_path):
    soundfile.write(tmp_path / "a.wav", speech(), 8000)
    content = (tmp_path / "a.wav").read_bytes()
    for size in (0x7FFFF000, 0xFFFFFFFF):
        stated = content[:40] + size.to_bytes(4, "little") + content[44:]
        (tmp_path / "a.wav").write_bytes(stated)
        assert len(read_audio(tmp_path / "a.wav")[0]) == 4000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.wav", b"", "the file is empty"),
        ("a.sph", b"", "the file is empty"),
        ("a.raw", bytes(100), r"files do not say their coding and sample rate; convert it"),
        ("a.gsm", bytes(99), r"no GSM 06\.10 frames"),
        ("a.m4a", b"\0\0\0\x18ftypM4A garbage", r"\(libsndfile\).*\(PyAV\)"),
        ("a.webm", b"not a film", r"\(PyAV\)"),
        ("a.txt", b"some text", "Format not recognised"),
    ],
)
def test_what_is_no_audio_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: not readable as audio: .*{message}"):
        read_audio(tmp_path / name)


def test_values_that_are_not_finite_are_named(tmp_path):
    samples = np.zeros(100, np.float32)
    samples[7] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"a\.wav: 1 of 100 samples are not finite .*first is sample 7;"):
        read_audio(tmp_path / "a.wav")
    assert len(read_audio(tmp_path / "a.wav", offset_s=0.001)[0]) == 92


@pytest.mark.parametrize("codec", ["aac", "libopus"])
def test_containers_are_read_through_pyav(tmp_path, codec):
    path = tmp_path / {"aac": "a.m4a", "libopus": "a.webm"}[codec]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48000 if codec == "libopus" else 16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(speech(16000, 16000)[None], "s16", "mono")
        frame.sample_rate = 16000
        resampler = av.AudioResampler(stream.format.name, "mono", stream.rate, stream.frame_size)
        for resampled in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(resampled))
        container.mux(stream.encode(None))
    whole, rate = read_audio(path)
    info = audio_info(path)
    assert abs(len(whole) / rate - 1) < 0.1 and abs(info.duration_s - len(whole) / rate) < 0.06
    check_parts(path, whole, rate)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_parts_of_ogg_are_those_of_the_whole(tmp_path, subtype):
    soundfile.write(tmp_path / "a.ogg", speech(16000), 8000, format="OGG", subtype=subtype)
    whole, _ = read_audio(tmp_path / "a.ogg")
    check_parts(tmp_path / "a.ogg", whole, 8000)


def test_parts_of_a_gsm_wav_are_those_of_the_whole(tmp_path):
    soundfile.write(tmp_path / "a.wav", speech(), 8000, subtype="GSM610")
    whole, _ = read_audio(tmp_path / "a.wav")
    assert len(whole) >= 4000
    check_parts(tmp_path / "a.wav", whole, 8000)


def test_streams_are_read_by_their_name_and_left_open(tmp_path):
    class Member(io.BytesIO):
        def __str__(self) -> str:
            return "archive.tar: a.ul"

    for content in (g711(speech(), "ULAW"), sphere(speech().tobytes())):
        stream = Member(content)
        assert len(read_audio(stream)[0]) == 4000
        assert not stream.closed


def test_a_missing_pyav_is_said_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    (tmp_path / "a.g722").write_bytes(bytes(800))
    with pytest.raises(ValueError, match=r"a\.g722: .*needs the package av \(pip install av\)"):
        read_audio(tmp_path / "a.g722")
    with pytest.raises(ValueError, match=r"no decoder|needs the package"):
        streams.decoded_packets("no_such_codec", 8000, [])
