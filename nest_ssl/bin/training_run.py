"""What every verb that trains does around the loop: go on or start anew, and say in the log what runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig

from nest_ssl.bin.progress import training_bars
from nest_ssl.config import resolved
from nest_ssl.training.checkpoint import Checkpoints
from nest_ssl.training.distributed import Ranks
from nest_ssl.training.log import RunLog
from nest_ssl.training.loop import Trainer, total_steps
from nest_ssl.training.optim import build_optimizer
from nest_ssl.training.options import ExperimentOptions, TrainerOptions
from nest_ssl.training.run_directory import RunLock, write_configuration
from nest_ssl.training.schedulers import build_schedule

DATA_FACTS = (
    "manifest",
    "files",
    "rows",
    "dropped",
    "utterances",
    "hours",
    "llm_tokens",
    "batches",
    "utterances_per_batch",
    "padded_seconds_per_batch",
    "largest_batch_seconds",
    "largest_batch_tokens",
    "padding_share",
    "left_out_per_epoch",
    "repeated_batches",
    "longer_than_batch_duration",
)


def trainer_of(
    config: DictConfig,
    config_yaml: str,
    model: Any,
    data: tuple[Any, Any],
    folder: Path,
    options: TrainerOptions,
    experiment: ExperimentOptions,
    ranks: Ranks,
    verb: str,
) -> Trainer:
    """The trainer that a configuration of NeMo's form describes.

    data: training and validation.  The model is on ranks.device.  Its checkpoints are in `folder`, and beside
    them the model as a .nemo file after each, where the options say so.
    """
    optim = resolved(config.model.optim, "model.optim")
    optimizer = build_optimizer(model.parameter_groups(optim), optim)
    steps = total_steps(options, data[0])
    name = experiment.name
    return Trainer(
        model,
        optimizer,
        [build_schedule(optim.get("sched"), group["lr"], steps) for group in optimizer.param_groups],
        steps,
        *data,
        options,
        ranks,
        Checkpoints(folder / "checkpoints", name, experiment.checkpoint),
        config_yaml,
        folder / "checkpoints" / f"{name}.nemo" if experiment.checkpoint.always_save_nemo else None,
        training_bars(verb),
    )


def resume(trainer: Trainer, ranks: Ranks, experiment: ExperimentOptions) -> Path | None:
    """Go on from the last checkpoint where the options say so; what a kill left half-written goes first."""
    if ranks.is_main:
        trainer.checkpoints.prepare()
    ranks.wait()
    if not experiment.resume_if_exists:
        if trainer.checkpoints.last():
            raise ValueError(
                f"{trainer.checkpoints.folder} has checkpoints of a former run; set "
                f"exp_manager.resume_if_exists=true "
                "to go on with it, or choose another folder"
            )
        return None
    path = trainer.resume()
    if path is None and not experiment.resume_ignore_no_checkpoint:
        raise ValueError(
            f"there is no checkpoint in {trainer.checkpoints.folder} to go on from; "
            "set exp_manager.resume_ignore_no_checkpoint=true to start anew"
        )
    return path


def start_log(
    trainer: Trainer,
    folder: Path,
    config_yaml: str,
    ranks: Ranks,
    experiment: ExperimentOptions,
    resumed: Path | None,
) -> RunLog:
    """Open the run's logs and write down configuration and data."""
    changes = write_configuration(folder, config_yaml)
    begun_at = trainer.progress.step if resumed else -1  # a run that died before its first checkpoint goes
    run_log = RunLog(folder, begun_at, experiment.create_tensorboard_logger)
    if resumed:
        progress = trainer.progress
        run_log.message(f"resumed from {resumed} at epoch {progress.epoch} batch {progress.batches}")
    if trainer.resume_note:
        run_log.message(f"WARNING {trainer.resume_note}")
    for change in changes:
        run_log.message(f"configuration changed: {change}")
    counted = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)  # type: ignore[attr-defined]
    run_log.message(f"model parameters {counted} trainable, device {ranks.device}, ranks {ranks.world_size}")
    for kind, loader in (("training", trainer.train_data), ("validation", trainer.validation_data)):
        if loader is not None:
            facts = cast(Any, loader).describe()
            known = [key for key in DATA_FACTS if key in facts]
            run_log.message(f"{kind} data " + " ".join(f"{key} {facts[key] or 0}" for key in known))
    return run_log


def end_run(trainer: Trainer, run_log: RunLog | None, lock: RunLock | None) -> None:
    """Close what a run holds open, however it ends."""
    # Workers ignore SIGTERM, by which Python ends what is left of them: after an error it would wait on.
    for loader in (trainer.train_data, trainer.validation_data):
        if loader is not None:
            cast(Any, loader).close()
    if run_log:
        run_log.close()
    if lock:
        lock.release()
