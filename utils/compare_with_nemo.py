#!/usr/bin/env python3
"""Compare this code with NeMo itself: weights, archives, outputs, training, data, odd inputs, speed.

Run it with the Python of an environment that has NeMo 2.x and what this package needs, for example:
  PYTHONPATH=. OMP_NUM_THREADS=1 /path/to/nemo/bin/python utils/compare_with_nemo.py
  ... utils/compare_with_nemo.py --parts steps,speed --steps 20 model.encoder.d_model=176

Both models are built from one configuration, small unless KEY=VALUE words make it larger, so that a CPU
is enough.  Every line of the table is one comparison; the exit status is 1 if any of them differs.
Where NeMo itself fails (the note counts these) there is nothing to compare.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib.metadata
import io
import json
import logging
import math
import os
import random
import resource
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nest_ssl.bin import pretrain  # noqa: E402  (the checkout need not be installed)
from nest_ssl.bin.terminal import run  # noqa: E402
from nest_ssl.config import load_config, resolved  # noqa: E402
from nest_ssl.data import ssl_dataset  # noqa: E402
from nest_ssl.files.audio import write_audio  # noqa: E402
from nest_ssl.files.manifest import write_rows  # noqa: E402
from nest_ssl.models.ssl_models import EncDecDenoiseMaskedTokenPredModel as OurModel  # noqa: E402
from nest_ssl.modules.ssl_modules.augmentation import MultiSpeakerNoiseAugmentation  # noqa: E402
from nest_ssl.modules.ssl_modules.masking import RandomBlockMasking  # noqa: E402
from nest_ssl.modules.ssl_modules.quantizers import RandomProjectionVectorQuantizer  # noqa: E402
from nest_ssl.training.distributed import Ranks  # noqa: E402
from nest_ssl.training.loop import Trainer  # noqa: E402
from nest_ssl.training.options import ExperimentOptions, TrainerOptions  # noqa: E402

CONFIG = ROOT / "conf" / "nest_fast-conformer.yaml"
SMALL = (
    *("model.num_classes=256", "model.encoder.n_layers=2", "model.encoder.d_model=64"),
    *("model.encoder.n_heads=4", "model.encoder.subsampling_conv_channels=32"),
    *("model.optim.lr=0.05", "model.optim.sched.warmup_steps=4"),  # a peak of 3e-3, reached within the steps
)
NO_DROPOUT = tuple(f"model.encoder.{key}=0.0" for key in ("dropout", "dropout_pre_encoder", "dropout_att"))

# Tolerances: of activations; of losses (relative); of gradients, as a share of the largest one.
ACTIVATIONS, LOSS, GRADIENTS = 1e-5, 2e-6, 5e-5
# Training amplifies rounding: several steps may differ this many times as much as NeMo does from itself when
# its initial weights move by one rounding.  Weights are measured against the learning rates added up, which
# is how far AdamW can move one.
SPREAD = 5.0
# Their gradients are zero but for rounding: a batch norm or a softmax takes a constant away again, and the
# slow cosines among the positions are such constants.  AdamW makes whole steps of rounding.  The running mean
# follows the bias before it, with a delay that shows in validation.
WITHOUT_GRADIENT = (
    *("conv.depthwise_conv.bias", "self_attn.linear_k.bias", "self_attn.linear_pos.weight"),
    "batch_norm.running_mean",
)
FIELDS = ("audio", "audio_len", "noise", "noise_len", "noisy_audio")


class Table:
    """The printed rows; `differing` names those out of tolerance."""

    def __init__(self) -> None:
        self.differing: list[str] = []
        print(f"{'what':<66}{'difference':>12}{'tolerance':>11}")

    def row(self, what: str, difference: float, tolerance: float = 0.0, note: str = "") -> None:
        """One comparison; a difference that is not a number is out of any tolerance."""
        good = difference <= tolerance
        if not good:
            self.differing.append(what)
        verdict = "ok" if good else "DIFFERS"
        print(f"{what:<66}{difference:>12.2e}{tolerance:>11.0e}  {verdict} {note}".rstrip(), flush=True)


class Peers:
    """NeMo's names and the settings of the comparison."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        # Imported here: that takes many seconds, and only what is asked for needs it.
        try:
            from nemo.collections.asr.data import ssl_dataset as nemo_dataset
            from nemo.collections.asr.models.ssl_models import EncDecDenoiseMaskedTokenPredModel
            from nemo.collections.asr.modules import ssl_modules
            from nemo.utils import logging as nemo_logging
        except ImportError as error:
            raise ValueError(
                f"NeMo cannot be imported by {sys.executable} ({error}); make an environment of its own, "
                "python3.11 -m venv DIR && DIR/bin/pip install 'nemo_toolkit[asr]>=2.6,<3', and run this "
                "script with DIR/bin/python"
            ) from error
        nemo_logging.setLevel(nemo_logging.CRITICAL)
        self.model = EncDecDenoiseMaskedTokenPredModel
        self.modules = ssl_modules
        self.dataset = nemo_dataset
        self.path, self.overrides = arguments.config, arguments.overrides
        self.seed, self.steps, self.pairs = arguments.seed, arguments.steps, arguments.pairs

    def config(self, *extra: str) -> DictConfig:
        """The resolved `model:` section without datasets; `extra` overrides are applied last."""
        overrides = [*SMALL, *self.overrides, *extra, "~model.train_ds", "~model.validation_ds"]
        section = resolved(load_config(self.path, overrides).model, "model")
        return OmegaConf.create(section)

    def pair(self, *extra: str) -> tuple[torch.nn.Module, torch.nn.Module]:
        """Our model and NeMo's with the initial weights of the same seed."""
        models = []
        for cls in (OurModel, self.model):
            torch.manual_seed(self.seed)
            models.append(cls(cfg=self.config(*extra)))
        return models[0], models[1]


