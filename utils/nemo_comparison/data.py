"""The data: items and batches of one manifest, with and without augmentation."""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from nemo_comparison.inputs import FIELDS, make_corpus
from nemo_comparison.peers import Peers, quiet
from nemo_comparison.table import Table, difference_of
from nest_ssl.data import ssl_dataset
from nest_ssl.modules.ssl_modules.augmentation import MultiSpeakerNoiseAugmentation


def compare_data(peers: Peers, table: Table) -> None:
    """Items and batches of one manifest, with the random state set alike before each."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        manifest, noise = make_corpus(Path(folder))
        for trim in (False, True):
            options = {"sample_rate": 16000, "min_duration": 0.2, "max_duration": 4.0, "trim_silence": trim}
            paths = {"manifest_filepath": str(manifest), "noise_manifest": str(noise)}
            nemo = peers.dataset.get_audio_noise_dataset({**options, **paths})
            ours = ssl_dataset.AudioNoiseDataset(**paths, **options)
            items: list[list[Any]] = [[], []]
            for number in range(len(nemo)):
                for draw in range(4):
                    seed = peers.seed + 1000 * draw + number
                    np.random.seed(seed)
                    items[1].append(nemo[number])
                    items[0].append(ours.item(number, 0, np.random.RandomState(seed)))
            name = f"trim_silence {trim}"
            pairs = list(zip(*items, strict=True))
            with contextlib.redirect_stdout(sys.__stdout__):
                table.row(f"rows kept, {name}", abs(len(ours) - len(nemo)), note=f"{len(nemo)} of them")
                table.row(f"sample_id, {name}", sum(a.sample_id != b.sample_id for a, b in pairs))
                for field in FIELDS[:4]:
                    differences = [difference_of(getattr(a, field), getattr(b, field)) for a, b in pairs]
                    table.row(f"items: {field}, {name}", max(differences), 1e-6, f"{len(differences)} draws")
    section = {"prob": 0.7, "noise_ratio": 0.5, "min_mix_rate": 0.3, "max_mix_rate": 1.0}
    augmentors = (
        (None, None),
        (MultiSpeakerNoiseAugmentation(**section), peers.modules.MultiSpeakerNoiseAugmentation(**section)),
    )
    for ours_augmentor, nemo_augmentor in augmentors:
        worst = dict.fromkeys(FIELDS, 0.0)
        failed = count = 0
        for start in range(0, len(items[1]) - 4, 5):
            count += 1
            random.seed(start)
            try:
                expected = peers.dataset._audio_noise_collate_fn(items[1][start : start + 5], nemo_augmentor)
            except IndexError:
                failed += 1
                continue
            batch = ssl_dataset.audio_noise_collate(
                items[0][start : start + 5], ours_augmentor, random.Random(start)
            )
            for field in FIELDS:
                difference = difference_of(getattr(batch, field), getattr(expected, field))
                worst[field] = max(worst[field], difference)
        for field, difference in worst.items():
            name = "with augmentor" if nemo_augmentor else "without augmentor"
            note = f"{count} batches" + (f", NeMo fails on {failed}" if failed else "")
            table.row(f"batches {name}: {field}", difference, 1e-5, note)
