"""Training: one step in detail, then whole runs of our verb beside NeMo's model, optimiser and schedule."""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch
from omegaconf import DictConfig, OmegaConf

from nemo_comparison.inputs import make_corpus, noise_batch
from nemo_comparison.outputs import step_rows
from nemo_comparison.peers import NO_DROPOUT, SMALL, Peers, quiet
from nemo_comparison.table import Table, difference_of, relative
from nest_ssl.bin import pretrain, pretrain_run
from nest_ssl.config import resolved
from nest_ssl.models.ssl_models import EncDecDenoiseMaskedTokenPredModel as OurModel
from nest_ssl.training.distributed import Ranks
from nest_ssl.training.loop import Trainer
from nest_ssl.training.options import ExperimentOptions, TrainerOptions

# With few blocks a batch of short items can have no masked frame: NeMo's loss is NaN then, its weights lost.
MASKING = "model.masking.mask_prob=0.1"
# Training amplifies rounding: several steps may differ this many times as much as NeMo does from itself when
# its initial weights move by one rounding.  Weights are measured against the learning rates added up, which
# is how far AdamW can move one.
SPREAD = 5.0
FIRST = 8  # steps whose losses have a row of their own: rounding has not grown yet
# Their gradients are zero but for rounding: a batch norm or a softmax takes a constant away again, and the
# slow cosines among the positions are such constants.  AdamW makes whole steps of rounding.  The running mean
# follows the bias before it, with a delay that shows in validation.
WITHOUT_GRADIENT = (
    *("conv.depthwise_conv.bias", "self_attn.linear_k.bias", "self_attn.linear_pos.weight"),
    "batch_norm.running_mean",
)


def compare_training(peers: Peers, table: Table) -> None:
    """Outputs, loss, gradients and batch statistics of a training step without dropout."""
    for lengths in ((31234, 18000, 25500), (30000,), (40000, 40000)):
        ours, nemo = peers.pair(*NO_DROPOUT, "model.masking.mask_prob=0.03")
        for what, *figures in step_rows(ours, nemo, noise_batch(lengths, peers.seed), peers.seed):
            table.row(f"train step, {len(lengths)} items: {what}", *figures)


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
            *(*SMALL, *NO_DROPOUT, MASKING, *peers.overrides, *sections),
            *("trainer.accelerator=cpu", "trainer.devices=1", f"trainer.max_steps={peers.steps}"),
            *("trainer.log_every_n_steps=1", "trainer.enable_progress_bar=false"),
            *(f"++exp_manager.explicit_log_dir={folder / 'run'}", f"++trainer.seed={peers.seed}"),
            *("exp_manager.create_tensorboard_logger=false", *extra),
        ]
        if peers.sampler != "nemo2":
            overrides.append(f"++model.parity.masking={peers.sampler}")
        config = pretrain.configuration(peers.path, overrides)
        options = TrainerOptions.from_config(resolved(config.trainer, "trainer"))
        experiment = ExperimentOptions.from_config(resolved(config.exp_manager, "exp_manager"))
        ranks = Ranks(0, 0, 1, torch.device("cpu"))
        with quiet():
            argument = (OmegaConf.to_yaml(config), str(folder / "run"), options, experiment, [])
            pretrain_run.pretrain(ranks, argument)
            losses, rates, validation, nemo = nemo_run(peers, config, options, ranks)
            control_losses, _, control_validation, control = nemo_run(peers, config, options, ranks, True)
            ours = OurModel.restore_from(folder / "run" / "final.nemo")
        lines = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
    train = [row for row in rows if row["kind"] == "train"]
    name = f"{len(rates)} steps {name}"
    table.row(f"{name}: learning rates", relative([row["lr"] for row in train], rates), 1e-12)
    # The log's loss of a step with several micro-batches is their mean.
    found_losses = [row["loss"] for row in train]
    for count in sorted({min(FIRST, len(losses)), len(losses)}):
        what = "losses" if count == len(losses) else f"losses of the first {count}"
        spread = SPREAD * relative(control_losses[:count], losses[:count])
        note = f"first {losses[0]:.3f} last {losses[count - 1]:.3f}"
        table.row(f"{name}: {what}", relative(found_losses[:count], losses[:count]), max(1e-6, spread), note)
    if options.loss_weighting == "nemo":
        found = [row["val_loss"] for row in rows if row["kind"] == "validation"][-1]
        # One control may come near by chance: what the later losses differ by, in the middle, counts too.
        later = zip(control_losses[len(losses) // 2 :], losses[len(losses) // 2 :], strict=True)
        middle = statistics.median(relative([a], [b]) for a, b in later)
        spread = SPREAD * max(middle, relative([control_validation], [validation]))
        difference = relative([found], [validation])
        table.row(f"{name}: validation loss", difference, max(1e-4, spread), f"{validation:.3f}")
    states = [model.state_dict() for model in (ours, control, nemo)]
    grown = max(1.0, len(rates) / FIRST)  # single weights stray further the longer the run
    for what, wanted, tolerance in (
        ("weights", False, 1e-3 * grown),
        ("weights without gradient", True, 2.0),
    ):
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

    train_data, validation_data = pretrain_run.datasets(config.model, options.seed, ranks)
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
    section.pop("parity", None)  # ours alone
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
