"""The encoder as an ONNX graph: mel features in, encoded frames out, any batch and any length."""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nest_ssl.modules.conformer_encoder import ConformerEncoder

OPSET = 18
INPUTS = ("features", "lengths")
OUTPUTS = ("encoded", "encoded_lengths")
CHECKED_LENGTHS = (
    (1,),
    (97,),
    (211, 1, 64, 9),
    (640, 333),
)  # mel frames: odd, one frame, unlike ones in a batch
TOLERANCE = 1e-3  # of encoded values, which are normalised to about 1

log = logging.getLogger(__name__)


def export_onnx(
    encoder: ConformerEncoder,
    path: str | os.PathLike,
    opset: int = OPSET,
    facts: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write `encoder`, in evaluation mode and float32, as ONNX; gives the files written.

    Inputs: features (B, feat_in, T) float32, lengths (B,) int64 mel frames.  Outputs: encoded (B, d_model,
    T') float32, encoded_lengths (B,) int64; frames beyond an item's length mean nothing.  B and T are
    dynamic. Weights beyond the 2 GB of one ONNX file go into a file `NAME.data` beside it.  `facts` are
    written into the file's metadata as JSON.  Raises ValueError if the export extra is missing or the graph
    cannot be made.
    """
    _need("onnx", "onnxscript")
    path = Path(path)
    program = _program(_Exported(encoder).eval(), opset)
    program.model.metadata_props.update({key: json.dumps(value) for key, value in (facts or {}).items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".onnx-") as folder:
        program.save(Path(folder) / path.name)
        # The data first: the graph's name appears when all that it needs is there.
        made = sorted(Path(folder).iterdir(), key=lambda file: file.name == path.name)
        for file in made:
            file.replace(path.parent / file.name)
    return [path.parent / file.name for file in made]


def check_onnx(
    encoder: ConformerEncoder,
    path: str | os.PathLike,
    lengths: Sequence[Sequence[int]] = CHECKED_LENGTHS,
) -> float:
    """The largest difference between onnxruntime's frames and torch's, on noise of these lengths per batch.

    Raises ValueError if a length differs, or values by more than TOLERANCE.
    """
    _need("onnxruntime")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    plain = _plain_encoder(encoder)
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for batch in lengths:
        frames = torch.tensor(batch)
        features = torch.randn(len(batch), encoder._feat_in, max(batch), generator=generator)
        with torch.no_grad():
            expected, expected_lengths = plain(audio_signal=features.clone(), length=frames)
        encoded, encoded_lengths = session.run(
            list(OUTPUTS), {"features": features.numpy(), "lengths": frames.numpy()}
        )
        if encoded.shape != tuple(expected.shape) or encoded_lengths.tolist() != expected_lengths.tolist():
            raise ValueError(f"{path}: onnxruntime gives other lengths than torch for {list(batch)} frames")
        for item, length in enumerate(expected_lengths.tolist()):
            difference = torch.from_numpy(encoded[item, :, :length]) - expected[item, :, :length]
            worst = max(worst, float(difference.abs().max())) if length else worst
    if not worst <= TOLERANCE:
        raise ValueError(f"{path}: onnxruntime differs from torch by {worst:.2g}, more than {TOLERANCE:g}")
    return worst


class _Exported(nn.Module):
    """The encoder with positions that are computed from the input's length, not cut from a table."""

    def __init__(self, encoder: ConformerEncoder) -> None:
        super().__init__()
        self.encoder = _plain_encoder(encoder)
        positions = self.encoder.pos_enc
        if self.encoder.self_attention_model == "rel_pos":
            positions.positions = lambda frames, device: _sinusoids(
                frames - 1 - torch.arange(2 * frames - 1), encoder.d_model
            )
        elif self.encoder.self_attention_model == "abs_pos":
            positions.positions = lambda frames, device: _sinusoids(torch.arange(frames), encoder.d_model)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.encoder(audio_signal=features, length=lengths)


def _plain_encoder(encoder: ConformerEncoder) -> Any:
    """A copy on the CPU, in float32 and evaluation mode."""
    plain = copy.deepcopy(encoder).cpu().float().eval()
    return plain.requires_grad_(False)


def _sinusoids(positions: Tensor, d_model: int) -> Tensor:
    """(1, positions, d_model) float32, as the encoder's table has them."""
    frequencies = torch.exp(torch.arange(0, d_model, 2, dtype=torch.float32) * -(math.log(10000.0) / d_model))
    angles = positions.to(torch.float32)[:, None] * frequencies
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[None]


def _program(module: _Exported, opset: int) -> Any:
    batch, frames = torch.export.Dim("batch"), torch.export.Dim("frames")
    example = (torch.randn(3, module.encoder._feat_in, 117), torch.tensor([117, 60, 9]))
    quiet = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = quiet.level
    quiet.setLevel(logging.ERROR)  # it says that torchvision is not there
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.onnx.export(
                module,
                example,
                dynamo=True,
                opset_version=opset,
                dynamic_shapes={"features": {0: batch, 2: frames}, "lengths": {0: batch}},
                input_names=list(INPUTS),
                output_names=list(OUTPUTS),
                verbose=False,
            )
    except Exception as error:  # the exporter raises what it likes for a graph that it cannot trace
        kind = module.encoder.self_attention_model
        reason = error.__cause__ or error  # what torch could not trace, not its advice
        cause = str(reason).strip().splitlines() or [""]
        raise ValueError(
            f"the encoder ({kind}) cannot be exported to ONNX with opset {opset}: {type(reason).__name__}: "
            f"{cause[0][:200]}; take --to encoder, or an encoder with rel_pos or abs_pos"
        ) from error
    finally:
        quiet.setLevel(level)


def _need(*modules: str) -> None:
    import importlib.util

    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise ValueError(
                f"{module} is not installed; it belongs to the extra: pip install 'nest-ssl[export]'"
            )
