"""Audio files made wrong on purpose: case number N is the same file everywhere.

What a reader owes for a case is its `debt`:

ANY      samples or a refusal; whether the change is seen lies with the format.
NOTICE   a refusal, or exactly the samples of the file before the change: it was cut, and what is missing was
         either no audio or must be seen.
REFUSE   a refusal: the header promises more audio than there is.

Not owed, as nothing in the file tells:
.ul .al .g722 .vox      no header: a shorter file is a shorter recording.
.gsm, AMR               no length is stated: a cut between two frames is not seen, one within a frame is.
OGG                     a cut between two pages is not seen: the end mark is often left out (RFC 7845, 4);
                        a page has a place in a stream that may begin anywhere, no length is stated.
WAV ... CAF             sizes that writers into pipes leave promise nothing: all that follows is audio.
data of PCM and A-law   has no check sum: a flipped bit is another sample.
"""

from __future__ import annotations

import io
import random
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

import av
import numpy as np
import soundfile

from tests.files.telephone_audio import shorten, sphere

ANY, NOTICE, REFUSE = "any", "notice", "refuse"
SAMPLES = 1600
UNKNOWN = (
    (0, 0),
    (0x7F000000, 0x80000100),
    (0xFFFF0000, 0xFFFFFFFF),
)  # of sizes, as writers into pipes leave
RATES = (0, 1, 7, 4_000_000_000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
COUNTS = (0, 2, 255, 1024, 65535)


class Field(NamedTuple):
    """A number in a header.  role: "size" in bytes or "frames" of the audio, "rate", "channels", "other"."""

    offset: int
    width: int
    role: str
    order: str = "little"


class Base(NamedTuple):
    """A file that is right.  end: bytes up to the end of the audio; unit: bytes; see `cut`."""

    name: str
    suffix: str
    content: bytes
    fields: tuple[Field, ...] = ()
    chunks: tuple[tuple[int, int], ...] = ()  # begin and end
    states_length: bool = True
    unit: int = 0  # where no length is stated: a cut that is no multiple of it after `start` is seen
    start: int = 0


class Case(NamedTuple):
    name: str
    suffix: str
    content: bytes
    debt: str
    base: str


def tone() -> np.ndarray:
    """0.2 s at 8 kHz, int16 (T,): a gliding tone with some noise."""
    time = np.arange(SAMPLES) / 8000
    noise = np.random.default_rng(20260101).normal(0, 300, SAMPLES)
    return (8000 * np.sin(2 * np.pi * (300 + 2000 * time) * time) + noise).astype(np.int16)


def written(container: str, subtype: str, **options: str) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, tone(), 8000, format=container, subtype=subtype, **options)
    return stream.getvalue()


def muxed(container: str, codec: str, rate: int = 8000) -> bytes:
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as file:
        track = file.add_stream(codec, rate=rate, layout="mono")
        resampler = av.AudioResampler(format=track.format.name, layout="mono", rate=rate)
        frame = av.AudioFrame.from_ndarray(tone()[None], format="s16", layout="mono")
        frame.sample_rate = 8000
        frames = [*resampler.resample(frame), *resampler.resample(None)]
        fifo = av.AudioFifo()
        for part in frames:
            part.pts = None
            fifo.write(part)
        size = track.codec_context.frame_size or 1600
        while (part := fifo.read(size, partial=True)) is not None:
            file.mux(track.encode(part))
        file.mux(track.encode(None))
    return stream.getvalue()


def riff_fields(content: bytes, order: str = "little") -> tuple[list[Field], list[tuple[int, int]]]:
    """Sizes, rates and counts of a WAV or RF64 file, and where its chunks are."""
    fields, chunks = [Field(4, 4, "other", order)], []
    position = 12
    while position + 8 <= len(content):
        name = content[position : position + 4]
        length = int.from_bytes(content[position + 4 : position + 8], order)
        begin = position + 8
        fields.append(Field(position, 4, "other"))
        fields.append(Field(position + 4, 4, "size" if name == b"data" else "other", order))
        if name == b"fmt ":
            fields += [Field(begin, 2, "other", order), Field(begin + 2, 2, "channels", order)]
            fields += [Field(begin + 4, 4, "rate", order), Field(begin + 8, 4, "other", order)]
            fields += [Field(begin + 12, 2, "other", order), Field(begin + 14, 2, "other", order)]
        if name == b"ds64":
            fields += [Field(begin, 8, "other"), Field(begin + 8, 8, "size"), Field(begin + 16, 8, "other")]
            length = 28
        if name == b"fact":
            fields.append(Field(begin, 4, "other", order))
        end = min(len(content), begin + length + length % 2)
        chunks.append((position, end))
        position = end
    if content[:4] == b"RF64":  # what the data chunk says is overruled by ds64
        fields = [f._replace(role="other") if f.role == "size" and f.width == 4 else f for f in fields]
    return fields, chunks


