"""The loop: one optimiser step after another, exactly repeatable from any checkpoint."""

from __future__ import annotations

import contextlib
import hashlib
import math
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from nest_ssl.training import checkpoint as checkpoint_files
from nest_ssl.training.checkpoint import Checkpoints, Progress
from nest_ssl.training.data_parallel import data_parallel, running_statistics
from nest_ssl.training.distributed import Ranks, heard_signals
from nest_ssl.training.log import RunLog, clock, memory_gb
from nest_ssl.training.options import WHOLE, TrainerOptions
from nest_ssl.training.protocol import Batch, TrainableModel, TrainingData
from nest_ssl.training.schedulers import Schedule
from nest_ssl.training.window import Window

# (sum with graph or detached, how many were counted, sums to log) as the protocol says
Loss = tuple[torch.Tensor, torch.Tensor, Mapping[str, torch.Tensor]]


class Stopped(Exception):
    """A signal asked the run to stop; its state was saved.  `status` is the shell's exit status for the
    signal."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.status = 128 + number


class NonFiniteLoss(ValueError):
    """Too many steps in a row had a loss or a gradient that is not finite."""


class Trainer:
    """Train `model` on `train_data` until max_steps or max_epochs; see `fit`."""

    def __init__(
        self,
        model: TrainableModel,
        optimizer: torch.optim.Optimizer,
        schedules: Sequence[Schedule],
        total_steps: int,
        train_data: TrainingData,
        validation_data: TrainingData | None,
        options: TrainerOptions,
        ranks: Ranks,
        checkpoints: Checkpoints,
        config_yaml: str,
        nemo_path: Path | None,
        progress_bar: Callable[..., Any],
    ):
        """The model must be on ranks.device already.

        schedules: step -> lr, one for each parameter group.  total_steps: what the function of that name
        gives.  nemo_path: where model.save_to writes at every checkpoint, None for nowhere.  progress_bar:
        called with (total, initial) on the main process, and with validation=True for the batches of one;
        gives an object with tqdm's update, set_postfix_str and close.
        """
        self.model = model
        self.optimizer = optimizer
        self._module = cast(torch.nn.Module, model)
        self.schedules = schedules
        self.total_steps = total_steps
        self.train_data = train_data
        self.validation_data = validation_data
        self.options = options
        self.ranks = ranks
        self.checkpoints = checkpoints
        self.config_yaml = config_yaml
        self.nemo_path = nemo_path
        self.progress_bar = progress_bar
        self.progress = Progress()
        self.identity = {
            "seed": options.seed,
            "world_size": ranks.world_size,
            "data": train_data.fingerprint(),
        }
        if frozen_identity := getattr(model, "frozen_identity", None):
            self.identity["frozen"] = frozen_identity()
        self._parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        self._statistics = running_statistics(self._module)
        self._forward = data_parallel(model, ranks)
        self._stop_signal = self._stop_agreed = 0
        self.resume_note = ""
        self._saved_at = -1  # micro_batches at the last save
        self._log: RunLog | None = None

    # ------------------------------------------------------------------ the run

    def resume(self) -> Path | None:
        """Load the last checkpoint, if there is one, and give its path; `resume_note` says if inexact."""
        path = self.checkpoints.last()
        if path is None:
            return None
        frozen = self.identity.get("frozen")
        if checkpoint_files.read_state(path).get("identity", {}).get("frozen") != frozen:
            raise ValueError(
                f"{path} was made over other frozen weights than those loaded now: go on with the model that "
                "this run started from (config.yaml of the run names it), or start anew in another folder"
            )
        self.progress, identity = checkpoint_files.load(path, self._module, self.optimizer)
        self.progress.stopped_early = self._patience_is_over()
        changed = [key for key in self.identity if identity.get(key) != self.identity[key]]
        if changed and self.progress.batches:
            self.resume_note = (
                f"{' and '.join(changed)} changed since then: the batches come in another order, so epoch "
                f"{self.progress.epoch} starts over (an exact continuation needs them unchanged)"
            )
            self.progress.batches = 0
        return path

    def fit(self, run_log: RunLog | None) -> Progress:
        """Train to the end, validate, save; gives the final progress.  run_log: on the main process only.

        Raises Stopped after a signal (state saved), NonFiniteLoss after too many skipped steps in a row.
        """
        self._log = run_log
        if self.finished and self.progress.validated_at == self.progress.micro_batches:
            self._message(f"already at step {self.progress.step}: nothing to do")
            return self.progress
        previous = {number: signal.signal(number, self._on_signal) for number in heard_signals()}
        bar = self._bar(self.total_steps, self.progress.step)
        try:
            if self.progress.step == 0 and self.options.num_sanity_val_steps:
                self.validate_the_start()
            self._train(bar)
        finally:
            bar.close()
            for number, handler in previous.items():
                signal.signal(number, handler)
        return self.progress

    def validate_the_start(self) -> None:
        """Validate before the first step, on as many batches as trainer.num_sanity_val_steps says.

        A few batches only show that validation works, as in Lightning.  -1 takes all of them: the figures
        are then those of the weights to start from, and stand in the logs at step 0.  Neither counts as a
        validation for checkpoints or early stopping.  Raises ValueError where the monitored figure is none.
        """
        started = time.monotonic()
        self._tell_step()
        figures = self.validate(limit=self.options.num_sanity_val_steps)
        if figures:
            self.checkpoints.check_monitor(figures)
        if figures and self._log and self.options.num_sanity_val_steps == WHOLE:
            self._log_validation(figures, started)

    @property
    def finished(self) -> bool:
        limit = self.options.max_epochs
        by_epochs = 0 <= limit <= self.progress.epoch
        return self.progress.stopped_early or self.progress.step >= self.total_steps or by_epochs

    @property
    def nemo_is_current(self) -> bool:
        """True if this process has written the .nemo with the weights as they are now."""
        return self.nemo_path is not None and self._saved_at == self.progress.micro_batches

    def _train(self, bar: Any) -> None:
        window = Window()
        while not self.finished:
            in_epoch = self.train_data.num_batches(self.progress.epoch)
            batches = self.train_data.batches(self.progress.epoch, self.progress.batches)
            for group in _grouped(
                batches, self.progress.batches, in_epoch, self.options.accumulate_grad_batches
            ):
                self._step(group, window)
                bar.update(1)
                if (
                    self.progress.step % self.options.log_every_n_steps == 0
                    or self.progress.step == self.total_steps
                ):
                    self._log_training(window, in_epoch, bar)
                    window = Window()
                self._after_step(in_epoch)
                if self.progress.step >= self.total_steps or self.progress.stopped_early:
                    break
            if self.progress.batches >= in_epoch:
                self.progress.epoch += 1
                self.progress.batches = 0
        if self.progress.validated_at != self.progress.micro_batches or self.checkpoints.last() is None:
            self._save(validated=self._validate_and_log())

    def _after_step(self, in_epoch: int) -> None:
        """Validate and save when it is time to; stop when a signal has come."""
        every = self.checkpoints.options.every_n_train_steps
        if self._validation_due(in_epoch):
            self._save(validated=self._validate_and_log())
        elif every and self.progress.step % every == 0:
            self._save(validated=False)
        if self._stop_agreed:
            if self._saved_at != self.progress.micro_batches:
                self._save(validated=False)
            name = signal.Signals(self._stop_agreed).name
            self._message(
                f"stopped by {name} after step {self.progress.step}; the same command goes on from here"
            )
            raise Stopped(self._stop_agreed)

    # ------------------------------------------------------------------ one step

    def _tell_step(self) -> None:
        if before_step := getattr(self.model, "before_step", None):
            before_step(self.progress.step)

    def _step(self, group: list[Batch], window: Window) -> None:
        """One optimiser step over the micro-batches of `group`; skipped if loss or gradient is not finite."""
        self._module.train()
        self._tell_step()
        statistics = [buffer.clone() for buffer in self._statistics]
        for parameter_group, schedule in zip(self.optimizer.param_groups, self.schedules, strict=True):
            parameter_group["lr"] = schedule(self.progress.step)
        losses = self._backward(group)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        # One message between the ranks and one wait for the device per step.
        seconds = sum(batch.seconds for batch in group)
        loss_sum, weight, seconds, stop = self._totals(losses, seconds)
        factor = self._gradient_factor(weight)
        grad_norm = float(norm) * factor
        if not (math.isfinite(loss_sum) and math.isfinite(grad_norm)):
            for buffer, before in zip(self._statistics, statistics, strict=True):
                buffer.copy_(before)
            self._skipped(group, loss_sum, grad_norm)
        elif weight == 0:
            self._message(
                f"step {self.progress.step + 1}: nothing was masked in this batch, so it teaches nothing"
            )
        else:
            clip = self.options.gradient_clip_val or 0.0
            if 0 < clip < grad_norm:
                factor *= clip / grad_norm
            if factor != 1.0:
                torch._foreach_mul_(gradients, factor)
            self.optimizer.step()
            for loss in losses:
                window.add(*loss)
            self.progress.skipped_in_row = 0
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.step += 1
        self.progress.batches += len(group)
        self.progress.micro_batches += len(group)
        self.progress.hours_seen += seconds / 3600
        window.steps += 1
        window.lr, window.grad_norm = self.optimizer.param_groups[0]["lr"], grad_norm
        window.seconds += seconds
        # A signal that comes from here on waits for the next step: all ranks must stop after the same one.
        self._stop_agreed = (self._stop_signal or signal.SIGTERM) if stop else 0

    def _backward(self, group: list[Batch]) -> list[Loss]:
        """Add up the gradients of `group`; gives the loss of each micro-batch, without graph."""
        losses: list[Loss] = []
        for number, batch in enumerate(group):
            self._reseed("train", self.progress.epoch, self.progress.batches + number)
            batch = batch.to(self.ranks.device, non_blocking=True)
            last = number == len(group) - 1
            with contextlib.nullcontext() if last else self._without_exchange():
                with self._autocast():
                    loss_sum, weight, stats = self._forward(batch)
                if self.options.loss_weighting == "nemo":
                    (loss_sum / weight.clamp(min=1) / len(group)).backward()
                else:
                    loss_sum.backward()
            losses.append((loss_sum.detach(), weight, stats))
        return losses

    def _totals(self, losses: list[Loss], seconds: float) -> list[float]:
        """Loss sum, weight, audio seconds and stop signals of this step, added up over the ranks."""
        loss_sum = torch.stack([loss.double() for loss, _, _ in losses]).sum()
        weight = torch.stack([weight.double() for _, weight, _ in losses]).sum()
        others = torch.tensor([seconds, self._stop_signal], dtype=torch.float64, device=self.ranks.device)
        return self.ranks.sum(torch.cat([torch.stack([loss_sum, weight]), others])).tolist()

    def _gradient_factor(self, weight: float) -> float:
        """Turns gradients averaged over ranks into those of the mean over all counted frames."""
        if self.options.loss_weighting == "nemo":
            return 1.0
        return self.ranks.world_size / weight if weight else 1.0

    def _skipped(self, group: list[Batch], loss_sum: float, norm: float) -> None:
        self.progress.skipped_steps += 1
        self.progress.skipped_in_row += 1
        ids = [name for batch in group for name in batch.utterance_ids]
        named = ", ".join(name for rank_ids in self.ranks.gather(ids) for name in rank_ids)
        what = "loss" if not math.isfinite(loss_sum) else "gradient"
        self._message(
            f"step {self.progress.step + 1} skipped: the {what} is not finite (loss sum {loss_sum}, "
            f"gradient norm "
            f"{norm}); skipped so far {self.progress.skipped_steps}; utterances: {named}"
        )
        if self.progress.skipped_in_row >= self.options.max_nonfinite_steps:
            raise NonFiniteLoss(
                f"{self.progress.skipped_in_row} steps in a row had a loss or gradient that is not "
                f"finite; lower the learning rate, clip the gradient, or look at the utterances named in "
                "train.log"
            )

    # ------------------------------------------------------------------ validation

    def validate(self, limit: int = -1) -> dict[str, float]:
        """Figures of the validation data (of the first `limit` batches), keyed `val_...`; masks are the
        same each time."""
        if self.validation_data is None:
            return {}
        self._module.eval()
        window = Window()
        count = self.validation_data.num_batches(0)
        bar = self._bar(min(count, limit) if limit >= 0 else count, 0, validation=True)
        with torch.no_grad(), contextlib.closing(bar):
            for number, batch in enumerate(self.validation_data.batches(0)):
                if number == limit:
                    break
                self._reseed("validation", 0, number)
                with self._autocast():
                    loss_sum, weight, stats = self.model.validation_loss(
                        batch.to(self.ranks.device, non_blocking=True)
                    )
                window.add(loss_sum, weight, stats)
                bar.update(1)
        figures = window.figures(self.model, self.ranks, self.options.loss_weighting)
        return {f"val_{key}": value for key, value in figures.items()}

    def _validate_and_log(self) -> bool:
        started = time.monotonic()
        self._share_statistics()
        self.progress.validated_at = self.progress.micro_batches
        self.progress.metrics = self.validate()
        if not self.progress.metrics:
            return False
        self._log_validation(self.progress.metrics, started)
        self.checkpoints.note_validation(self.progress)
        self.progress.stopped_early = self._patience_is_over()
        if self.progress.stopped_early:
            options = self.checkpoints.options
            self._message(
                f"stopping early: {options.monitor} was not better than {self.progress.best} in "
                f"{self.progress.without_gain} validations"
            )
        return True

    def _log_validation(self, figures: dict[str, float], started: float) -> None:
        if self._log:
            self._log.validation(
                {
                    "step": self.progress.step,
                    "max_steps": self.total_steps,
                    "epoch": self.progress.epoch,
                    **figures,
                    "seconds": round(time.monotonic() - started, 1),
                }
            )

    def _patience_is_over(self) -> bool:
        return 0 < self.options.early_stop_patience <= self.progress.without_gain

    def _validation_due(self, in_epoch: int) -> bool:
        if self.validation_data is None:
            return False
        every_epochs = self.options.check_val_every_n_epoch
        if every_epochs and (self.progress.epoch + 1) % every_epochs:
            return False
        interval = self.options.val_check_interval
        if isinstance(interval, int):
            if self.options.val_at_epoch_end and self.progress.batches >= in_epoch:
                return True
            return self.progress.micro_batches - max(self.progress.validated_at, 0) >= interval
        interval = max(1, int(in_epoch * interval))
        since = self.progress.micro_batches - max(self.progress.validated_at, 0)
        return self.progress.batches // interval > max(0, self.progress.batches - since) // interval

    # ------------------------------------------------------------------ small parts

    def _save(self, validated: bool) -> None:
        if self.ranks.is_main:
            try:
                self.checkpoints.save(
                    self._module, self.optimizer, self.progress, self.config_yaml, self.identity, validated
                )
                if self.nemo_path:
                    self.model.save_to(self.nemo_path)
            except OSError as error:
                raise OSError(
                    f"the checkpoint at step {self.progress.step} could not be written to "
                    f"{self.checkpoints.folder} "
                    f"({error}); older checkpoints there are whole: make room and start the same "
                    f"command again"
                ) from error
        self._saved_at = self.progress.micro_batches
        self.ranks.wait()

    def _log_training(self, window: Window, in_epoch: int, bar: Any) -> None:
        figures = window.figures(self.model, self.ranks, self.options.loss_weighting)
        if not self._log:
            return
        elapsed = max(time.monotonic() - window.started, 1e-9)
        left = (self.total_steps - self.progress.step) * elapsed / max(window.steps, 1)
        loss = figures.pop("loss")
        row = {
            "step": self.progress.step,
            "max_steps": self.total_steps,
            "epoch": self.progress.epoch,
            "batch": self.progress.batches,
            "epoch_batches": in_epoch,
            "loss": loss,
            "lr": window.lr,
            "grad_norm": window.grad_norm,
            "hours_seen": self.progress.hours_seen,
            "audio_s/s": window.seconds / elapsed,
            "mem_gb": memory_gb(self.ranks.device),
            "eta": clock(left),
            **figures,
        }
        self._log.training(row)
        bar.set_postfix_str(f"loss {loss:.3f} lr {window.lr:.1e}")

    def _share_statistics(self) -> None:
        """Every rank validates with the main rank's BatchNorm statistics, which are the ones that are
        saved."""
        if self.ranks.world_size > 1:
            for buffer in self._statistics:
                torch.distributed.broadcast(buffer, src=0)

    def _message(self, text: str) -> None:
        if self._log:
            self._log.message(text)

    def _bar(self, total: int, initial: int, **kind: bool) -> Any:
        if self.ranks.is_main and self.options.enable_progress_bar:
            return self.progress_bar(total, initial, **kind)
        return _NoBar()

    def _reseed(self, kind: str, epoch: int, number: int) -> None:
        """Every random draw of a micro-batch follows from (seed, epoch, batch, rank), so a resume repeats
        it."""
        key = f"{self.options.seed}|{kind}|{epoch}|{number}|{self.ranks.rank}".encode()
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed & 0xFFFFFFFF)

    def _autocast(self) -> contextlib.AbstractContextManager:
        if self.options.autocast_bf16:
            return torch.autocast(self.ranks.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def _without_exchange(self) -> contextlib.AbstractContextManager:
        if isinstance(self._forward, torch.nn.parallel.DistributedDataParallel):
            return self._forward.no_sync()
        return contextlib.nullcontext()

    def _on_signal(self, number: int, frame: Any) -> None:
        if self._stop_signal and number == signal.SIGINT:  # a second Ctrl-C does not wait for the step
            raise KeyboardInterrupt
        self._stop_signal = number


def total_steps(options: TrainerOptions, data: TrainingData) -> int:
    """Optimiser steps that the options ask for; the smaller of max_steps and max_epochs."""
    by_epochs = sys.maxsize
    if options.max_epochs >= 0:
        by_epochs = 0
        for epoch in range(options.max_epochs):
            if 0 <= options.max_steps <= by_epochs:
                break  # later epochs need not be planned
            by_epochs += math.ceil(data.num_batches(epoch) / options.accumulate_grad_batches)
    return min(options.max_steps, by_epochs) if options.max_steps >= 0 else by_epochs


class _NoBar:
    def update(self, count: int) -> None: ...

    def set_postfix_str(self, text: str) -> None: ...

    def close(self) -> None: ...


def _grouped(batches: Iterator[Batch], start: int, end: int, size: int) -> Iterator[list[Batch]]:
    """Micro-batches in groups of `size`, as one optimiser step takes them; the last group of an epoch may
    be smaller."""
    group: list[Batch] = []
    for number, batch in enumerate(batches, start + 1):
        group.append(batch)
        if len(group) == size or number == end:
            yield group
            group = []
