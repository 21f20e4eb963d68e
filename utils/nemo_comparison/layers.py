"""Module by module: where along the network the two begin to differ; and the tokens of many frames."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nemo_comparison.inputs import noise_batch
from nemo_comparison.outputs import forward
from nemo_comparison.peers import NO_DROPOUT, Peers
from nemo_comparison.table import ACTIVATIONS, Table, difference_of

TOKENS = 1e-4  # share that may differ: a feature half-way between two codes falls either way by rounding
LENGTHS = (31234, 18000, 25500)


def compare_layers(peers: Peers, table: Table) -> None:
    """Largest difference of every module's output, as a share of its largest value (if above 1).

    Where an axis is of frames, those of padding are left out: nothing is made of them, so each side may hold
    there what it likes.
    """
    for training in (False, True):
        ours, nemo = peers.pair(*NO_DROPOUT)
        batch = noise_batch(LENGTHS, peers.seed)
        outputs = []
        for model in (ours, nemo):
            with recorded(model.train(training)) as found:
                forward(model, batch, peers.seed)
            outputs.append(found)
        mode = "train" if training else "eval"
        groups: dict[str, list[tuple[float, str]]] = defaultdict(list)
        valid = valid_frames(ours, batch)
        for name in outputs[1]:
            if name in outputs[0]:
                groups[group_of(name)].append((worst_of(outputs[0][name], outputs[1][name], valid), name))
        for group, found in groups.items():
            difference, name = max(found)
            note = f"{len(found)} modules" + (f", worst {name}" if difference else "")
            table.row(f"{mode}: {group}", difference, ACTIVATIONS, note)


def compare_tokens(peers: Peers, table: Table) -> None:
    """Share of tokens that differ, features computed by each side, over `--frames` frames of the tokens."""
    ours, nemo = peers.pair()
    differing = total = 0
    number = 0
    while total < peers.frames:
        batch = noise_batch((160000, 128000, 112000, 96000), peers.seed + number)
        tokens = []
        for model in (ours.eval(), nemo.eval()):
            with torch.no_grad():
                features, _ = model.preprocessor(input_signal=batch.audio, length=batch.audio_len)
                tokens.append(model.quantizer(input_signal=features)[1])
        differing += int((tokens[0] != tokens[1]).sum())
        total += tokens[1].numel()
        number += 1
    table.row("tokens that differ, as a share", differing / total, TOKENS, f"{differing} of {total}")


def group_of(name: str) -> str:
    """encoder.layers.3.conv.batch_norm -> encoder.layers.3; other parts by their first two names."""
    parts = name.split(".")
    return ".".join(parts[:3] if parts[:2] == ["encoder", "layers"] else parts[:2])


@contextlib.contextmanager
def recorded(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """The first tensor that each module gives, for every time it runs."""
    outputs: dict[str, list[Tensor]] = defaultdict(list)

    def keep(name: str) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            while isinstance(output, tuple | list) and output:
                output = output[0]
            if isinstance(output, Tensor):
                outputs[name].append(output.detach().clone())

        return hook

    hooks = [part.register_forward_hook(keep(name)) for name, part in model.named_modules() if name]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def valid_frames(model: Any, batch: Any) -> dict[int, Tensor]:
    """Frames of the batch at each stage of sub-sampling -> valid frames (B,) of its items there."""
    with torch.no_grad():
        features, lengths = model.preprocessor(input_signal=batch.audio.clone(), length=batch.audio_len)
    frames = features.shape[-1]
    found = {frames: lengths}
    factor = model.cfg.encoder.subsampling_factor
    while factor > 1:
        frames, lengths, factor = (frames - 1) // 2 + 1, (lengths - 1) // 2 + 1, factor // 2
        found[frames] = lengths
    return found


def worst_of(ours: list[Tensor], nemo: list[Tensor], valid: dict[int, Tensor]) -> float:
    """Largest difference; frames may come before or after features, as the two compute 1x1 convolutions."""
    worst = 0.0
    for found, expected in zip(ours, nemo, strict=False):
        if found.shape != expected.shape and found.dim() == 3:
            found = found.transpose(1, 2)
        if found.shape != expected.shape:
            continue  # another lay-out of the same module, such as heads apart
        found, expected = without_padding(found, valid), without_padding(expected, valid)
        size = max(1.0, float(expected.abs().max())) if expected.is_floating_point() else 1.0
        worst = max(worst, difference_of(found, expected) / size)
    return worst


def without_padding(output: Tensor, valid: dict[int, Tensor]) -> Tensor:
    """(B, ...) with zeros at padded frames, along every axis that is as long as the batch has frames."""
    for axis, size in enumerate(output.shape):
        if axis and size in valid and len(output) == len(valid[size]):
            padding = torch.arange(size)[None, :] >= valid[size][:, None]
            shape = [len(output), *(size if other == axis else 1 for other in range(1, output.dim()))]
            output = output.masked_fill(padding.view(shape), 0)
    return output
