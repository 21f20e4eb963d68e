"""A trained model in any of the forms it is kept in, told apart by content."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from nest_ssl.checkpoints.lightning_ckpt import read_lightning
from nest_ssl.checkpoints.nemo_archive import is_nemo, read_nemo
from nest_ssl.checkpoints.safetensors_dir import STATE, read_safetensors, read_safetensors_dir

# Of the class without a `target`: a training checkpoint's configuration is the YAML, which names none.
DEFAULT_TARGET = "nemo.collections.asr.models.ssl_models.EncDecDenoiseMaskedTokenPredModel"


@dataclass(frozen=True)
class Source:
    """What a file or directory holds: its kind, the model section (None in bare weights), the weights.

    `facts` are figures found beside them: step, epoch, hours_seen, metrics, optimizers.
    """

    path: Path
    kind: str
    config: dict[str, Any] | None
    state: dict[str, Tensor]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def target(self) -> str:
        return str((self.config or {}).get("target") or DEFAULT_TARGET)


def read_source(path: str | os.PathLike) -> Source:
    """Read a .nemo file, a Lightning .ckpt, a .safetensors file, a directory of safetensors (an export or a
    training checkpoint), or a run directory (its final.nemo).

    Nothing pickled is run.  Raises FileNotFoundError, or ValueError naming the file.
    """
    path = Path(path)
    if path.is_dir():
        if (path / "final.nemo").is_file():
            return read_source(path / "final.nemo")
        config, state, progress = read_safetensors_dir(path)
        kind = "training checkpoint" if (path / STATE).is_file() else "safetensors directory"
        return Source(path, kind, config, state, progress)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    if zipfile.is_zipfile(path) and not is_nemo(path):
        checkpoint = read_lightning(path)
        facts = {
            "step": checkpoint.global_step,
            "epoch": checkpoint.epoch,
            "optimizers": checkpoint.optimizers,
        }
        known = {key: value for key, value in facts.items() if value}
        return Source(path, "Lightning checkpoint", checkpoint.config, checkpoint.state, known)
    if path.suffix == ".safetensors":
        return Source(path, "safetensors file", None, read_safetensors(path))
    if not is_nemo(path):
        raise ValueError(
            f"{path} ({path.stat().st_size} bytes) is no checkpoint in a form that is read: .nemo, .ckpt, "
            ".safetensors or a directory; a file of torch.save from before 1.6 must be loaded and saved again"
        )
    config, state = read_nemo(path)
    return Source(path, "NeMo archive", config, state)


def unwrapped_encoder(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """The state with the encoder's plain names, and whether any had to change.

    A model that masks after sub-sampling (`mask_position: post_conv`) keeps its sub-sampling under
    `encoder.pre_encode.pre_encode.` and once more under `pre_encoder.`, with the mask beside; other models
    look for `encoder.pre_encode.` and would start it from random weights.
    """
    inner = "encoder.pre_encode.pre_encode."
    if not any(key.startswith(inner) for key in state):
        return state, False
    plain = {}
    for key, tensor in state.items():
        if key.startswith(("pre_encoder.", "encoder.pre_encode.masking.")):
            continue
        plain[key.replace(inner, "encoder.pre_encode.", 1) if key.startswith(inner) else key] = tensor
    return plain, True
