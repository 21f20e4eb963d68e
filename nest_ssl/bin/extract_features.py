"""Write encoder features of every utterance: one layer, several, or an aggregate of them.

Examples:
  python -m nest_ssl.bin.extract_features --model exp/small/pretrain/final.nemo \\
      --manifest data/dev.jsonl --out exp/features --layers all
  python -m nest_ssl.bin.extract_features --model exp/small/pretrain --manifest data/dev.jsonl \\
      --out exp/features --layers 8,-1 --mode mean

Each utterance has a file: (L, D, T) with --mode none and several layers, otherwise (D, T), float32 or
float16, as .npy or .safetensors (key `features`).  DIR/features.jsonl has the manifest's rows with
feature_filepath and feature_frames.  The same command again goes on with what is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from nest_ssl.bin.arguments import Parser, channel, device
from nest_ssl.bin.terminal import progress_bar, run
from nest_ssl.checkpoints.state import tensors_digest
from nest_ssl.decoding.recordings import Recording, padded_batches, recordings_of_manifests
from nest_ssl.files.atomic import replaced
from nest_ssl.files.manifest import write_rows
from nest_ssl.models.feature_models import feature_model
from nest_ssl.modules.feature_aggregation import MODES

SETTINGS, ROWS = "settings.json", "features.jsonl"

log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    device = arguments.device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
    recordings = recordings_of_manifests(arguments.manifest)
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


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser("extract_features", description=__doc__)
    add = parser.add_argument
    model = ".nemo, .ckpt, checkpoint or run directory"
    add("--model", type=Path, required=True, metavar="PATH", help=model)
    several = "may be repeated"
    add("--manifest", type=Path, action="append", required=True, metavar="FILE", help=several)
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    layers = "from 0, or from the end as in --layers=-2,-1; all [-1]"
    add("--layers", type=numbers, default="-1", metavar="N,N", help=layers)
    add("--mode", choices=MODES, default="none", metavar="MODE", help=f"{', '.join(MODES)} [%(default)s]")
    add("--weights", type=weights, metavar="W,W", help="of weighted_sum [equal, sum 1]")
    add("--format", choices=("npy", "safetensors"), default="npy", help="[%(default)s]")
    add("--dtype", choices=("float32", "float16"), default="float32", help="[%(default)s]")
    seconds = "seconds of audio at once [%(default)s]"
    add("--batch-duration", type=float, default=60.0, metavar="S", help=seconds)
    add("--channel-selector", type=channel, metavar="N|average", help="of several channels")
    add("--device", type=device, help="cpu, cuda, cuda:1 ... [a GPU if there is one]")
    arguments = parser.parse_args(argv)
    if arguments.weights and arguments.mode != "weighted_sum":
        parser.error("--weights needs --mode weighted_sum")
    if not arguments.batch_duration > 0:
        parser.error("--batch-duration must be positive")
    return arguments


def numbers(text: str) -> list[int] | None:
    """Layer numbers separated by commas; None for `all`."""
    if text == "all":
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither all nor numbers such as 0,8,-1") from None


def weights(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers such as 0.5,0.5") from None


if __name__ == "__main__":
    run(main)
