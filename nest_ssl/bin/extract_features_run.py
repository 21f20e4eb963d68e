"""The work of the verb extract_features: every utterance through the encoder."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from nest_ssl.bin.arguments import chosen_device
from nest_ssl.bin.terminal import progress_bar
from nest_ssl.checkpoints.state import tensors_digest
from nest_ssl.decoding.recordings import Recording, padded_batches
from nest_ssl.files.atomic import replaced
from nest_ssl.files.manifest import write_rows
from nest_ssl.models.feature_models import feature_model

SETTINGS, ROWS = "settings.json", "features.jsonl"


def extract_features(arguments: argparse.Namespace, recordings: list[Recording]) -> int:
    """Write what is missing of the features, and the rows that name them all; gives the exit status."""
    device = chosen_device(arguments.device)
    model, config = feature_model(arguments.model, arguments.layers, arguments.mode, arguments.weights)
    model = model.to(device)
    settings = {
        "model": tensors_digest(model.state_dict().items()),
        "layers": model.feature_extractor.layer_idx_list,
        "mode": arguments.mode,
        "weights": arguments.weights,
        "format": arguments.format,
        "dtype": arguments.dtype,
    }
    claim(arguments.out, settings)
    paths = [arguments.out / file_name(recording, arguments.format) for recording in recordings]
    doubled = {path for path in paths if paths.count(path) > 1} if len(set(paths)) < len(paths) else set()
    if doubled:
        first = recordings[paths.index(min(doubled))].utterance_id
        raise ValueError(
            f"{len(doubled)} utterance ids are there twice, {first!r} among them; make ids unique"
        )
    missing = [i for i, path in enumerate(paths) if not path.is_file()]
    extract(model, [recordings[i] for i in missing], [paths[i] for i in missing], config, device, arguments)
    rows = [row_of(recording, path) for recording, path in zip(recordings, paths, strict=True)]
    write_rows(arguments.out / ROWS, rows)
    print(f"{arguments.out / ROWS}: {len(rows)} utterances, {len(rows) - len(missing)} were there before")
    return 0


@torch.inference_mode()
def extract(
    model: Any,
    recordings: list[Recording],
    paths: list[Path],
    config: dict[str, Any],
    device: torch.device,
    arguments: argparse.Namespace,
) -> None:
    """Compute and write the files of `recordings`, each complete or not at all."""
    sample_rate = int(config.get("sample_rate") or config["preprocessor"].get("sample_rate", 16000))
    batches = padded_batches(recordings, arguments.batch_duration, sample_rate, arguments.channel_selector)
    with progress_bar(len(recordings), "utterance", "extract") as bar:
        for numbers, audio, lengths in batches:
            features, frames = model(input_signal=audio.to(device), length=lengths.to(device))
            if isinstance(features, list):
                frames = frames[0]
                features = features[0] if len(features) == 1 else torch.stack(features, dim=1)
            for row, number in enumerate(numbers):
                kept = features[row][..., : int(frames[row])]
                write_features(paths[number], kept.cpu().numpy().astype(arguments.dtype))
            bar.update(len(numbers))


def write_features(path: Path, features: np.ndarray) -> None:
    features = np.ascontiguousarray(features)
    with replaced(path) as temporary:
        if path.suffix == ".npy":
            with open(temporary, "wb") as file:
                np.save(file, features, allow_pickle=False)
        else:
            save_file({"features": features}, temporary)


def claim(folder: Path, settings: dict[str, Any]) -> None:
    """Make the folder this extraction's; ValueError if it holds features of other settings."""
    path = folder / SETTINGS
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = [key for key in settings if before.get(key) != settings[key]]
        if changed:
            named = ", ".join(f"{key} {before.get(key)} -> {settings[key]}" for key in changed)
            raise ValueError(f"{folder} holds features of other settings ({named}); choose another --out")
        return
    folder.mkdir(parents=True, exist_ok=True)
    with replaced(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def file_name(recording: Recording, suffix: str) -> str:
    """A name that shows the id and is safe and unique for it."""
    shown = re.sub(r"[^A-Za-z0-9_-]+", "_", recording.utterance_id)[-48:].strip("_")
    digest = hashlib.blake2b(recording.utterance_id.encode("utf-8", "surrogatepass"), digest_size=6)
    return f"{shown}-{digest.hexdigest()}.{suffix}"


def row_of(recording: Recording, path: Path) -> dict[str, Any]:
    row = {
        "id": recording.utterance_id,
        "audio_filepath": str(recording.audio_path),
        "offset": recording.offset_s,
        "duration": recording.duration_s if recording.duration_s is not None else recording.length_s,
        "feature_filepath": path.name,
        "feature_frames": frames_in(path),
    }
    return row if recording.reference is None else {**row, "text": recording.reference}


def frames_in(path: Path) -> int:
    """The length of a written file, from its header."""
    if path.suffix == ".npy":
        return int(np.load(path, mmap_mode="r", allow_pickle=False).shape[-1])
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return int(file.get_slice("features").get_shape()[-1])
