"""The audio behind utterances: each recording is opened, or written to a file of its own, once."""

from __future__ import annotations

import hashlib
import io
import re
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from nest_ssl.data.sources.record import AudioFile, MadeAudio, Utterance
from nest_ssl.files.atomic import replaced
from nest_ssl.files.audio import AudioInfo, audio_info, read_audio, write_audio

REMEMBERED = 65536  # recordings
UNSAFE = re.compile(r"[^\w.\-+@=]+")
LONGEST_NAME = 120


class NotUsable(ValueError):
    """A recording that gives no rows; `reason` is the same for all of its kind."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class Recording:
    """A file that rows can name, and what its header says; written: it was made here."""

    path: Path
    info: AudioInfo
    written: bool = False


class _Stream(io.BytesIO):
    """Bytes under a name, which tells the format of those without a header."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self._name = name

    def __str__(self) -> str:
        return self._name


class Recordings:
    """Opens recordings in `jobs` threads; what is no file, or has to be written anew, goes to `audio_dir`.

    convert: recordings of which no part can be read without decoding all before it are written as FLAC;
    dry: nothing is written, the audio is decoded only.
    """

    def __init__(self, audio_dir: Path | None, convert: bool, jobs: int, dry: bool = False) -> None:
        self._audio_dir = audio_dir
        self._convert = convert
        self._dry = dry
        self._pool = ThreadPoolExecutor(max(1, jobs))
        self._known: OrderedDict[tuple[str, int | None], Future[Recording]] = OrderedDict()
        self._written: dict[tuple[str, int | None], Future[Recording]] = {}

    def submit(self, utterance: Utterance) -> Future[Recording]:
        """Give the recording of an utterance, once it is open; the result raises NotUsable."""
        audio, channel = utterance.audio, utterance.channel
        key = (audio.key, channel)
        if key in self._written:
            return self._written[key]
        future = self._known.get(key)
        if future is None:
            future = self._pool.submit(self._open, audio, channel)
            if isinstance(audio, MadeAudio) or channel is not None or self._convert:
                self._written[key] = future  # never written twice
                return future
            self._known[key] = future
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return future

    def close(self) -> None:
        """End the threads; what has not begun is left."""
        self._pool.shutdown(cancel_futures=True)

    def _open(self, audio: AudioFile | MadeAudio, channel: int | None) -> Recording:
        try:
            if isinstance(audio, MadeAudio):
                return self._made(audio, channel)
            info = audio_info(audio.path)
            _check(info, str(audio.path), channel)
            one_of_several = info.channels > 1 and channel is not None
            if one_of_several or (self._convert and not info.seekable):
                return self._rewritten(audio.path, audio.path.stem, str(audio.path.absolute()), info, channel)
        except NotUsable:
            raise
        except (ValueError, OSError) as error:
            raise NotUsable("unreadable audio", str(error)) from error
        return Recording(audio.path, info)

    def _made(self, audio: MadeAudio, channel: int | None) -> Recording:
        self._need_folder(f"{audio.name}: its audio is in no file that a row could name")
        try:
            content = audio.content()
        except (ValueError, OSError) as error:
            raise NotUsable("unreadable audio", f"{audio.name}: {error}") from error
        stream = _Stream(content, audio.name + audio.suffix)
        info = audio_info(stream)
        _check(info, audio.name, channel)
        several = info.channels > 1
        if several and channel is None:
            raise NotUsable(
                "several channels",
                f"{audio.name} has {info.channels} channels; have the command give one (sph2pipe -c 1), "
                f"or name the channel in segments",
            )
        if not audio.keep or several or self._dry or (self._convert and not info.seekable):
            return self._rewritten(stream, audio.name, audio.origin, info, channel)
        path = self._path(audio.name, audio.origin, audio.suffix)
        with replaced(path) as temporary:
            temporary.write_bytes(content)
        return Recording(path, info, written=True)

    def _rewritten(
        self, source: Path | io.BytesIO, name: str, origin: str, info: AudioInfo, channel: int | None
    ) -> Recording:
        """Write a channel of a recording, or all of one that has one, as FLAC."""
        part = f"-channel{channel}" if info.channels > 1 else ""
        self._need_folder(f"{source}: {part.lstrip('-') or 'the audio'} has to be written to a file")
        samples, rate = read_audio(source, channel=channel if info.channels > 1 else None)
        facts = AudioInfo(rate, len(samples), 1)
        if self._dry:
            return Recording(source if isinstance(source, Path) else Path(name), facts)
        path = self._path(name, origin, f"{part}.flac")
        write_audio(path, samples, rate)
        return Recording(path, facts, written=True)

    def _need_folder(self, why: str) -> None:
        if self._audio_dir is None and not self._dry:
            raise NotUsable("needs --audio-dir", f"{why}; --audio-dir DIR says where")

    def _path(self, name: str, origin: str, ending: str) -> Path:
        """A file of the folder that no other audio has, the same at each run."""
        assert self._audio_dir is not None
        safe = UNSAFE.sub("_", name).strip("._")[:LONGEST_NAME]
        digest = hashlib.blake2b(origin.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
        return self._audio_dir / f"{safe}-{digest}{ending}"


def _check(info: AudioInfo, name: str, channel: int | None) -> None:
    if info.missing_frames:
        lacking = info.missing_frames / info.sample_rate
        detail = f"{name}: the file ends {lacking:.3f} s before the end that its header states"
        raise NotUsable("cut off", detail)
    if info.num_frames == 0:
        raise NotUsable("empty audio", f"{name}: it has no samples")
    if channel is not None and channel >= info.channels:
        detail = f"{name}: channel {channel} (from 0) of a file that has {info.channels}"
        raise NotUsable("no such channel", detail)
