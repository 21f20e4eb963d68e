"""The telephone channel for programs: a preset or a mix as a function of samples, and whole corpora.

Example:
    channel = preset("voip_opus_nb", overrides={"loss.rate": 0.05, "legs.0.kbps": 12})
    received, record = channel(samples, sr=16000, key="utterance 7", seed=17, out_sr=8000)
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nest_ssl.telephone.chain import apply_channel, draw_channel, replay
from nest_ssl.telephone.draws import nearest
from nest_ssl.telephone.noise import NoiseBank
from nest_ssl.telephone.presets import Mix, read_preset
from nest_ssl.telephone.settings import library_line

if TYPE_CHECKING:
    from nest_ssl.telephone.jobs import Job

# What loses packets beside `rate`.
OTHER_LOSSES = dict.fromkeys(("enter", "leave", "jitter", "frame_error_rate", "fade_ms", "trace"))


class Channel:
    """A mix of telephone channels, or one of them, as a function of samples.

    `bank`: where noise is taken from; without it only coloured noise is drawn.  Raises CodecMissing, with
    what to install, for a codec whose library is not here.
    """

    def __init__(self, mix: Mix, bank: NoiseBank | None = None) -> None:
        mix.check()
        self.mix = mix
        self.bank = bank or NoiseBank()

    def __call__(
        self,
        samples: np.ndarray,
        sr: int,
        key: str = "",
        seed: int = 0,
        out_sr: int | None = None,
        copy: int = 0,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Send (T,) samples at `sr` Hz, floats within -1 and 1 or int16, through a channel drawn for them.

        Gives int16 (round(T * out_sr / sr),), in time with the input, and the record of all that was drawn
        and measured, of JSON types.  The draws depend on (seed, key, copy) alone; out_sr: `sr` if not given.
        Raises ValueError for samples that are not finite or not (T,).
        """
        out_sr = out_sr or sr
        drawn = draw_channel(self.mix, self.bank, seed, key, key, copy)
        received, record = apply_channel(samples, sr, drawn, self.bank, out_sr)
        return received, record | {"sr": sr, "out_sr": out_sr, "libraries": library_line()}

    def replay(
        self,
        samples: np.ndarray,
        record: Mapping[str, Any],
        sr: int | None = None,
        out_sr: int | None = None,
        allow_other_versions: bool = False,
    ) -> np.ndarray:
        """Give the int16 samples of `record` once more, from the same input; rates default to the record's.

        Raises ValueError, naming both versions, for a record of another schema, codec or library version,
        unless these are allowed.
        """
        rates: dict[str, int] = {"sr": sr or record.get("sr", 0), "out_sr": out_sr or record.get("out_sr", 0)}
        for name, rate in rates.items():
            if not rate:
                raise ValueError(
                    f"the record holds no {name}; give it as an argument, for example {name}=16000"
                )
        return replay(samples, rates["sr"], record, self.bank, rates["out_sr"], allow_other_versions)[0]


def preset(
    name: str,
    overrides: Mapping[str, Any] | None = None,
    mix: str = "default",
    config: str | Path | None = None,
    bank: NoiseBank | None = None,
) -> Channel:
    """Give one preset of conf/telephone.yaml (or `config`), with changes by dotted key.

    overrides: for example {"noise.probability": 0, "level_dbov": -26, "legs.0.kbps": 12.2}; loss.KEY changes
    every leg that may lose packets, and loss.rate makes it lose that share of them in every call and nothing
    by other causes.  Raises ValueError naming the key for what is unknown or impossible.
    """
    chosen = Mix.load(mix, config).only(name)
    if overrides:
        original = chosen.presets[0]
        changed = read_preset(name, overridden(original.settings, overrides, f"presets.{name}"))
        chosen = Mix(chosen.name, (changed,), chosen.others)
    return Channel(chosen, bank)


def noise_bank(
    talkers: str | Path | None = None, noise: Mapping[str, str | Path] | None = None, split_seed: int = 0
) -> NoiseBank:
    """Open sources of noise as `simulate` does, for `preset`, Channel and the replay of rows it wrote.

    talkers: the manifest of speech that babble is made of; noise: by kind, a manifest of recordings (of a
    folder, simulate keeps it as OUT/recordings/KIND.jsonl); split_seed: as given to simulate.
    """
    from nest_ssl.files.index import ManifestIndex
    from nest_ssl.telephone.row_table import scan_talkers

    pool = scan_talkers(ManifestIndex.open(Path(talkers)), split_seed)[1] if talkers is not None else None
    return NoiseBank(pool, {kind: ManifestIndex.open(Path(path)) for kind, path in (noise or {}).items()})


