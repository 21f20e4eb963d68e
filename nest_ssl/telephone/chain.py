"""The channel itself: draw its parameters for an utterance, then apply them to the samples.

Order, at the sample rate of the first codec: room - noise where the speaker is - gain control - send
weighting, high-pass, G.712 - active level - what the line adds - int16 - codec legs with their losses - noise
where the listener is - receive weighting - recorder - output rate.  What was drawn and what was measured is
one JSON-able dictionary; `apply_channel` depends on nothing else, so that a manifest row replays to the same
bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

import numpy as np

from nest_ssl.telephone.codecs import codec
from nest_ssl.telephone.filters import apply_filters
from nest_ssl.telephone.level import active_level, gain_from_db, rms_dbov
from nest_ssl.telephone.line import agc_gain
from nest_ssl.telephone.loss import lost_frames
from nest_ssl.telephone.noise import NoiseBank
from nest_ssl.telephone.pieces import piece_channel
from nest_ssl.telephone.presets import Mix
from nest_ssl.telephone.resample import converted_length, resample
from nest_ssl.telephone.room import apply_room
from nest_ssl.telephone.seed import SCHEMA, Streams
from nest_ssl.telephone.settings import library_line
from nest_ssl.telephone.stages import LINE, NOISE_STAGES, STAGES

RATE = 8000  # of a channel without a codec
PEAK_LIMIT_DBOV = -0.1
MAX_GAIN_DB = 40.0  # a nearly silent recording is not raised to speech level


def draw_channel(
    mix: Mix, bank: NoiseBank, seed: int, utterance_id: str, key: str, copy: int
) -> dict[str, Any]:
    """Draw every parameter of the channel of one copy of one utterance.

    key: babble is made of utterances of other keys.  A stage that does not happen is None.  Each stage, and
    each leg, has a random stream of its own, so that none shifts what another draws.
    """
    streams = Streams(seed, utterance_id, copy)
    preset = mix.draw(streams.stage("preset"))
    channel: dict[str, Any] = {
        "schema": SCHEMA, "preset": preset.name, "mix": mix.name, "seed": seed, "copy": copy, "rate": RATE,
    }  # fmt: skip
    for name, stage in STAGES.items():
        settings = preset.stages.get(name)
        channel[name] = None if settings is None else stage.draw(streams.stage(name), settings)
    for name in NOISE_STAGES:
        noise = preset.noises.get(name)
        channel[name] = bank.draw(streams.stage(name), noise, key) if noise else None
    law = channel["law"]
    legs = [leg.draw(streams.stage, f"leg{i}", law) for i, leg in enumerate(preset.legs)]
    channel["legs"] = [leg for leg in legs if leg]
    channel["recorder"] = preset.recorder.draw(streams.stage, "recorder", law) if preset.recorder else None
    if channel["legs"]:
        channel["rate"] = codec(channel["legs"][0]["codec"]).sample_rate
    return channel


def apply_channel(
    samples: np.ndarray, sample_rate: int, channel: Mapping[str, Any], bank: NoiseBank, out_rate: int = 16000
) -> tuple[np.ndarray, dict[str, Any]]:
    """Send (T,) samples through a drawn channel; floats within -1 and 1, or int16.

    Gives int16 (round(T * out_rate / sample_rate),), in time with the input to less than a sample, and
    `channel` with the measurements added: speech_dbov (active level within the band as it came), gain_db,
    limited_db (what the peak limit took off), gain_db of the noises, and frames and lost_frames of each leg.
    Raises ValueError for samples that are not finite or not (T,).
    """
    samples = _checked(samples)
    rate = channel["rate"]
    measured = dict(channel)
    speech = resample(samples, sample_rate, rate, ceil(len(samples) * rate / sample_rate))
    line, limited_db = _limit(_near_end(speech, rate, channel, bank, measured))
    measured["gain_db"] = round(measured["gain_db"] - limited_db, 4)
    measured["limited_db"] = limited_db
    pcm = to_int16(line)

    measured["legs"] = []
    segment = channel.get("segment", 0)
    for leg in channel["legs"]:
        pcm, rate, counts = _through_leg(pcm, rate, leg, segment)
        measured["legs"].append({**leg, **counts})
    if channel["far_noise"] or channel["receive"]:
        far = pcm / np.float32(32768.0)
        if channel["far_noise"]:
            measured["far_noise"] = None
            level = active_level(far, rate).level_dbov
            if np.isfinite(level):
                noise, measured["far_noise"] = _render(bank, channel["far_noise"], len(far), rate)
                far += _at_snr(noise, level, measured["far_noise"])[0]
        pcm = to_int16(_limit(apply_filters(far, rate, receive=channel["receive"]))[0])
    if channel["recorder"]:
        pcm, rate, _ = _through_leg(pcm, rate, channel["recorder"], segment)
    length = converted_length(len(samples), sample_rate, out_rate)
    return _later(_converted(pcm, rate, out_rate, length), round(_early_s(channel) * out_rate)), measured


def replay(
    samples: np.ndarray,
    sample_rate: int,
    record: Mapping[str, Any],
    bank: NoiseBank,
    out_rate: int = 16000,
    allow_other_versions: bool = False,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Send samples through the channel of a record once more: the same bytes, and the same record.

    A long recording, whose record has `pieces`, goes through in the same pieces.  Raises ValueError, naming
    both versions, for a record of another schema, or of codecs or (where it has `libraries`) other libraries
    that are another version here, unless these are allowed.
    """
    if not allow_other_versions:
        check_versions(record)
    if "pieces" not in record:
        return apply_channel(samples, sample_rate, record, bank, out_rate)
    call = {name: value for name, value in record.items() if name != "pieces"}
    starts = [piece["start"] for piece in record["pieces"]]
    parts = []
    for number, piece in enumerate(record["pieces"]):
        channel = piece_channel(call, number, piece["shift_db"], piece["start"] / sample_rate)
        part = samples[starts[number] : starts[number + 1] if number + 1 < len(starts) else None]
        parts.append(apply_channel(part, sample_rate, channel, bank, out_rate)[0])
    return np.concatenate(parts), dict(record)