def aiff_fields(content: bytes) -> tuple[list[Field], list[tuple[int, int]]]:
    fields, chunks = [Field(4, 4, "other", "big")], []
    position = 12
    while position + 8 <= len(content):
        name = content[position : position + 4]
        length = int.from_bytes(content[position + 4 : position + 8], "big")
        begin, end = position + 8, min(len(content), position + 8 + length + length % 2)
        fields.append(Field(position + 4, 4, "size" if name == b"SSND" else "other", "big"))
        if name == b"COMM":
            fields += [Field(begin, 2, "channels", "big"), Field(begin + 2, 4, "frames", "big")]
            fields += [Field(begin + 6, 2, "other", "big"), Field(begin + 8, 2, "other", "big")]
            fields += [Field(begin + 10, 4, "other", "big")]
        if name == b"SSND":
            fields += [Field(begin, 4, "other", "big"), Field(begin + 4, 4, "other", "big")]
        chunks.append((position, end))
        position = end
    return fields, chunks


def w64_fields(content: bytes) -> tuple[list[Field], list[tuple[int, int]]]:
    fields, chunks = [Field(16, 8, "other")], []
    position = 40
    while position + 24 <= len(content):
        name = content[position : position + 4]
        length = int.from_bytes(content[position + 16 : position + 24], "little")
        fields.append(Field(position + 16, 8, "size" if name == b"data" else "other"))
        begin = position + 24
        if name == b"fmt ":
            fields += [Field(begin, 2, "other"), Field(begin + 2, 2, "channels"), Field(begin + 4, 4, "rate")]
            fields += [Field(begin + 12, 2, "other"), Field(begin + 14, 2, "other")]
        end = min(len(content), position + -(-length // 8) * 8)
        chunks.append((position, end))
        position = end
    return fields, chunks


def caf_fields(content: bytes) -> tuple[list[Field], list[tuple[int, int]]]:
    fields, chunks = [], []
    position = 8
    while position + 12 <= len(content):
        name = content[position : position + 4]
        length = int.from_bytes(content[position + 4 : position + 12], "big")
        fields.append(Field(position + 4, 8, "size" if name == b"data" else "other", "big"))
        begin = position + 12
        if name == b"desc":
            fields += [Field(begin, 8, "other", "big")]  # the rate, a double
            fields += [Field(begin + at, 4, "other", "big") for at in (8, 12, 16, 20, 28)]
            fields += [Field(begin + 24, 4, "channels", "big")]
        end = min(len(content), begin + length)
        chunks.append((position, end))
        position = end
    return fields, chunks


def ogg_fields(content: bytes) -> tuple[list[Field], list[tuple[int, int]]]:
    fields, chunks = [], []
    position = 0
    while position + 27 <= len(content):
        segments = content[position + 26]
        begin = position + 27 + segments
        end = begin + sum(content[position + 27 : begin])
        fields += [Field(position + at, width, "other") for at, width in ((4, 1), (5, 1), (6, 8), (14, 4))]
        fields += [Field(position + at, width, "other") for at, width in ((18, 4), (22, 4), (26, 1))]
        if position == 0:
            fields += [Field(begin + at, 4, "other") for at in (8, 12, 16)]
        chunks.append((position, end))
        position = end
    return fields, chunks


AU_FIELDS = tuple(
    Field(at, 4, role, "big")
    for at, role in ((4, "other"), (8, "size"), (12, "other"), (16, "rate"), (20, "channels"))
)
# STREAMINFO: block sizes, frame sizes, then rate, channels, bits and total bit by bit, the MD5 sum
FLAC_FIELDS = tuple(
    Field(at, width, "other", "big")
    for at, width in ((4, 1), (5, 3), (8, 2), (10, 2), (12, 3), (15, 3), (18, 3), (20, 2), (21, 5), (26, 16))
) + (Field(22, 4, "frames", "big"),)


@cache
def bases() -> tuple[Base, ...]:
    """The files that the cases are made of."""
    made: list[Base] = []
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW", "IMA_ADPCM",
                    "MS_ADPCM", "GSM610"):  # fmt: skip
        content = written("WAV", subtype)
        fields, chunks = riff_fields(content)
        made.append(Base(f"wav {subtype}", ".wav", content, tuple(fields), tuple(chunks)))
    for container, subtype, suffix, parse in (
        ("WAVEX", "PCM_16", ".wav", riff_fields),
        ("RF64", "PCM_16", ".wav", riff_fields),
        ("AIFF", "PCM_16", ".aiff", aiff_fields),
        ("AIFF", "FLOAT", ".aif", aiff_fields),
        ("W64", "PCM_16", ".w64", w64_fields),
        ("CAF", "PCM_16", ".caf", caf_fields),
        ("OGG", "VORBIS", ".ogg", ogg_fields),
        ("OGG", "OPUS", ".opus", ogg_fields),
    ):
        content = written(container, subtype)
        fields, chunks = parse(content)
        made.append(Base(f"{container} {subtype}", suffix, content, tuple(fields), tuple(chunks)))
    content = written("WAV", "PCM_16", endian="BIG")
    fields, chunks = riff_fields(content, "big")
    made.append(Base("rifx PCM_16", ".wav", content, tuple(fields), tuple(chunks)))
    made.append(Base("au PCM_16", ".au", written("AU", "PCM_16"), AU_FIELDS))
    made.append(Base("au ULAW", ".au", written("AU", "ULAW"), AU_FIELDS))
    made.append(Base("flac PCM_16", ".flac", written("FLAC", "PCM_16"), FLAC_FIELDS))
    made.append(Base("flac PCM_24", ".flac", written("FLAC", "PCM_24"), FLAC_FIELDS))
    made.append(Base("mp3 Info", ".mp3", written("MP3", "MPEG_LAYER_III")))
    raw = {name: written("RAW", name) for name in ("ULAW", "ALAW", "VOX_ADPCM", "GSM610")}
    pcm = tone().astype(">i2").tobytes()
    made.append(Base("sphere", ".sph", sphere(pcm, sample_count=SAMPLES, sample_byte_format="10")))
    counted = {"sample_n_bytes": 1, "sample_coding": "ulaw", "sample_count": SAMPLES}
    made.append(Base("sphere ulaw", ".sph", sphere(raw["ULAW"], **counted)))
    stream = shorten([tone().tolist()], 3, [1, 2, 0, 3])
    embedded = {"sample_count": SAMPLES, "sample_coding": "pcm,embedded-shorten-v2.00"}
    made.append(Base("sphere shorten", ".sph", sphere(stream, **embedded)))
    del embedded["sample_count"]
    made.append(Base("sphere shorten uncounted", ".sph", sphere(stream, **embedded)))
    amr = {"states_length": False, "unit": 13, "start": 6}
    made.append(Base("amr", ".amr", muxed("amr", "libopencore_amrnb"), **amr))
    made.append(Base("gsm", ".gsm", raw["GSM610"], states_length=False, unit=33))
    for suffix, name in ((".ul", "ULAW"), (".al", "ALAW"), (".vox", "VOX_ADPCM")):
        made.append(Base(name, suffix, raw[name], states_length=False))
    made.append(Base("g722", ".g722", muxed("g722", "g722", 16000), states_length=False))
    made.append(Base("m4a", ".m4a", muxed("ipod", "aac", 16000)))
    return tuple(made)


def cut(base: Base, length: int) -> Case:
    """The first `length` bytes."""
    debt = NOTICE
    if not base.states_length and (base.unit == 0 or (length - base.start) % base.unit == 0):
        debt = ANY
    if base.name.startswith("OGG") and length in {end for _, end in base.chunks}:
        debt = ANY
    return Case(f"{base.name}: cut at {length}", base.suffix, base.content[:length], debt, base.name)


def with_number(base: Base, field: Field, value: int) -> Case:
    """A number of the header changed; OGG pages get the check sum that fits."""
    value &= (1 << 8 * field.width) - 1
    before = int.from_bytes(base.content[field.offset :][: field.width], field.order)
    content = bytearray(base.content)
    content[field.offset : field.offset + field.width] = value.to_bytes(field.width, field.order)
    unknown = (*UNKNOWN, (1 << 62, (1 << 64) - 1))
    debt = ANY
    # a size may count its own head, or be rounded up
    spare = 40 if base.name.startswith("W64") else 4
    counts = field.role in ("size", "frames")
    if counts and value > before + spare and not any(a <= value <= b for a, b in unknown):
        debt = REFUSE
    name = f"{base.name}: {field.role} at {field.offset} is {value:#x}, not {before:#x}"
    if base.content.startswith(b"OggS"):
        content = with_check_sums(base, content)
    return Case(name, base.suffix, bytes(content), debt, base.name)


def with_check_sums(base: Base, content: bytearray) -> bytearray:
    for begin, end in base.chunks:
        content[begin + 22 : begin + 26] = bytes(4)
        content[begin + 22 : begin + 26] = ogg_check_sum(bytes(content[begin:end])).to_bytes(4, "little")
    return content


def ogg_check_sum(page: bytes) -> int:
    """CRC-32 of polynomial 04c11db7, not reflected, no final xor (RFC 3533), from zlib's reflected one."""
    reflected = page.translate(REVERSED)
    # zlib begins with all ones and ends with an inversion: both are linear, and taken out again
    plain = zlib.crc32(reflected) ^ zlib.crc32(bytes(len(page)))
    return int(f"{plain:032b}"[::-1], 2)


REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def with_text(base: Base, name: str, value: str) -> Case:
    """A field of a SPHERE header changed."""
    content, count = base.content, len(base.content)
    begin = content.find(name.encode())
    end = content.index(b"\n", begin) if begin >= 0 else begin
    debt = ANY
    if begin >= 0:
        line = f"{name} -i {value}".encode()
        content = (content[:begin] + line + content[end:1024]).rstrip(b" ").ljust(1024) + content[1024:]
        assert len(content) == count
        if name == "sample_count" and value.isdigit() and int(value) > SAMPLES:
            debt = REFUSE
    return Case(f"{base.name}: {name} is {value}", base.suffix, content, debt, base.name)


def planned() -> Iterator[Case]:
    """Every field with every value, every file cut at every field."""
    for base in bases():
        size = len(base.content)
        edges = {at + shift for field in base.fields for at in (field.offset,) for shift in (0, field.width)}
        edges |= {edge + shift for chunk in base.chunks for edge in chunk for shift in (-1, 0, 1)}
        edges |= {0, 1, 4, 12, 15, 16, 17, 32, 44, size // 4, size // 2, size - 33, size - 2, size - 1}
        yield from (cut(base, edge) for edge in sorted(edges) if 0 <= edge < size)
        for field in base.fields:
            top = (1 << 8 * field.width) - 1
            before = int.from_bytes(base.content[field.offset :][: field.width], field.order)
            values = {0, 1, top, top // 2, top // 2 + 1, before + 1, before - 1, 2 * before, 3 * before + 100}
            if field.width <= 8:
                values |= {top // 3, before + 0x10000}
            values |= set(RATES) if field.role == "rate" else set()
            values |= set(COUNTS) if field.role == "channels" else set()
            kept = {value & top for value in values} - {before}
            yield from (with_number(base, field, value) for value in sorted(kept))
        for begin, end in base.chunks:
            content = base.content
            chunk = content[begin:end]
            for verb, other in (("twice", content[:end] + chunk + content[end:]),
                                ("missing", content[:begin] + content[end:]),
                                ("last", content[:begin] + content[end:] + chunk)):  # fmt: skip
                yield Case(f"{base.name}: chunk at {begin} {verb}", base.suffix, other, ANY, base.name)
        if base.name.startswith("sphere"):
            for name in ("sample_rate", "sample_count", "channel_count", "sample_n_bytes", "sample_coding"):
                for value in ("0", "1", "-1", "2", "65535", "4000000000", "1e9", "1e400", "nan", "x", "1599",
                              "1601", "99999999999999999999"):  # fmt: skip
                    yield with_text(base, name, value)
        for garbage in (b"\0", b"\xff" * 7, b"TAG" + bytes(125), bytes(range(256)) * 5, base.content):
            changed = base.content + garbage
            yield Case(f"{base.name}: {len(garbage)} bytes after it", base.suffix, changed, ANY, base.name)


def at_random(number: int) -> Case:
    """Bits flipped, bytes cut out or put in, a random cut, a field with a random value, two of these."""
    draw = random.Random(f"hostile audio {number}")
    base = bases()[number % len(bases())]
    content, said, debt = bytearray(base.content), [], ANY
    if draw.random() < 0.3:
        return cut(base, draw.randrange(len(content)))
    fields = [field for field in base.fields if field.width <= 8]
    if fields and draw.random() < 0.3:
        return with_number(base, draw.choice(fields), draw.getrandbits(64))
    head = min(len(content), draw.choice((64, 64, 256, 2048, len(content))))
    for _ in range(draw.choice((1, 1, 2, 4, 32))):
        at = draw.randrange(head)
        match draw.randrange(4):
            case 0 | 1:
                content[at % len(content)] ^= 1 << draw.randrange(8)
                said.append(f"bit of {at}")
            case 2:
                content[at % len(content)] = draw.choice((0, 0x7F, 0x80, 0xFF))
                said.append(f"byte {at}")
            case 3 if draw.random() < 0.5:
                size = draw.choice((1, 2, 4, 100))
                del content[at : at + size]
                said.append(f"less {size} at {at}")
                content = content or bytearray(b"\0")
            case 3:
                content[at:at] = draw.randbytes(draw.choice((1, 2, 4, 100)))
                said.append(f"more at {at}")
    return Case(f"{base.name}: {', '.join(said)}", base.suffix, bytes(content), debt, base.name)


@cache
def all_cases(count: int) -> tuple[Callable[[], Case], ...]:
    """`count` cases in an order in which any beginning holds some of every kind."""
    fixed = list(planned())
    cases: list[Callable[[], Case]] = [lambda case=case: case for case in fixed]
    cases += [lambda number=number: at_random(number) for number in range(count - len(fixed))]
    random.Random("order").shuffle(cases)
    return tuple(cases[:count])
