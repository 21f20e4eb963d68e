"""What the checks are told, and what they measure once for all of them: rows, audio headers, lengths."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nest_ssl.config import load_config, resolved
from nest_ssl.data.lengths import UNITS, audio_tokens, lfr_frames, speech_length
from nest_ssl.data.messages import sequence_length
from nest_ssl.data.prompts import PromptSettings, prompt_tokens
from nest_ssl.files.audio import AudioInfo, audio_info, read_audio
from nest_ssl.preflight.rows import Row, Rows, is_address, read_rows_of, spread
from nest_ssl.text.ctc_labels import frames_needed
from nest_ssl.text.normalization import TextNormalizer

if TYPE_CHECKING:  # keys are checked before torch is loaded
    import torch

PARTS = ("encoder", "adaptor", "lora", "all")
SMALL = 30_000_000  # parameters up to which a probe on the CPU takes seconds


def _cpu() -> torch.device:
    import torch

    return torch.device("cpu")


@dataclass(frozen=True)
class Options:
    """How much is looked at.

    files: audio files that are opened of each set, the first half in order and the rest spread; None for all.
    probe: one forward and backward pass on the longest and on an odd-length row; None does so where it takes
    seconds, on a small model or a GPU.  suggest_percentile: also print limits that keep this share of rows.
    """

    files: int | None = 200
    probe: bool | None = None
    suggest_percentile: float | None = None
    threads: int = 4


@dataclass
class Context:
    """What a stage is about to do.

    config: the resolved flat FunASR configuration, overrides included.  model_dir: the directory the model
    comes from.  base: what that directory's own config.yaml says, before overrides; None reads it.
    part: of PARTS, or None.  model: the built FunASRNano with its weights, or None; its trainable set as the
    stage declares it.  state: {name: tensor} of the weights file, where no model was built.  train, valid:
    jsonl files.  out: the folder of the run.  tokenizer, ctc_tokenizer: taken from the model where it has
    them.  error: what reading the directory or building the model raised, where it did.  overrides: {dotted
    key: value} that the user gave.  probe: runs one row forward and backward, and gives the loss; None skips
    that.
    """

    config: Mapping[str, Any]
    model_dir: Path | None = None
    model: Any = None
    train: Sequence[Path] = ()
    valid: Sequence[Path] = ()
    part: str | None = None
    out: Path | None = None
    device: torch.device = field(default_factory=_cpu)
    world_size: int = 1
    options: Options = field(default_factory=Options)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, Any] | None = None
    state: Mapping[str, torch.Tensor] | None = None
    error: Exception | None = None
    tokenizer: Any = None
    ctc_tokenizer: Any = None
    probe: Callable[[Sequence[Row]], float] | None = None

    def __post_init__(self) -> None:
        if self.part is not None and self.part not in PARTS:
            raise ValueError(f"part is one of {', '.join(PARTS)}, not {self.part!r}")
        if self.model is not None:
            self.tokenizer = self.tokenizer or getattr(self.model, "tokenizer", None)
            self.ctc_tokenizer = self.ctc_tokenizer or getattr(self.model, "ctc_tokenizer", None)
        if self.base is None:
            self.base = _own_config(self.model_dir)

    def section(self, name: str) -> Mapping[str, Any]:
        """Give a section of the configuration, empty where it is missing or null."""
        found = self.config.get(name)
        return found if isinstance(found, Mapping) else {}

    def value(self, key: str, default: Any = None) -> Any:
        """Give the value of a dotted key."""
        return lookup(self.config, key, default)

    def base_value(self, key: str, default: Any = None) -> Any:
        """Give the value that the model's own directory has for a dotted key."""
        return lookup(self.base or {}, key, default)

    @property
    def base_keys(self) -> set[str]:
        """Give the top-level keys that the model's directory has."""
        return set(self.base or {})

    @cached_property
    def training(self) -> Rows:
        return read_rows_of(self.train)

    @cached_property
    def validation(self) -> Rows:
        return read_rows_of(self.valid)

    @property
    def sets(self) -> list[tuple[str, Rows]]:
        """Give the sets that were named, ("train", rows) and ("valid", rows)."""
        named = []
        if self.train:
            named.append(("train", self.training))
        if self.valid:
            named.append(("valid", self.validation))
        return named

    @cached_property
    def opened(self) -> list[tuple[Row, str, AudioInfo | str]]:
        """Give (row, path, header or what is wrong) of the files that are looked at."""
        pairs = []
        for _, found in self.sets:
            count = self.options.files
            rows = found.rows if count is None else spread(found.rows, -(-count // 2), count // 2)
            pairs += [(row, path) for row in rows for path in row.audio if not is_address(path)]
        with ThreadPoolExecutor(max(1, self.options.threads)) as pool:
            headers = list(pool.map(lambda pair: _header(pair[1]), pairs))
        return [(row, path, header) for (row, path), header in zip(pairs, headers, strict=True)]

    @cached_property
    def file_seconds(self) -> dict[str, float]:
        """Give {place of a row: seconds of its first file} of the files that were opened."""
        found: dict[str, float] = {}
        for row, _, header in self.opened:
            if isinstance(header, AudioInfo) and header.num_frames and not row.offset and row.seconds is None:
                found.setdefault(row.place, header.duration_s)
        return found

    def frames(self, row: Row) -> int | None:
        """Give the 10-ms frames of a row: of its file where it was opened, else as stated."""
        seconds = self.file_seconds.get(row.place)
        return speech_length(seconds) if seconds is not None else row.frames

    def encoder_frames(self, speech_frames: int) -> int:
        """Give the frames that the encoder makes of 10-ms frames: those CTC has."""
        if self.model is None:
            return lfr_frames(speech_frames)
        return self._encoder_frames(speech_frames)

    @property
    def encoder_seconds(self) -> float:
        """Give the seconds of audio that a frame of the encoder stands for."""
        return float(getattr(self.model, "frame_s", 0.06))

    def _encoder_frames(self, speech_frames: int) -> int:
        known = self.__dict__.setdefault("_known_frames", {})
        if speech_frames not in known:
            import torch

            rate = self.model.frontend.fs
            window = (25.0 + 10.0 * (max(1, speech_frames) - 1)) * rate / 1000.0
            features = self.model.frontend.frames_of(round(window))
            known[speech_frames] = int(self.model.audio_encoder.frames_of(torch.tensor([features]))[0])
        return known[speech_frames]

    @cached_property
    def lengths(self) -> dict[str, np.ndarray]:
        """Give {unit: (N,) float64} of the training rows, NaN where a row has none; see data/lengths.py."""
        return self.lengths_of(self.training.rows)

    def lengths_of(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        """Give {unit: (N,) float64} of rows; units of the text need the tokenizer."""
        columns = {unit: np.full(len(rows), np.nan) for unit in UNITS}
        counts = None
        if self.tokenizer is not None:
            counts = self.tokenizer.counts([row.texts[0] for row in rows]) if rows else []
        around = prompt_tokens(PromptSettings(), self.tokenizer) if counts is not None else 0
        for i, row in enumerate(rows):
            frames = self.frames(row)
            if frames is None:
                continue
            seconds = self.file_seconds.get(row.place, row.seconds)
            columns["seconds"][i] = (frames * 10 + 15) / 1000 if seconds is None else seconds
            columns["speech_length"][i] = frames
            columns["lfr_frames"][i] = lfr_frames(frames)
            if counts is not None:
                columns["text_length"][i] = counts[i]
                columns["sampler_length"][i] = frames + counts[i]
                columns["sequence_length"][i] = self._sequence(row, frames, counts[i], around)
            if self.ctc_tokenizer is not None:
                needed = frames_needed(self.ctc_labels(row.text))
                columns["ctc_slack"][i] = self.encoder_frames(frames) - needed
        return {unit: values for unit, values in columns.items() if not np.isnan(values).all()}

    def ctc_labels(self, text: str) -> list[int]:
        """Give the labels of a text as the CTC branch is to emit them."""
        normalised = TextNormalizer()(text) if self.value("dataset_conf.ctc_target_normalize", True) else text
        return list(self.ctc_tokenizer.encode(normalised))

    def _sequence(self, row: Row, frames: int, text: int, around: int) -> int:
        if "messages" in row.line and len(row.texts) > 1:
            return sequence_length(row.line, self.tokenizer, [frames] * len(row.audio))
        return around + audio_tokens(frames) + text + 1

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Give {name: shape} of the weights, of the model or of the file; empty where neither is there."""
        state = self.model.state_dict() if self.model is not None else self.state or {}
        return {name: tuple(tensor.shape) for name, tensor in state.items()}

    @cached_property
    def llm_config(self) -> dict[str, Any]:
        """Give config.json of the language model's folder, empty where there is none."""
        folder = self.value("llm_conf.init_param_path")
        if folder is None:
            return {}
        path = Path(folder)
        if not path.is_absolute() and self.model_dir is not None:
            path = Path(self.model_dir) / path
        try:
            found = json.loads((path / "config.json").read_bytes())
        except (OSError, ValueError):
            return {}  # that it is missing is said by the reader of the directory
        return found if isinstance(found, dict) else {}

    @cached_property
    def num_parameters(self) -> int | None:
        if self.model is None:
            return None
        return sum(parameter.numel() for parameter in self.model.parameters())


def lookup(config: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """Give the value of a dotted key of nested mappings, `default` where it is missing or null."""
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or node.get(part) is None:
            return default
        node = node[part]
    return node


def _own_config(folder: Path | None) -> dict[str, Any]:
    """Give config.yaml of a model directory as it is there; empty where it cannot be read."""
    path = Path(folder) / "config.yaml" if folder is not None else None
    if path is None or not path.is_file():
        return {}
    try:
        return resolved(load_config(path), str(path))
    except ValueError:
        return {}  # the reader of the directory says what is wrong with it


def _header(path: str) -> AudioInfo | str:
    try:
        info = audio_info(path)
        if info.missing_frames or not info.num_frames:
            read_audio(path, channel="average")  # raises what is wrong, in words
        return info
    except (ValueError, OSError) as error:
        return str(error)