def check_versions(record: Mapping[str, Any]) -> None:
    """Raise ValueError, naming both versions, unless the record's schema, codecs and libraries are in use."""
    if record.get("schema") != SCHEMA:
        raise ValueError(
            f"the record has schema {record.get('schema')}, and this version replays schema {SCHEMA}; use "
            f"the version it was made with, or allow other versions and get another result"
        )
    for leg in _coders(record):
        here = codec(leg["codec"]).version()
        if leg["version"] != here:
            raise ValueError(
                f"the record was made with the codec {leg['codec']} of {leg['version']!r}, which is {here!r} "
                f"here; install that version, or allow other versions and get another result"
            )
    if record.get("libraries", library_line()) != library_line():
        raise ValueError(
            f"the record was made with {record['libraries']}, and here are {library_line()}; install those "
            f"versions, or allow other versions and perhaps get another result"
        )


def _near_end(
    speech: np.ndarray, rate: int, channel: Mapping[str, Any], bank: NoiseBank, measured: dict[str, Any]
) -> np.ndarray:
    """Give float32 (T,), what enters the first codec.

    Speech and noise keep apart up to the line, so that neither the ratio between them nor the level of the
    speech is measured with the other in it.
    """
    speech = apply_room(speech, rate, channel["room"])
    filtered = _filtered(speech, rate, channel)
    speech_dbov = active_level(filtered, rate).level_dbov
    heard = bool(np.isfinite(speech_dbov))
    noise = None
    heard_at_mouth = speech
    if channel["noise"]:
        measured["noise"] = None  # without speech there is no speech-to-noise ratio
        if heard:
            recorded, measured["noise"] = _render(bank, channel["noise"], len(speech), rate)
            noise, gain_db = _at_snr(_filtered(recorded, rate, channel), speech_dbov, measured["noise"])
            if channel["agc"]:
                heard_at_mouth = speech + recorded * np.float32(gain_from_db(gain_db))
    if channel["agc"] and heard:
        gains = agc_gain(heard_at_mouth, rate, channel["agc"])
        filtered = filtered * gains  # slow beside the filters, so that it may come after them
        noise = None if noise is None else noise * gains
        speech_dbov = active_level(filtered, rate).level_dbov
    measured["speech_dbov"] = round(speech_dbov, 4) if heard else None
    gain_db = 0.0
    if heard and channel["level_dbov"] is not None:
        gain_db = min(round(channel["level_dbov"] - speech_dbov, 4), MAX_GAIN_DB)
    measured["gain_db"] = gain_db
    sent = filtered if noise is None else filtered + noise
    sent = sent * np.float32(gain_from_db(gain_db))
    for name, apply in LINE.items():
        if channel[name]:
            sent = apply(sent, rate, channel[name])
    return sent


def _filtered(samples: np.ndarray, rate: int, channel: Mapping[str, Any]) -> np.ndarray:
    """Give float (T,) after the linear filters of the speaker's end."""
    return apply_filters(samples, rate, channel["weighting"], channel["high_pass"], g712=channel["g712"])


