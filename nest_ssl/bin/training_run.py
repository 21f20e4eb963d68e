"""What every verb that trains does around the loop: go on or start anew, and say in the log what runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from nest_ssl.training.distributed import Ranks
from nest_ssl.training.log import RunLog
from nest_ssl.training.loop import Trainer
from nest_ssl.training.options import ExperimentOptions
from nest_ssl.training.run_directory import RunLock, write_configuration

ROOT = Path(__file__).resolve().parents[2]
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
    run_log = RunLog(folder, trainer.progress.step, experiment.create_tensorboard_logger)
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
