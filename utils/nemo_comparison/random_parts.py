"""Masking, quantiser and augmentation, with options and inputs drawn at random."""

from __future__ import annotations

import copy
import random

import torch

from nemo_comparison.inputs import FIELDS, noise_batch
from nemo_comparison.peers import Peers
from nemo_comparison.table import Table, difference_of
from nest_ssl.modules.ssl_modules.augmentation import MultiSpeakerNoiseAugmentation
from nest_ssl.modules.ssl_modules.masking import RandomBlockMasking
from nest_ssl.modules.ssl_modules.quantizers import RandomProjectionVectorQuantizer


def compare_masking(peers: Peers, table: Table, count: int = 300) -> None:
    draw = random.Random(peers.seed)
    masks, states, failed = 0, 0, 0
    for number in range(count):
        # From 8 frames on: of shorter items, without overlap, NeMo masks padding as well.
        lengths = [draw.randint(8, draw.choice((12, 60, 400))) for _ in range(draw.randint(1, 4))]
        options = {
            "feat_in": 3,
            "mask_prob": draw.choice((0.0, 0.01, 0.1, 0.5, 0.9, 1.0)),
            "block_size": draw.choice((1, 5, 8, 10, 40)),
            "allow_overlap": draw.random() < 0.5,
            "max_mask_ratio": draw.choice((0.2, 0.8, 1.0)),
        }
        features = torch.randn(len(lengths), 3, max(lengths) + draw.choice((0, 8, 100)))
        results = []
        try:
            for cls in (peers.modules.RandomBlockMasking, RandomBlockMasking):
                torch.manual_seed(number)
                module = cls(**options)
                if cls is RandomBlockMasking:
                    module.sampler = peers.sampler
                found = module(input_feats=features.clone(), input_lengths=torch.tensor(lengths))
                results.append((found, torch.get_rng_state()))
        except (IndexError, RuntimeError, ZeroDivisionError):
            if results:
                raise
            failed += 1
            continue
        masks += not all(torch.equal(a, b) for a, b in zip(results[0][0], results[1][0], strict=True))
        states += not torch.equal(results[0][1], results[1][1])
    note = f"{count} draws, NeMo fails on {failed}"
    table.row("RandomBlockMasking: batches masked otherwise", masks, note=note)
    table.row("RandomBlockMasking: random states left otherwise", states)


def compare_quantizer(peers: Peers, table: Table, count: int = 60) -> None:
    draw = random.Random(peers.seed)
    tokens = codes = total = 0
    for number in range(count):
        combine = draw.choice((1, 2, 8))
        options = {
            "feat_in": draw.choice((1, 13, 80)),
            "code_dim": draw.choice((1, 2, 7, 16)),
            "num_classes": draw.choice((1, 2, 33, 500)),
            "num_books": draw.choice((1, 2, 3)),
            "dist_fn": "l2",
            "time_ahead": draw.random() < 0.3,
            "squeeze_single": draw.random() < 0.5,
            "combine_time_steps": combine,
        }
        features = torch.randn(draw.randint(1, 3), options["feat_in"], combine * draw.randint(1, 30))
        features[:, :, -combine * draw.randint(0, 5) or features.shape[2] :] = 0.0
        features[0] *= draw.choice((1e-20, 1.0, 1e6))
        if options["time_ahead"]:
            features = features.transpose(1, 2)
        results = []
        for cls in (peers.modules.RandomProjectionVectorQuantizer, RandomProjectionVectorQuantizer):
            torch.manual_seed(number)
            results.append(cls(**options)(input_signal=features))
        codes += results[0][0].shape != results[1][0].shape or not torch.equal(results[0][0], results[1][0])
        if results[0][1].shape != results[1][1].shape:
            tokens += results[0][1].numel()
        else:
            tokens += int((results[0][1] != results[1][1]).sum())
        total += results[0][1].numel()
    table.row("RandomProjectionVectorQuantizer: other tokens", tokens, note=f"of {total}, padding included")
    table.row("RandomProjectionVectorQuantizer: batches of other codes", codes, note=f"of {count}")


def compare_augmentation(peers: Peers, table: Table, count: int = 150) -> None:
    draw = random.Random(peers.seed)
    worst, states, failed = dict.fromkeys(FIELDS, 0.0), 0, 0
    for number in range(count):
        rates, segments, speakers = (sorted(pair) for pair in (
            (draw.random(), draw.random()),
            (draw.randint(1, 5), draw.randint(1, 5)),
            (draw.randint(1, 6), draw.randint(1, 6)),
        ))  # fmt: skip
        options = {
            "prob": draw.choice((0.5, 1.0)),
            "noise_ratio": draw.choice((0.0, 0.5, 1.0)),
            **{"min_mix_rate": rates[0], "max_mix_rate": rates[1]},
            **{"min_num_segments": segments[0], "max_num_segments": segments[1]},
            **{"min_num_speakers": speakers[0], "max_num_speakers": speakers[1]},
        }
        lengths = [draw.randint(1, draw.choice((20, 4000))) for _ in range(draw.randint(1, 5))]
        batch = noise_batch(lengths, number)
        batch.noise_len = torch.tensor([draw.randint(1, max(lengths)) for _ in lengths])
        batch.sample_id = None
        results = []
        try:
            for cls in (peers.modules.MultiSpeakerNoiseAugmentation, MultiSpeakerNoiseAugmentation):
                random.seed(number)
                results.append((cls(**options)(copy.deepcopy(batch)), random.getstate()))
        except (IndexError, RuntimeError, ValueError):
            if results:
                raise
            failed += 1
            continue
        states += results[0][1] != results[1][1]
        for field in FIELDS:
            difference = difference_of(getattr(results[0][0], field), getattr(results[1][0], field))
            worst[field] = max(worst[field], difference)
    note = f"{count} batches, NeMo fails on {failed}"
    for field, difference in worst.items():
        table.row(f"MultiSpeakerNoiseAugmentation: {field}", difference, 1e-5, note)
    table.row("MultiSpeakerNoiseAugmentation: random states left otherwise", states)