def run(
    manifest_in: str | Path,
    out_dir: str | Path,
    mix: Mix,
    seed: int,
    copies: int = 1,
    out_sr: int = 16000,
    fmt: str = "flac",
    workers: int = 0,
    shard: tuple[int, int] = (1, 1),
    noise: Mapping[str, str | Path] | None = None,
    max_error_rate: float = 0.01,
    force: bool = False,
) -> Path | None:
    """Send the speech of a manifest through channels of a mix, as `python -m nest_ssl.bin.simulate` does.

    Gives the manifest written, OUT_DIR.jsonl; None after one shard (i, n) of several, which
    `nest_ssl.bin.simulate --merge` puts together.  What an earlier run has done is not done again.
    workers: processes, 0 for all CPUs; noise: by kind, a manifest or a folder of recordings.  Raises
    TooManyErrors, with their file, if more than `max_error_rate` of the utterances failed.
    """
    from nest_ssl.telephone.corpus import TelephoneCorpus

    recordings = {kind: Path(path) for kind, path in (noise or {}).items()}
    corpus = TelephoneCorpus(
        Path(manifest_in), Path(out_dir), mix, seed, copies, recordings, out_sr, format=fmt
    )
    return _done(corpus, workers, shard, max_error_rate, force)


def upsample(
    manifest_in: str | Path,
    out_dir: str | Path,
    to: int = 16000,
    quality: str = "soxr_hq",
    channels: int | str | None = None,
    fmt: str = "flac",
    workers: int = 0,
    shard: tuple[int, int] = (1, 1),
    max_error_rate: float = 0.01,
    force: bool = False,
) -> Path | None:
    """Bring the 8 kHz calls of a manifest to 16 kHz, as `python -m nest_ssl.bin.upsample` does.

    quality: soxr_hq, soxr_vhq or wide; channels: of files with several, `split`, `first`, `average` or an
    index.  The rest as for `run`.
    """
    from nest_ssl.telephone.upsampling import OUT_RATE, CallCorpus

    if to != OUT_RATE:
        raise ValueError(f"to: calls are brought to {OUT_RATE} Hz, not to {to!r} Hz")
    corpus = CallCorpus(Path(manifest_in), Path(out_dir), quality.removeprefix("soxr_"), channels, format=fmt)
    return _done(corpus, workers, shard, max_error_rate, force)


def _done(job: Job, workers: int, shard: tuple[int, int], max_error_rate: float, force: bool) -> Path | None:
    from nest_ssl.files.system import usable_cpus
    from nest_ssl.telephone import jobs

    jobs.run_shard(job, *shard, workers=workers or usable_cpus(), force=force)
    if shard[1] > 1:
        return None
    jobs.merge(job, max_error_rate)
    return job.out.with_name(job.out.name + ".jsonl")


def overridden(settings: Mapping[str, Any], overrides: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Give a copy of a preset's settings changed by dotted key; ValueError naming a key that is not there."""
    result = copy.deepcopy(dict(settings))
    for key, value in overrides.items():
        if key.startswith("loss."):
            name = key.removeprefix("loss.")
            changes = {**OTHER_LOSSES, "probability": float(value > 0)} if name == "rate" else {}
            choices = [choice for leg in result["legs"] for choice in leg.get("one_of", [leg])]
            for holder in (result, *(choice for choice in choices if choice.get("loss") is not None)):
                holder["loss"].update({**changes, name: value})
        else:
            _set(result, key.split("."), value, f"{where}.{key}")
    return result


def _set(node: Any, parts: list[str], value: Any, where: str) -> None:
    for depth, part in enumerate(parts):
        is_last = depth == len(parts) - 1
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                raise ValueError(f"{where}: there is no number {part!r} of {len(node)}")
            step: Any = int(part)
        elif isinstance(node, dict):
            # parameters that a leg does not set yet are checked when the preset is read
            if part not in node and not (is_last and parts[0] in ("legs", "recorder")):
                raise ValueError(f"{where}: there is no key {part!r}{nearest(part, node)}")
            step = part
        else:
            raise ValueError(f"{where}: {'.'.join(parts[:depth])} is {node!r}, without keys of its own")
        if is_last:
            node[step] = value
        else:
            node = node[step]