def _render(
    bank: NoiseBank, drawn: Mapping[str, Any], num_samples: int, rate: int
) -> tuple[np.ndarray, dict[str, Any]]:
    """Give the noise as it was recorded, float32 (T,), and what is known of it."""
    noise, left_out = bank.render(drawn, num_samples, rate)
    return noise, dict(drawn) | ({"left_out": left_out} if left_out else {})


def _at_snr(noise: np.ndarray, speech_dbov: float, facts: dict[str, Any]) -> tuple[np.ndarray, float]:
    """Give the noise at its ratio to the active level of the speech, and the dB that took."""
    noise_dbov = rms_dbov(noise)
    if not np.isfinite(noise_dbov):
        return noise, 0.0
    gain_db = round(speech_dbov - facts["snr_db"] - noise_dbov, 4)
    facts["gain_db"] = gain_db
    return noise * np.float32(gain_from_db(gain_db)), gain_db


def _through_leg(
    pcm: np.ndarray, rate: int, leg: Mapping[str, Any], segment: int
) -> tuple[np.ndarray, int, dict[str, int]]:
    """Give int16 (T,) after a codec, its sample rate, and how many of how many frames were lost."""
    coder = codec(leg["codec"])
    if leg["gain_db"]:
        pcm = to_int16(pcm * np.float32(gain_from_db(leg["gain_db"]) / 32768.0))
    if coder.sample_rate != rate:
        length = ceil(len(pcm) * coder.sample_rate / rate)
        pcm, rate = _converted(pcm, rate, coder.sample_rate, length), coder.sample_rate
    if leg["loss"] is None:
        return coder.encode_decode(pcm, leg["parameters"]), rate, {}
    parameters = leg["parameters"]
    if leg["loss"]["concealment"] != "codec":
        parameters = {**parameters, "concealment": leg["loss"]["concealment"]}
    frames = -(-len(pcm) // coder.frame_samples)
    lost = lost_frames(leg["loss"], frames, coder.frame_samples / coder.sample_rate, segment)
    counts = {"frames": frames, "lost_frames": int(np.count_nonzero(lost))}
    return coder.encode_decode(pcm, parameters, lost), rate, counts


def _coders(channel: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Give every codec that the call passes: its legs and the recorder."""
    return [*channel["legs"], *([channel["recorder"]] if channel["recorder"] else [])]


def _early_s(channel: Mapping[str, Any]) -> float:
    """Give by how many seconds the codecs' fractions of a sample, which none can take out alone, add up."""
    early_s = 0.0
    for leg in _coders(channel):
        coder = codec(leg["codec"])
        early_s += (round(coder.delay_samples) - coder.delay_samples) / coder.sample_rate
    return early_s


def _later(pcm: np.ndarray, count: int) -> np.ndarray:
    """Give int16 (T,) by `count` samples later, at its length."""
    if count <= 0 or len(pcm) <= count:
        return pcm
    return np.concatenate([np.zeros(count, np.int16), pcm[:-count]])


def _checked(samples: np.ndarray) -> np.ndarray:
    """Give float32 (T,) of what may be sent; ValueError for anything else."""
    samples = np.asarray(samples)
    if samples.ndim != 1:
        raise ValueError(
            f"the channel takes samples of the shape (T,), not {samples.shape}; a telephone line has one "
            f"channel, so choose one of the recording or average them"
        )
    if samples.dtype == np.int16:
        return samples / np.float32(32768.0)
    if not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"the channel takes float samples within -1 and 1, or int16, not {samples.dtype}")
    if not np.isfinite(samples).all():
        raise ValueError(
            f"{np.count_nonzero(~np.isfinite(samples))} of {len(samples)} samples are not finite"
        )
    return samples.astype(np.float32, copy=False)


def _limit(samples: np.ndarray) -> tuple[np.ndarray, float]:
    """Turn the signal down where its peak would pass the limit; gives it and the dB taken off."""
    peak = float(max(samples.max(), -samples.min())) if len(samples) else 0.0
    excess_db = 20 * np.log10(peak) - PEAK_LIMIT_DBOV if peak > 0 else 0.0
    if excess_db <= 0:
        return samples, 0.0
    limited_db = round(float(excess_db) + 5e-5, 4)
    return samples * np.float32(gain_from_db(-limited_db)), limited_db


def _converted(pcm: np.ndarray, rate: int, new_rate: int, length: int) -> np.ndarray:
    """Give int16 (length,) at another rate."""
    if rate == new_rate and len(pcm) == length:
        return pcm
    return to_int16(resample(pcm / np.float32(32768.0), rate, new_rate, length))


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Give int16 (T,) of float (T,) within -1 and 1: rounded, cut at full scale."""
    scaled = samples * np.float32(32768.0)
    np.rint(scaled, out=scaled)
    return np.clip(scaled, -32768, 32767, out=scaled).astype(np.int16)
