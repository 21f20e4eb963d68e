"""Options and lengths at the edges: a whole training step of each configuration."""

from __future__ import annotations

import math

import torch

from nemo_comparison.inputs import noise_batch
from nemo_comparison.outputs import forward, step_rows
from nemo_comparison.peers import NO_DROPOUT, Peers
from nemo_comparison.random_parts import compare_augmentation, compare_masking, compare_quantizer
from nemo_comparison.table import Table

# What is changed below `model.`; the lengths of the items, in samples, are ODD where LENGTHS names no others.
CASES = {
    "defaults": "",
    "very short": "",
    "one item of 1 s": "masking.mask_prob=0.2",
    "one item of 0.1 s": "",
    "nothing masked": "masking.mask_prob=0.0",
    "2 books, code_dim 7": "num_books=2 code_dim=7",
    "3 books, code_dim 1": "num_books=3 code_dim=1",
    "squeeze_single": "squeeze_single=true",
    "2 books, squeeze_single": "squeeze_single=true num_books=2",
    "128 mels, n_fft null": "preprocessor.features=128 preprocessor.n_fft=null",
    "window none": "preprocessor.window=none",
    "window blackman, n_fft 1024": "preprocessor.window=blackman preprocessor.n_fft=1024",
    "band of 60 to 3800 Hz": "+preprocessor.lowfreq=60 +preprocessor.highfreq=3800",
    "normalize all_features": "preprocessor.normalize=all_features",
    "normalize null, pad_to 8": "preprocessor.normalize=null preprocessor.pad_to=8",
    "no log, mag_power 1": "preprocessor.log=false +preprocessor.mag_power=1.0",
    "zero guard clamp, no preemphasis": "+preprocessor.log_zero_guard_type=clamp +preprocessor.preemph=null",
    "pad_value -4": "preprocessor.pad_value=-4.0",
    # NeMo's dither covers the padding of exact_pad as well, so its other draws come later.
    "exact_pad without dither": "+preprocessor.exact_pad=true preprocessor.dither=0.0",
    "8 kHz": "sample_rate=8000 preprocessor.n_fft=256",
    "frame_splicing 2": (
        "preprocessor.frame_splicing=2 masking.feat_in=160 quantizer.feat_in=160 encoder.feat_in=160"
    ),
    "no biases, no xscaling": "encoder.use_bias=false encoder.xscaling=false decoder.use_bias=false",
    "attention by torch's kernel": "+encoder.use_pytorch_sdpa=true",
    "subsampling 16": "encoder.subsampling_factor=16",
    "subsampling 2, mask_threshold 0.4": "encoder.subsampling_factor=2 loss.mask_threshold=0.4",
    "kernel 5, feed-forward 2": "encoder.conv_kernel_size=5 encoder.ff_expansion_factor=2",
    "subsampling channels -1": "encoder.subsampling_conv_channels=-1",
    "more frames than positions": "encoder.pos_emb_max_len=8",
    "no overlap": "masking.allow_overlap=false masking.mask_prob=0.5",
    "mask_value 0.5, everything masked": "+masking.mask_value=0.5 masking.mask_prob=1.0",
    "trained mask embedding": "masking.freeze=false masking.mask_prob=0.1",
}
ODD = (1601, 20479, 9999, 16079)
LENGTHS = {
    "very short": (1, 159, 160, 401, 1700),
    "one item of 1 s": (16000,),
    "one item of 0.1 s": (1600,),
    "nothing masked": (16000, 24000),
}


def compare_edges(peers: Peers, table: Table) -> None:
    """Configurations and lengths at the edges: a whole training step of each; then modules at random."""
    for name, words in CASES.items():
        overrides = [f"+model.{word[1:]}" if word[0] == "+" else f"model.{word}" for word in words.split()]
        ours, nemo = peers.pair(*NO_DROPOUT, *overrides)
        batch = noise_batch(LENGTHS.get(name, ODD), peers.seed)
        try:
            with torch.no_grad():
                forward(nemo, batch, peers.seed)
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            print(f"{name:<66}{'-':>12}{'-':>11}  NeMo fails: {str(error).splitlines()[0][:80]}")
            continue
        nemo.load_state_dict(ours.state_dict())
        rows = list(step_rows(ours, nemo, batch, peers.seed))
        what, *figures, note = max(rows, key=share_of_tolerance)
        table.row(name, *figures, f"worst of {len(rows)} comparisons: {what} {note}")
    compare_masking(peers, table)
    compare_quantizer(peers, table)
    compare_augmentation(peers, table)


def share_of_tolerance(row: tuple[str, float, float, str]) -> float:
    """How much of its tolerance a row uses up; more than 1 differs."""
    _, difference, tolerance, _ = row
    return difference / tolerance if tolerance else (math.inf if difference else 0.0)
