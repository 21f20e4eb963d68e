"""Look at the channel: which codecs are here, what a recording came over, what each preset does.

Examples:
  python -m nest_ssl.bin.telephone doctor
  python -m nest_ssl.bin.telephone inspect call.wav --channel 0
  python -m nest_ssl.bin.telephone audition speech.flac --all --out exp/audition

  doctor    every codec with its library, version and delay, tried out on the spot
  inspect   band, level, noise, lost packets and the likely last codec of recordings
  audition  one recording through presets: OUT/NAME.wav, OUT/records.jsonl, and OUT/audition.png,
            a picture of spectrograms and responses
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from nest_ssl.bin.arguments import Parser
from nest_ssl.bin.terminal import progress_bar, run
from nest_ssl.config import load_config
from nest_ssl.files.audio import audio_info, read_audio, write_audio
from nest_ssl.files.manifest import write_rows
from nest_ssl.telephone.alignment import lag_samples, speech_like
from nest_ssl.telephone.api import Channel
from nest_ssl.telephone.chain import to_int16
from nest_ssl.telephone.codecs import CODECS
from nest_ssl.telephone.codecs.base import CodecMissing
from nest_ssl.telephone.inspection import Inspection, inspect
from nest_ssl.telephone.noise import NoiseBank
from nest_ssl.telephone.presets import CONFIG, Mix
from nest_ssl.telephone.recordings import open_recordings

PROBE_S = 2.4  # of speech-like signal, on which doctor tries the codecs
MAX_LAG = 1.0  # samples; what labels and alignments can bear
MAX_AUDITION_S = 60.0

log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    return {"doctor": doctor, "inspect": inspect_files, "audition": audition}[arguments.command](arguments)


def doctor(arguments: argparse.Namespace) -> int:
    """Print every codec and every mix; the status is 1 if a codec does not work or --mix cannot be drawn."""
    facts = [codec_facts(name) for name in CODECS]
    mixes = {
        name: _missing_of(Mix.load(name, arguments.config))
        for name in load_config(arguments.config, []).mixes
    }
    if arguments.mix not in mixes:
        raise ValueError(f"--mix {arguments.mix}: known are {', '.join(mixes)}")
    if arguments.json:
        print(json.dumps({"codecs": facts, "mixes": mixes}, indent=1, ensure_ascii=False))
    else:
        print_codecs(facts)
        for name, missing in mixes.items():
            print(f"mix {name}: " + (f"cannot be drawn: {missing}" if missing else "every codec is here"))
    broken = [fact["codec"] for fact in facts if fact["state"] == "broken"]
    if broken:
        print(f"broken: {', '.join(broken)}")
    return 1 if broken or mixes[arguments.mix] else 0


def codec_facts(name: str) -> dict[str, Any]:
    """Try one codec: what it is, how it is reached, its delay and what is left of it, its speed."""
    coder = CODECS[name]
    fact: dict[str, Any] = {
        "codec": name,
        "state": "ok",
        "sample_rate": coder.sample_rate,
        "frame_ms": round(1000 * coder.frame_samples / coder.sample_rate, 2),
        "delay_samples": coder.delay_samples,
    }
    try:
        coder.check()
    except CodecMissing as error:
        return fact | {"state": "missing", "why": str(error)}
    sent = to_int16(speech_like(PROBE_S, coder.sample_rate))
    started = time.process_time()
    received = coder.encode_decode(sent, {})
    cpu_s = time.process_time() - started
    lag = lag_samples(sent, received, coder.sample_rate)
    if len(received) != len(sent) or not abs(lag) < MAX_LAG:
        fact |= {
            "state": "broken",
            "why": f"{len(sent)} samples became {len(received)}, {lag:.2f} samples late",
        }
    return fact | {
        "lag_samples": None if math.isnan(lag) else round(lag, 2),
        "times_real_time": round(PROBE_S / max(cpu_s, 1e-6)),
        "route": coder.route(),
        "version": coder.version(),
    }


def print_codecs(facts: list[dict[str, Any]]) -> None:
    print(f"{'codec':12s} {'state':8s} {'Hz':>6s} {'frame':>8s} {'delay':>6s} {'left':>6s}  library, version")
    for fact in facts:
        line = f"{fact['codec']:12s} {fact['state']:8s} {fact['sample_rate']:6d} {fact['frame_ms']:5g} ms "
        line += f"{fact['delay_samples']:6g} "
        if fact["state"] != "ok":
            print(f"{line}{'':6s}  {fact['why']}")
            continue
        route = re.sub(r"/\S*/", "", fact["route"])  # --json has the whole path
        print(f"{line}{fact['lag_samples']:6.2f}  {route}; {fact['version']}")
    print("delay: of the codec, in samples, which is taken out; left: what remains of it on a test signal")


def _missing_of(mix: Mix) -> str | None:
    try:
        mix.check()
    except CodecMissing as error:
        return str(error)
    return None


def inspect_files(arguments: argparse.Namespace) -> int:
    """Print what each file came over."""
    for path in arguments.files:
        info = audio_info(path)
        samples, rate = read_audio(path, None, 0.0, None, _channel(arguments.channel, info.channels, path))
        found = inspect(samples, rate)
        if arguments.json:
            print(
                json.dumps({"file": str(path), "format": info.format, **found.record()}, ensure_ascii=False)
            )
        else:
            print_inspection(path, info.format, info.channels, found)
    return 0


def print_inspection(path: Path, coding: str, channels: int, found: Inspection) -> None:
    def value(number: float | None, unit: str) -> str:
        return "-" if number is None else f"{number:.1f} {unit}"

    print(path)
    print(f"  file       {coding}, {found.sample_rate} Hz, {channels} channel(s), {found.duration_s:.3f} s")
    print(f"  band       {value(found.low_hz, 'Hz')} to {value(found.high_hz, 'Hz')}; {found.band}")
    print(
        f"  level      {value(found.level_dbov, 'dBov')} active (P.56), {found.activity:.0%} of the time; "
        f"peak {value(found.peak_dbov, 'dBov')}, clipped {found.clipped:.3%}, DC {found.dc * 32768:.0f}"
    )
    quiet = f"{value(found.noise_dbov, 'dBov')} in the quietest tenth"
    print(f"  noise      {quiet}, {value(found.snr_db, 'dB')} below the speech")
    print(
        f"  losses     {found.zeroed:.1%} of the speech is a constant gap, {found.repeated:.1%} repeats a "
        "pitch period; what an AMR, GSM or Opus decoder concealed leaves no trace"
    )
    print(f"  codec      {found.family}: {found.evidence}")


def audition(arguments: argparse.Namespace) -> int:
    """Send one file through presets, write the results and the picture."""
    from nest_ssl.telephone.pictures import caption_of, draw_audition

    mix = Mix.load(arguments.mix, arguments.config, arguments.overrides)
    presets = [preset.name for preset in (*mix.presets, *mix.others)] if arguments.all else arguments.preset
    info = audio_info(arguments.file)
    channel = _channel(arguments.channel, info.channels, arguments.file)
    samples, rate = read_audio(arguments.file, None, 0.0, MAX_AUDITION_S, channel)
    if info.duration_s > MAX_AUDITION_S:
        log.warning("%s: only the first %.0f s are taken", arguments.file, MAX_AUDITION_S)
    bank = NoiseBank()
    if arguments.noise:
        index, left_out = open_recordings(arguments.noise, arguments.out / "noise.jsonl")
        for line in left_out:
            log.warning("noise left out: %s", line)
        bank = NoiseBank(None, {"music": index})
    records, versions = [], []
    with progress_bar(len(presets), "preset", "audition") as bar:
        for name in presets:
            try:
                sender = Channel(mix.only(name), bank)
            except CodecMissing as error:
                log.warning("preset %s left out: %s", name, error)
                continue
            received, record = sender(samples, rate, arguments.file.stem, arguments.seed, arguments.out_rate)
            write_audio(arguments.out / f"{name}.wav", received, arguments.out_rate)
            records.append({"audio_filepath": f"{name}.wav", "channel": record})
            versions.append((name, caption_of(record), received / np.float32(32768.0)))
            bar.update(1)
    if not versions:
        raise ValueError(
            "no preset could be drawn: python -m nest_ssl.bin.telephone doctor says what is missing"
        )
    write_rows(arguments.out / "records.jsonl", records)
    original = read_audio(arguments.file, arguments.out_rate, 0.0, MAX_AUDITION_S, channel)[0]
    draw_audition(arguments.out / "audition.png", original, versions, arguments.out_rate)
    print(f"{arguments.out}: {len(versions)} presets, records.jsonl, audition.png")
    return 0


def _channel(given: int | None, channels: int, path: Path) -> int | None:
    if given is None and channels > 1:
        raise ValueError(f"{path} has {channels} channels: choose one with --channel 0 to {channels - 1}")
    return given


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser("telephone", usage="%(prog)s COMMAND [options]", description=__doc__)
    each = "its own --help shows its options"
    commands = parser.add_subparsers(
        dest="command", required=True, title="words", metavar="COMMAND", help=each
    )
    example = "Example:\n  python -m nest_ssl.bin.telephone "
    presets = "presets, mixes [conf/telephone.yaml]"
    config: dict[str, Any] = {"type": Path, "default": CONFIG, "metavar": "FILE", "help": presets}
    one = commands.add_parser("doctor", description=f"{example}doctor --mix china")
    one.add_argument("--config", **config)
    lacks = "exit with 1 if this mix lacks a codec [%(default)s]"
    one.add_argument("--mix", default="default", metavar="NAME", help=lacks)
    one.add_argument("--json", action="store_true", help="the same as JSON")
    two = commands.add_parser("inspect", description=f"{example}inspect call.wav --channel 0")
    two.add_argument("files", type=Path, nargs="+", metavar="FILE", help="recordings")
    two.add_argument("--channel", type=int, metavar="N", help="of a file with several, from 0")
    two.add_argument("--json", action="store_true", help="one JSON line per file")
    all_presets = f"{example}audition speech.flac --all --out exp/audition"
    three = commands.add_parser("audition", description=all_presets)
    add = three.add_argument
    add("file", type=Path, metavar="FILE", help="a recording, best of 16 kHz")
    which = three.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="every preset of the configuration")
    which.add_argument("--preset", action="append", metavar="NAME", help="this preset; may be given again")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    add("--seed", type=int, default=17, metavar="N", help="of the draws [%(default)s]")
    add("--out-rate", type=int, choices=(8000, 16000), default=16000, help="Hz [%(default)s]")
    add("--channel", type=int, metavar="N", help="of a file with several, from 0")
    add("--noise", type=Path, metavar="PATH", help="recordings of music as noise, manifest or folder")
    add("--config", **config)
    add("--mix", default="default", metavar="NAME", help="for its changes of all presets [%(default)s]")
    three.epilog = "Words KEY=VALUE change --config, for example presets.voip_opus_nb.legs.0.kbps=12."
    arguments, words = parser.parse_known_args(argv)
    unknown = [word for word in words if word.startswith("-") or "=" not in word]
    if unknown or (words and arguments.command != "audition"):
        parser.error(f"unrecognized arguments: {' '.join(unknown or words)}")
    arguments.overrides = words
    return arguments


if __name__ == "__main__":
    run(main)
