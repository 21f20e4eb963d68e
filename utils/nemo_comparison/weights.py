"""Parameters, state dicts, initial weights; .nemo archives in both directions."""

from __future__ import annotations

import copy
import tempfile

import torch
from omegaconf import OmegaConf

from nemo_comparison.inputs import noise_batch
from nemo_comparison.outputs import forward, output_rows
from nemo_comparison.peers import Peers, quiet
from nemo_comparison.table import Table, state_difference
from nest_ssl.models.ssl_models import EncDecDenoiseMaskedTokenPredModel as OurModel


def compare_weights(peers: Peers, table: Table) -> None:
    """Parts, parameters, state dict, initial weights."""
    ours, nemo = peers.pair()
    counts = [
        {n: sum(p.numel() for p in m.parameters()) for n, m in x.named_children()} for x in (ours, nemo)
    ]
    table.row("parameters per part", sum(counts[0].get(n) != c for n, c in counts[1].items() if c))
    state, other = ours.state_dict(), nemo.state_dict()
    table.row(
        "state dict: keys and their order", float(list(state) != list(other)), note=f"{len(other)} keys"
    )
    forms = [{k: (v.shape, v.dtype) for k, v in s.items()} for s in (state, other)]
    table.row("state dict: shapes and types", sum(forms[0].get(k) != form for k, form in forms[1].items()))
    frozen = [{n for n, p in x.named_parameters() if not p.requires_grad} for x in (ours, nemo)]
    table.row("frozen parameters", len(frozen[0] ^ frozen[1]), note=f"{len(frozen[1])} of them")
    for seed in range(peers.seed, peers.seed + 3):
        peers_of_seed = copy.copy(peers)
        peers_of_seed.seed = seed
        ours, nemo = peers_of_seed.pair()
        table.row(f"initial weights of seed {seed}", state_difference(ours.state_dict(), nemo.state_dict()))


def compare_archives(peers: Peers, table: Table) -> None:
    """.nemo files in both directions, and what the restored models give."""
    ours, nemo = peers.pair()
    batch = noise_batch((31234, 18000, 25500), peers.seed)
    for model in (ours, nemo):
        perturb(model, peers.seed)
    with tempfile.TemporaryDirectory() as folder, quiet():
        ours.save_to(f"{folder}/ours.nemo")
        nemo.save_to(f"{folder}/nemo.nemo")
        read_by_nemo = peers.model.restore_from(f"{folder}/ours.nemo", map_location="cpu", strict=True)
        read_by_us = OurModel.restore_from(f"{folder}/nemo.nemo")
        read_by_us.mask_processor.sampler = peers.sampler
        again = peers.model.restore_from(f"{folder}/nemo.nemo", map_location="cpu", strict=True)
    table.row("our .nemo in NeMo: weights", state_difference(ours.state_dict(), read_by_nemo.state_dict()))
    table.row("NeMo's .nemo here: weights", state_difference(read_by_us.state_dict(), nemo.state_dict()))
    configs = [
        {k: v for k, v in OmegaConf.to_container(m.cfg).items() if k not in ("target", "nemo_version")}
        for m in (read_by_nemo, again)
    ]
    table.row("our .nemo in NeMo: configuration", float(configs[0] != configs[1]))
    for name, a, b in (("ours", ours, read_by_nemo), ("NeMo's", read_by_us, nemo)):
        for mask in (True, False):
            results = [forward(model.eval(), batch, peers.seed, mask) for model in (a, b)]
            for what, *figures in output_rows(results):
                table.row(f"{name} .nemo, eval, apply_mask {mask}: {what}", *figures)


@torch.no_grad()
def perturb(model: torch.nn.Module, seed: int) -> None:
    """Move every weight and statistic off its initial value, in models of the same keys alike."""
    generator = torch.Generator().manual_seed(seed)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.add_(torch.rand(value.shape, generator=generator).to(value.dtype) * 0.02)