# ---------------------------------------------------------------------- the model


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


def compare_training(peers: Peers, table: Table) -> None:
    """Outputs, loss, gradients and batch statistics of a training step without dropout."""
    for lengths in ((31234, 18000, 25500), (30000,), (40000, 40000)):
        ours, nemo = peers.pair(*NO_DROPOUT, "model.masking.mask_prob=0.03")
        for what, *figures in step_rows(ours, nemo, noise_batch(lengths, peers.seed), peers.seed):
            table.row(f"train step, {len(lengths)} items: {what}", *figures)


def step_rows(
    ours: Any, nemo: Any, batch: SimpleNamespace, seed: int
) -> Iterator[tuple[str, float, float, str]]:
    """(what, difference, tolerance, note) of one forward and backward of both in training mode."""
    ours.train()
    nemo.train()
    states = [{n: v.clone() for n, v in model.state_dict().items()} for model in (ours, nemo)]
    yield from output_rows([forward(model, batch, seed) for model in (ours, nemo)])
    for model, state in zip((ours, nemo), states, strict=True):
        model.load_state_dict(state)  # the forward moved the batch statistics
    torch.manual_seed(seed)
    loss_sum, weight, _ = ours.training_loss(copy.deepcopy(batch))
    expected = loss_of(nemo, forward(nemo, batch, seed))
    if math.isnan(expected):
        yield "loss", abs(float(loss_sum)) + float(weight), 0.0, "nothing masked: NeMo's is NaN, ours 0"
        return
    loss = loss_sum / weight
    yield "loss", abs(loss.item() / expected.item() - 1), LOSS, f"{expected:.4f}"
    loss.backward()
    expected.backward()
    found, wanted = ({n: p.grad for n, p in m.named_parameters() if p.grad is not None} for m in (ours, nemo))
    yield "parameters with a gradient", float(len(found.keys() ^ wanted.keys())), 0.0, f"{len(wanted)}"
    largest = max(g.abs().max().item() for g in wanted.values())
    difference = max(difference_of(found[n], g) for n, g in wanted.items())
    yield "gradients", difference / largest, GRADIENTS, f"largest {largest:.2g}"
    found, wanted = ({n: b for n, b in m.named_buffers() if "batch_norm" in n} for m in (ours, nemo))
    yield "batch statistics", state_difference(found, wanted), ACTIVATIONS, f"{len(wanted)}"


