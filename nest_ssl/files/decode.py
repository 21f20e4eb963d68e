"""One way to open audio: the format is told by its first bytes, for files without a header by the suffix."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from math import inf
from pathlib import Path, PurePath
from typing import IO, Any, Protocol

import numpy as np
import soundfile

from nest_ssl.files import containers, sphere, telephone_formats
from nest_ssl.files.streams import StreamReader

Audio = str | os.PathLike | io.IOBase  # a stream's str() names it in messages

# Formats whose header states the number of frames exactly; the others estimate it, a short read proves
# nothing.
EXACT_FORMATS = ("FLAC", "WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "NIST", "CAF")

# First bytes that no headerless recording has by chance: they win over the suffix.
MAGICS = (b"RIFF", b"RIFX", b"RF64", b"riff", b"fLaC", b"OggS", b"FORM", b".snd", b"caff", b"wvpk", b"ID3")
STREAM_MAGICS = (
    b"\x1aE\xdf\xa3",
    b"\x30\x26\xb2\x75",
    b"ajkg",
    b"wvpk",
    b"RIFF",
    b"caff",
    b"FORM",
    b"OggS",
    b"fLaC",
)
STREAM_SUFFIXES = (
    *(".aac", ".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".webm", ".mkv", ".mka", ".wma", ".ac3", ".ape"),
    *(".mp2", ".mp3", ".opus", ".oga", ".spx", ".shn", ".wv", ".tta", ".ts"),
)
# What only the sox program decodes.
SOX_SUFFIXES = (".cvs", ".cvsd", ".dvms", ".vms", ".lpc", ".lpc10", ".hcom", ".cdr")

# After a seek in these, libsndfile goes on inexactly: their decoders remember what came before.
FROM_THE_START = (
    *("VORBIS", "GSM610", "VOX_ADPCM", "G721_32", "G723_24", "G723_40"),
    *("NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32"),
)
LEAD_IN_S = {"MPEG_LAYER_III": 2.0, "OPUS": 2.0}  # decoded and dropped: longer than what these remember
SHORT_S = 60.0  # nearer to the start than this, decoding from there costs less than a wrong sample

RATES = (100, 10_000_000)  # Hz; what states another sample rate is damaged
BLOCK_FRAMES = 1 << 20  # read at a time where the header may lie about the length
UNKNOWN_FRAMES = 1 << 62  # what libsndfile gives for FLAC that was written into a pipe
WAV49_BYTES, WAV49_SAMPLES = 65, 320  # a block of GSM in a wav
PLAUSIBLE_FRAMES = 64  # in a byte; files of silence hold more, and are read in blocks

# Bytes of a sample in the codings of libsndfile in which they are the same for all.
SAMPLE_BYTES = {
    **{"PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4},
    **{"FLOAT": 4, "DOUBLE": 8},
}


class Reader(Protocol):
    """An open audio file.

    exact: num_frames is the true length; slack: so many frames fewer than num_frames may be decoded from a
    file that is whole, infinity where num_frames is an estimate; seekable: a part costs no decoding of what
    is before it; missing_frames: what the header states and the file lacks.
    """

    format: str
    exact: bool
    slack: float
    seekable: bool
    sample_rate: int
    num_frames: int
    missing_frames: int
    channels: int

    def read(self, start: int, count: int) -> np.ndarray:
        """Give (T, channels) float32 of `count` frames from `start` on, fewer at the end of the file."""

    def close(self) -> None:
        """Close the file; what was passed as an open stream stays open."""


def open_audio(source: Audio) -> Reader:
    """Open an audio file, or a stream of one; FileNotFoundError and ValueError name it."""
    if isinstance(source, io.IOBase):
        return _open(_Kept(source), source, str(source))
    if not Path(source).is_file():
        tried = "" if Path(source).is_absolute() else f", neither beside its manifest nor in {Path.cwd()}"
        raise FileNotFoundError(f"audio file {source} does not exist{tried}")
    try:
        file = open(source, "rb")  # noqa: SIM115  the reader that is given closes it
    except OSError as error:
        raise ValueError(f"{source}: not readable as audio: {error.strerror}") from error
    try:
        return _open(file, os.fspath(source), str(source))
    except BaseException:
        file.close()
        raise


def _open(file: Any, source: Any, name: str) -> Reader:
    reader = _reader(file, source, name)
    if not RATES[0] <= reader.sample_rate <= RATES[1]:
        raise ValueError(
            f"{name}: not readable as audio: its header states a sample rate of {reader.sample_rate} Hz"
        )
    return reader


def _reader(file: Any, source: Any, name: str) -> Reader:
    suffix = PurePath(name).suffix.lower()
    file.seek(0)
    head = file.read(16)
    if not head:
        raise ValueError(f"{name}: not readable as audio: the file is empty (0 bytes)")
    try:
        if head.startswith(sphere.MAGIC):
            return sphere.SphereReader(file)
        if head.startswith((telephone_formats.AMR_MAGIC, telephone_formats.AMR_WB_MAGIC)):
            return telephone_formats.AmrReader(file)
        if suffix in telephone_formats.HEADERLESS and not head.startswith(MAGICS):
            return telephone_formats.HeaderlessReader(file, suffix)
        if suffix in SOX_SUFFIXES:
            return _through_sox(source, name)
        promise = containers.promised(file, head)
    except ValueError as error:
        raise ValueError(f"{name}: not readable as audio: {error}") from error
    if suffix in telephone_formats.AMBIGUOUS:
        if not head.startswith(MAGICS):
            raise ValueError(
                f"{name}: not readable as audio: {suffix} files do not say their coding and sample rate; "
                f"convert it, for example: sox -t raw -r 8000 -e signed -b 16 -c 1 NAME{suffix} NAME.wav"
            )
        file.seek(0)
        source = io.BytesIO(file.read())  # soundfile takes the name .raw for its word
    mp3 = containers.mp3_frames(file) if _may_be_mp3(head, suffix) else None
    ogg_is_cut = head.startswith(containers.OGG_PAGE) and containers.ogg_is_cut(file)
    file.seek(0)
    try:
        reader = _SndfileReader(file, source)
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        said = reason(error)
    else:
        reader.compare(promise, mp3)
        if ogg_is_cut:
            reader.missing_frames = 1  # at least
        # libsndfile guesses the length of a variable bit rate from the first frame, and reads no further
        guessed = mp3 is not None and not mp3.stated and mp3.num_samples > reader.num_frames
        if not guessed and reader.num_frames < UNKNOWN_FRAMES:
            return reader
        said = "of a file that states no length only a part is read"
    if head.startswith(STREAM_MAGICS) or head[4:8] == b"ftyp" or suffix in STREAM_SUFFIXES or mp3:
        try:
            stream = StreamReader(file)
        except ValueError as error:
            said = f"{said} (libsndfile); {error} (PyAV)"
        else:
            stream.missing_frames = _missing(promise, stream.num_frames, None)
            if ogg_is_cut or mp3:
                stream.missing_frames = max(int(ogg_is_cut), mp3.missing if mp3 else 0, stream.missing_frames)
            return stream
    raise ValueError(f"{name}: not readable as audio: {said}")


def _may_be_mp3(head: bytes, suffix: str) -> bool:
    return head.startswith(b"ID3") or (
        (suffix in (".mp3", ".mp2") or head[:1] == b"\xff") and not head.startswith(MAGICS)
    )


def _missing(promise: containers.Promise | None, num_frames: int, frame_bytes: int | None) -> int:
    """Frames that are promised and not there; frame_bytes: None for codings whose frames differ in size."""
    if promise is None:
        return 0
    lacking = max(0, promise.frames - num_frames)
    if frame_bytes is not None:
        return max(lacking, promise.stated // frame_bytes - promise.present // frame_bytes)
    if promise.stated <= promise.present:
        return lacking
    share = (promise.stated - promise.present) / max(1, promise.present)
    return max(lacking, 1, round(share * num_frames))


class _Kept:
    """A caller's stream, which closing leaves open."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def close(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _SndfileReader:
    """Audio that libsndfile reads."""

    def __init__(self, file: IO[bytes], source: Any) -> None:
        self._file, self._source = file, source
        self._plausible_frames = PLAUSIBLE_FRAMES * file.seek(0, io.SEEK_END)
        self._used = False
        self._audio = audio = self._reopened()
        self._container, self._subtype = container, subtype = audio.format, audio.subtype
        if container == "RAW":  # libsndfile takes an .au file without a header for mu-law
            raise RuntimeError("it has no header")
        self.format = f"{container} {subtype}"
        self.sample_rate, self.channels = audio.samplerate, audio.channels
        self.num_frames = max(0, audio.frames)
        self.exact = container in EXACT_FORMATS and subtype not in FROM_THE_START
        self._may_seek = audio.seekable()
        self._from_start = subtype in FROM_THE_START or not self._may_seek
        self.seekable = not self._from_start
        self.may_hold_nan = subtype in ("FLOAT", "DOUBLE")
        self.slack: float = 0 if container in (*EXACT_FORMATS, "OGG") else inf
        self.missing_frames = 0

    def read(self, start: int, count: int) -> np.ndarray:
        """Give (T, channels) float32, integers as fractions of their full scale; ValueError for damage."""
        audio = self._audio
        lead_in = LEAD_IN_S.get(self._subtype)
        begin = start
        if self._from_start or (lead_in and start <= SHORT_S * self.sample_rate):
            begin = 0
        elif lead_in:
            begin = start - int(lead_in * self.sample_rate)
        if self._may_seek:
            audio.seek(begin)
        elif self._used:  # libsndfile cannot go back in these (GSM in a wav)
            audio = self._audio = self._reopened()
        self._used = True
        skip = start - begin
        while skip > 0:
            skipped = len(audio.read(min(skip, 1 << 20), dtype="float32", always_2d=True))
            if skipped == 0:
                break
            skip -= skipped
        if not self._may_seek:  # soundfile would allocate whatever is asked for
            count = max(0, min(count, self.num_frames - start))
        if min(count, self.num_frames) <= self._plausible_frames:
            return audio.read(count, dtype="float32", always_2d=True)
        blocks = [np.zeros((0, self.channels), np.float32), *self._blocks(audio, count)]
        return np.concatenate(blocks)

    def close(self) -> None:
        """Close the file."""
        self._audio.close()
        self._file.close()

    def _reopened(self) -> soundfile.SoundFile:
        self._file.seek(0)
        return soundfile.SoundFile(self._source)

    def _blocks(self, audio: soundfile.SoundFile, count: int) -> Iterator[np.ndarray]:
        """Give up to `count` frames in parts, so that nothing is allocated on the word of a header."""
        while count > 0:
            size = max(1, BLOCK_FRAMES // self.channels)
            block = audio.read(min(count, size), dtype="float32", always_2d=True)
            if len(block) == 0:
                return
            yield block
            count -= len(block)

    def compare(self, promise: containers.Promise | None, mp3: containers.Mp3Frames | None) -> None:
        """Take into account what the headers say of the length."""
        if promise is not None and self.format == "WAV GSM610":
            # libsndfile decodes the byte that pads an odd number of blocks, and noise, as one more block
            whole = promise.present // WAV49_BYTES * WAV49_SAMPLES
            self.num_frames = min(self.num_frames, whole)
        width = SAMPLE_BYTES.get(self._subtype)
        frame_bytes = width * self.channels if width else None
        self.missing_frames = max(self.missing_frames, _missing(promise, self.num_frames, frame_bytes))
        if self._container == "MP3" and mp3 is not None:
            self.missing_frames = max(self.missing_frames, mp3.missing)
            if mp3.stated:
                self.slack = 2 * mp3.frame


def _through_sox(source: Any, name: str) -> Reader:
    """Have the sox program decode a file."""
    sox = shutil.which("sox")
    if sox is None or isinstance(source, io.IOBase):
        raise ValueError("this format needs the program sox (Debian: apt-get install sox)")
    command = [sox, "-V1", str(Path(source).absolute()), "-t", "wav", "-e", "signed", "-b", "16", "-"]
    done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise ValueError(f"sox: {done.stderr.decode('utf-8', 'replace').strip()}")
    content = io.BytesIO(done.stdout)
    reader = _SndfileReader(content, content)
    reader.missing_frames = 0  # sox states a length before it knows it
    return reader


def reason(error: Exception) -> str:
    """What libsndfile said, without the path and the prefix that it repeats."""
    text = getattr(error, "error_string", None) or str(error)
    return str(text).removeprefix("Error : ").strip() or type(error).__name__
