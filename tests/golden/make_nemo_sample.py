"""Cut the committed sample out of the reference set: `python -m tests.golden.make_nemo_sample FOLDER`."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from pathlib import Path

from safetensors.torch import load_file, save
from torch import Tensor

SAMPLE = Path(__file__).parent / "nemo"

BASE_LEFT_OUT = ("mel_", "masked_feats", "pos_", "l0.", "layer", "grad.encoder.layers.1")
# One case for each larger part that base leaves out, and two books.
OPTIONS = ("local_attn", "post_conv_denoise_FIXED", "books2")
OPTION_LEFT_OUT = ("mel_", "masked_feats", "pos_", "l0.", "layer", "train.encoded")
CONTRASTIVE = "ssl_contrastive_gumbel_mlm"
QUANTIZERS = ("2", "4")
AUGMENTED = ("default.0", "multi.0")
META = (
    *(
        "name",
        "waves",
        "init_seed",
        "mask_seed_eval",
        "mask_seed_train",
        "apply_mask",
        "eval_loss",
        "train_loss",
    ),
    *("state_dict_keys", "grad_norms", "traj", "nemo_version", "torch"),
)


def main(source: Path) -> None:
    make_base(source / "base", SAMPLE / "base")
    tensors = load_file(source / "quantizer.safetensors")
    pack({k: v for k, v in tensors.items() if k.startswith(QUANTIZERS)}, SAMPLE / "quantizer.safetensors")
    tensors = load_file(source / "batch_augment.safetensors")
    kept = (*AUGMENTED, "audio", "noise")
    pack({k: v for k, v in tensors.items() if k.startswith(kept)}, SAMPLE / "batch_augment.safetensors")
    for name in ("masking", "masking_nemo3"):
        pack(load_file(source / f"{name}.safetensors"), SAMPLE / f"{name}.safetensors")
    for name in ("quantizer", "masking", "masking_nemo3", "batch_augment"):
        copy_json(source / f"{name}.json", SAMPLE / f"{name}.json")
    for name in ("tiny_denoise.nemo", "tiny_post_conv.nemo"):
        gzipped((source / name).read_bytes(), SAMPLE / name)
    for name in OPTIONS:
        make_option(source / name, SAMPLE / name)
    make_contrastive(source / CONTRASTIVE, SAMPLE / CONTRASTIVE)


def make_base(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    tensors = load_file(source / "tensors.safetensors")
    kept = {k: v for k, v in tensors.items() if not k.startswith(BASE_LEFT_OUT)}
    kept["mel_clean.first"] = tensors["mel_clean"][0].clone()
    pack(kept, target / "tensors.safetensors")
    state = load_file(source / "state_dict.safetensors")
    pack({k: v for k, v in state.items() if "featurizer" not in k}, target / "state_dict.safetensors")
    shutil.copyfile(source / "config.yaml", target / "config.yaml")
    meta = json.loads((source / "meta.json").read_text())
    (target / "meta.json").write_text(
        json.dumps({key: meta[key] for key in META}, separators=(",", ":")) + "\n"
    )


def make_option(source: Path, target: Path) -> None:
    """A case that shares the waveforms of `base`: what is compared, and the norms of all gradients."""
    target.mkdir(parents=True, exist_ok=True)
    tensors = load_file(source / "tensors.safetensors")
    kept = {key: tensor for key, tensor in tensors.items() if not key.startswith(OPTION_LEFT_OUT)}
    pack(kept, target / "tensors.safetensors")
    pack(load_file(source / "state_dict.safetensors"), target / "state_dict.safetensors")
    shutil.copyfile(source / "config.yaml", target / "config.yaml")
    meta = json.loads((source / "meta.json").read_text())
    kept_meta = {key: meta[key] for key in META if key in meta}
    (target / "meta.json").write_text(json.dumps(kept_meta, separators=(",", ":")) + "\n")


def make_contrastive(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in ("tensors.safetensors", "state_dict.safetensors"):
        pack(load_file(source / name), target / name)
    shutil.copyfile(source / "config.yaml", target / "config.yaml")
    copy_json(source / "meta.json", target / "meta.json")


def pack(tensors: dict[str, Tensor], target: Path) -> None:
    """Write `target`.gz, which cases.read_tensors reads: the sample's masks and waveforms pack well."""
    gzipped(save(tensors), target.with_name(f"{target.name}.gz"))


def gzipped(content: bytes, target: Path) -> None:
    with open(target, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(content)


def copy_json(source: Path, target: Path) -> None:
    target.write_text(json.dumps(json.loads(source.read_text()), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