def compare_steps(peers: Peers, table: Table) -> None:
    """Our pretrain verb against NeMo's model, optimiser and schedule on the same batches."""
    compare_run(peers, table, "plain", [])
    extra = ["trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=0.5"]
    compare_run(peers, table, "accumulated, clipped", [*extra, "++trainer.loss_weighting=nemo"])


def compare_run(peers: Peers, table: Table, name: str, extra: list[str]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        manifest, noise = make_corpus(folder)
        sections = [
            f"model.{section}.{word}"
            for section in ("train_ds", "validation_ds")
            for word in (
                *(f"manifest_filepath={manifest}", f"noise_manifest={noise}"),
                *("batch_size=3", "num_workers=0", "pin_memory=false"),
            )
        ]
        overrides = [
            *(*SMALL, *NO_DROPOUT, *peers.overrides, *sections),
            *("trainer.accelerator=cpu", "trainer.devices=1", f"trainer.max_steps={peers.steps}"),
            *("trainer.log_every_n_steps=1", "trainer.enable_progress_bar=false"),
            *(f"++exp_manager.explicit_log_dir={folder / 'run'}", f"++trainer.seed={peers.seed}"),
            *("exp_manager.create_tensorboard_logger=false", *extra),
        ]
        config = pretrain.configuration(peers.path, overrides)
        options = TrainerOptions.from_config(resolved(config.trainer, "trainer"))
        experiment = ExperimentOptions.from_config(resolved(config.exp_manager, "exp_manager"))
        ranks = Ranks(0, 0, 1, torch.device("cpu"))
        with quiet():
            argument = (OmegaConf.to_yaml(config), str(folder / "run"), options, experiment)
            pretrain.pretrain(ranks, argument)
            losses, rates, validation, nemo = nemo_run(peers, config, options, ranks)
            control_losses, _, control_validation, control = nemo_run(peers, config, options, ranks, True)
            ours = peers.model.restore_from(str(folder / "run" / "final.nemo"), map_location="cpu")
        rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    train = [row for row in rows if row["kind"] == "train"]
    name = f"{len(rates)} steps {name}"
    table.row(f"{name}: learning rates", relative([row["lr"] for row in train], rates), 1e-12)
    # The log's loss of a step with several micro-batches is their mean.
    spread = SPREAD * relative(control_losses, losses)
    note = f"last {losses[-1]:.3f}"
    table.row(f"{name}: losses", relative([row["loss"] for row in train], losses), max(1e-6, spread), note)
    if options.loss_weighting == "nemo":
        found = [row["val_loss"] for row in rows if row["kind"] == "validation"][-1]
        spread = SPREAD * relative([control_validation], [validation])
        difference = relative([found], [validation])
        table.row(f"{name}: validation loss", difference, max(1e-4, spread), f"{validation:.3f}")
    states = [model.state_dict() for model in (ours, control, nemo)]
    for what, wanted, tolerance in (("weights", False, 1e-3), ("weights without gradient", True, 2.0)):
        names = [n for n in states[2] if n.endswith(WITHOUT_GRADIENT) == wanted]
        difference, spread = (
            max(difference_of(state[n], states[2][n]) for n in names) / sum(rates) for state in states[:2]
        )
        table.row(f"{name}: {what}, of the summed rates", difference, max(tolerance, SPREAD * spread))


def nemo_run(
    peers: Peers, config: DictConfig, options: TrainerOptions, ranks: Ranks, nudge: bool = False
) -> tuple[list[float], list[float], float, torch.nn.Module]:
    """The same run with NeMo's model, optimiser and schedule: losses, rates, validation loss, model.

    `nudge` moves its initial weights by about one rounding, to see how far that alone leads apart.
    """
    import lightning.pytorch

    train_data, validation_data = pretrain.datasets(config.model, options.seed, ranks)
    trainer = lightning.pytorch.Trainer(
        max_steps=options.max_steps,
        accelerator="cpu",
        accumulate_grad_batches=options.accumulate_grad_batches,
        logger=False,
        enable_checkpointing=False,
    )
    section = OmegaConf.create(resolved(config.model, "model"))
    for key in ("train_ds", "validation_ds"):
        section.pop(key)
    torch.manual_seed(options.seed)
    model = peers.model(cfg=section, trainer=trainer)
    if nudge:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.mul_(1 + 2**-23 * torch.randn_like(parameter))
    optimizer, schedule = model.setup_optimization(section.optim)
    # Both draw dither and masks from one stream: the one that our loop sets for every micro-batch.
    reseed = SimpleNamespace(options=options, ranks=ranks)
    losses, rates = [], []
    epoch = number = 0
    batches = train_data.batches(0)
    model.train()
    while len(losses) < options.max_steps:
        optimizer.zero_grad()
        group = []
        for _ in range(options.accumulate_grad_batches):
            if number == train_data.num_batches(epoch):
                epoch, number = epoch + 1, 0
                batches = train_data.batches(epoch)
            batch = next(batches)
            Trainer._reseed(reseed, "train", epoch, number)
            # What its training_step computes; that one logs too, which wants Lightning's loop around it.
            loss = model.inference_pass(batch, number, mode="train")["train_loss"]
            (loss / options.accumulate_grad_batches).backward()
            group.append(loss.item())
            number += 1
        if options.gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(model.parameters(), options.gradient_clip_val)
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule["scheduler"].step()
        losses.append(sum(group) / len(group))
    model.eval()
    validation = []
    with torch.no_grad():
        for number, batch in enumerate(validation_data.batches(0)):
            Trainer._reseed(reseed, "validation", 0, number)
            validation.append(model.inference_pass(batch, number)["val_loss"].item())
    return losses, rates, sum(validation) / len(validation), model


# ---------------------------------------------------------------------- the data


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


# ---------------------------------------------------------------------- odd inputs

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


# ---------------------------------------------------------------------- speed


def compare_speed(peers: Peers, table: Table) -> None:
    """Ratios only, of times measured in turn; nothing here counts as a difference."""
    batch = noise_batch((64000, 48000, 56000, 60000), peers.seed)
    for name, extra in (("this configuration", ()), ("8192 codes", ("model.num_classes=8192",))):
        ours, nemo = peers.pair(*extra)

        def our_step(model: Any = ours) -> None:
            loss_sum, weight, _ = model.training_loss(copy.deepcopy(batch))
            (loss_sum / weight).backward()

        def nemo_step(model: Any = nemo) -> None:
            loss_of(model, forward(model, batch)).backward()

        for model in (ours, nemo):
            model.train()
        ratios = []
        for number in range(peers.pairs + 1):
            times = dict.fromkeys((our_step, nemo_step), 0.0)
            for step in times if number % 2 else reversed(times):
                started = time.perf_counter()
                step()
                times[step] = time.perf_counter() - started
            ratios.append(times[nemo_step] / times[our_step])
        ratios = sorted(ratios[1:])  # the first pair warms up
        print(
            f"speed of a training step, {name}: NeMo's time / ours, median of {len(ratios)} pairs "
            f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )
    options = {"feat_in": 80, "code_dim": 16, "num_classes": 8192, "num_books": 1, "dist_fn": "l2"}
    features = torch.randn(4, 80, 800)
    peaks = []
    for cls in (peers.modules.RandomProjectionVectorQuantizer, RandomProjectionVectorQuantizer):
        module = cls(**options, combine_time_steps=8)
        peaks.append(peak_memory_mb(lambda module=module: module(input_signal=features)))
    print(
        f"memory of the quantiser, 8192 codes of 16, 400 tokens: NeMo's peak / ours "
        f"{peaks[0] / peaks[1]:.1f} "
        f"({peaks[0]:.0f} against {peaks[1]:.0f} MB above what was there before)"
    )


def peak_memory_mb(work: Callable[[], Any]) -> float:
    """How far `work` raises the resident memory of a forked process, in MB."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            torch.set_num_threads(1)  # threads do not survive a fork
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            work()
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            os.write(writer, str(max(grown, 1) / 1024).encode())
            status = 0
        os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    return float(text) if text else math.nan


# ---------------------------------------------------------------------- small parts


def noise_batch(lengths: Sequence[int], seed: int) -> SimpleNamespace:
    """Noise of changing loudness and colour as clean speech, with white noise as what is added."""
    draw = np.random.RandomState(seed)
    audio, noise = (np.zeros((len(lengths), max(lengths)), np.float32) for _ in range(2))
    for row, length in enumerate(lengths):
        envelope = np.interp(np.arange(length), np.linspace(0, length, 12), draw.uniform(0, 0.3, 12))
        audio[row, :length] = np.convolve(draw.randn(length), draw.randn(9) / 3, "same")[:length] * envelope
        noise[row, :length] = draw.randn(length) * 0.03
    length_of = torch.tensor(list(lengths))
    clean, added = torch.from_numpy(audio), torch.from_numpy(noise)
    return SimpleNamespace(
        **{"audio": clean, "audio_len": length_of, "noise": added, "noise_len": length_of.clone()},
        **{"noisy_audio": clean + added, "noisy_audio_len": length_of.clone()},
    )


def make_corpus(folder: Path) -> tuple[Path, Path]:
    """Manifests of speech-like and noise recordings of several rates, lengths and offsets."""
    draw = np.random.RandomState(1)

    def rows(prefix: str, recordings: list[tuple[int, float, dict[str, float]]]) -> Path:
        written: list[dict[str, Any]] = []
        for number, (rate, seconds, stated) in enumerate(recordings):
            path = folder / f"{prefix}{number}.wav"
            length = round(rate * seconds)
            quiet_end = np.interp(np.arange(length), [0, length // 2, length * 3 // 4], [0.3, 0.3, 1e-5])
            write_audio(path, (draw.randn(length) * quiet_end).clip(-1, 0.99), rate)
            written.append({"audio_filepath": path.name, "duration": seconds, **stated, "text": ""})
        write_rows(folder / f"{prefix}.jsonl", written)
        return folder / f"{prefix}.jsonl"

    speech: list[tuple[int, float, dict[str, Any]]] = [
        *((16000, 2.3, {}), (16000, 2.5, {"offset": 0.51, "duration": 1.2}), (8000, 2.0, {})),
        *((16000, 6.0, {}), (16000, 0.41, {}), (44100, 1.5, {}), (16000, 1.7, {"duration": None})),
        *((16000, 1.5, {"duration": 3.0}), (16000, 3.0, {}), (16000, 0.1, {}), (16000, 1.0, {})),
        *((16000, 1.33, {}), (22050, 1.9, {"offset": 0.2, "duration": 1.5}), (16000, 3.9, {})),
    ]
    noise = [
        (16000, 5.0, {}),
        (16000, 0.5, {}),
        (8000, 4.2, {}),
        (16000, 1.5, {"offset": 0.4, "duration": 0.6}),
    ]
    return rows("speech", speech), rows("noise", noise)


def forward(
    model: torch.nn.Module, batch: SimpleNamespace, seed: int | None = None, mask: bool = True
) -> tuple[Tensor, ...]:
    """The four outputs; on copies, for dither is added in place."""
    if seed is not None:
        torch.manual_seed(seed)
    with contextlib.nullcontext() if model.training else torch.no_grad():
        return model(
            input_signal=batch.audio.clone(),
            input_signal_length=batch.audio_len,
            noisy_input_signal=batch.noisy_audio.clone(),
            noisy_input_signal_length=batch.noisy_audio_len,
            apply_mask=mask,
        )


def loss_of(model: Any, outputs: tuple[Tensor, ...]) -> Tensor:
    log_probs, encoded_len, masks, tokens = outputs
    return model.loss(masks=masks, decoder_outputs=log_probs, targets=tokens, decoder_lengths=encoded_len)


def output_rows(results: list[tuple[Tensor, ...]]) -> Iterator[tuple[str, float, float, str]]:
    """(what, difference, tolerance, note): log_probs closely; encoded_len, masks and tokens exactly."""
    (log_probs, *exact), (expected, *expected_exact) = results
    yield "log_probs", difference_of(log_probs, expected), ACTIVATIONS, f"{tuple(expected.shape)}"
    differing = [difference_of(a, b) for a, b in zip(exact, expected_exact, strict=True)]
    masked = expected_exact[1].double().mean().item()
    yield "lengths, masks, tokens", max(differing), 0.0, f"{masked:.0%} masked"


def difference_of(ours: Tensor, nemo: Tensor) -> float:
    """The largest absolute difference; NaN equals NaN; infinite for another shape or type."""
    if ours.shape != nemo.shape or ours.dtype != nemo.dtype:
        return math.inf
    if ours.numel() == 0:
        return 0.0
    ours, nemo = ours.detach().double(), nemo.detach().double()
    equal = (ours == nemo) | (ours.isnan() & nemo.isnan())
    return torch.where(equal, 0.0, (ours - nemo).abs()).nan_to_num(nan=math.inf).max().item()


def state_difference(ours: dict[str, Tensor], nemo: dict[str, Tensor]) -> float:
    if ours.keys() != nemo.keys():
        return math.inf
    return max(difference_of(ours[name], value) for name, value in nemo.items())


def relative(ours: Sequence[float], nemo: Sequence[float]) -> float:
    """The largest relative difference of two series; infinite for other lengths."""
    if len(ours) != len(nemo):
        return math.inf
    return max(abs(a / b - 1) for a, b in zip(ours, nemo, strict=True))


@torch.no_grad()
def perturb(model: torch.nn.Module, seed: int) -> None:
    """Move every weight and statistic off its initial value, in models of the same keys alike."""
    generator = torch.Generator().manual_seed(seed)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.add_(torch.rand(value.shape, generator=generator).to(value.dtype) * 0.02)


@contextlib.contextmanager
def quiet() -> Any:
    """What is printed and logged inside is of no interest."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


PARTS: dict[str, Callable[[Peers, Table], None]] = {
    "weights": compare_weights,
    "archives": compare_archives,
    "training": compare_training,
    "steps": compare_steps,
    "data": compare_data,
    "edges": compare_edges,
    "speed": compare_speed,
}


def main(argv: list[str]) -> int:
    """Print the table that `argv` asks for; gives 1 if anything differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config", type=Path, default=CONFIG, help="YAML file of both (default: %(default)s)"
    )
    parser.add_argument(
        "--parts", default=",".join(PARTS), help="what to compare, separated by commas (default: %(default)s)"
    )
    parser.add_argument(
        "--steps", type=int, default=8, help="optimiser steps of `steps` (default: %(default)s)"
    )
    parser.add_argument("--pairs", type=int, default=9, help="pairs timed by `speed` (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of weights, masks and inputs (default: %(default)s)"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="settings to change, as for pretrain"
    )
    arguments = parser.parse_intermixed_args(argv)
    parts = [part.strip() for part in arguments.parts.split(",")]
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f"--parts: {unknown[0]!r} is not one of {', '.join(PARTS)}")
    for option in ("steps", "pairs"):
        if getattr(arguments, option) < 1:
            raise ValueError(f"--{option}: at least 1 is needed, not {getattr(arguments, option)}")
    load_config(arguments.config, [*SMALL, *arguments.overrides])  # a mistake shows before NeMo is loaded
    warnings.simplefilter("ignore")
    peers = Peers(arguments)
    print(
        f"NeMo {importlib.metadata.version('nemo_toolkit')}, torch {torch.__version__}, threads "
        f"{torch.get_num_threads()}, settings {' '.join([*SMALL, *arguments.overrides])}"
    )
    table = Table()
    for part in parts:
        PARTS[part](peers, table)
    if table.differing:
        print(f"{len(table.differing)} comparisons differ: {'; '.join(table.differing)}")
        return 1
    print("nothing differs")
    return 0


if __name__ == "__main__":
    run(main)
