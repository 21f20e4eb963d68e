"""The `trainer:` and `exp_manager:` sections of a NeMo YAML: honoured, or refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from nest_ssl.config import suggestion

# What we add to NeMo's 18 trainer keys, with the values a YAML without them gets.
TRAINER_ADDITIONS: dict[str, Any] = {
    "seed": 0,
    "loss_weighting": "frames",
    "max_nonfinite_steps": 10,
    "val_at_epoch_end": False,
    "early_stop_patience": 0,
}
EXP_MANAGER_ADDITIONS: dict[str, Any] = {
    "explicit_log_dir": None,
    "version": None,
}
CHECKPOINT_ADDITIONS: dict[str, Any] = {
    "save_last": True,
    "every_n_train_steps": None,
    "auto_insert_metric_name": True,
    "save_nemo_on_train_end": True,
}

# Other keys that NeMo's YAMLs have: the values under which they ask for nothing that is not there anyway, and
# what to do where they ask for more.  None: any value, for they say how something looks.
TRAINER_ONLY: dict[str, tuple[tuple[Any, ...] | None, str]] = {
    **dict.fromkeys(("progress_bar_refresh_rate", "enable_model_summary", "weights_summary"), (None, "")),
    **dict.fromkeys(("use_distributed_sampler", "replace_sampler_ddp"), (None, "")),  # the plan has the ranks
    "deterministic": (None, ""),
    "resume_from_checkpoint": (
        (None,),
        "a run goes on from its own folder with exp_manager.resume_if_exists=true; for the weights of "
        "another one take init_from_ptl_ckpt",
    ),
    "checkpoint_callback": ((False, None), "exp_manager makes the checkpoints"),
    "amp_level": (("O0", None), "set trainer.precision=bf16"),
    "amp_backend": (("native", None), "set trainer.precision=bf16"),
    "gradient_clip_algorithm": (("norm", None), "gradients are clipped by their norm"),
    **dict.fromkeys(
        ("limit_train_batches", "limit_val_batches", "limit_test_batches"),
        (
            (1.0, None),
            "all data are used; trainer.max_steps ends a run, val_check_interval says when to validate",
        ),
    ),
    **dict.fromkeys(
        ("fast_dev_run", "overfit_batches", "detect_anomaly"), ((False, 0, 0.0, None), "set it to false")
    ),
    **dict.fromkeys(
        ("profiler", "plugins", "callbacks", "max_time", "min_steps", "min_epochs"), ((None,), "remove it")
    ),
}
_RESUME = TRAINER_ONLY["resume_from_checkpoint"]
_LOGGER = ((False, None), "set it to false and read metrics.jsonl or the TensorBoard events")
_LOGGERS = ("wandb", "mlflow", "dllogger", "clearml", "neptune")
EXP_MANAGER_ONLY: dict[str, tuple[tuple[Any, ...] | None, str]] = {
    **{f"create_{logger}_logger": _LOGGER for logger in _LOGGERS},
    **{f"{logger}_logger_kwargs": (None, "") for logger in _LOGGERS},
    **dict.fromkeys(("summary_writer_kwargs", "log_step_timing", "step_timing_kwargs"), (None, "")),
    **dict.fromkeys(("log_delta_step_timing", "log_tflops_per_sec_per_gpu"), (None, "")),
    **dict.fromkeys(("log_local_rank_0_only", "log_global_rank_0_only", "seconds_to_sleep"), (None, "")),
    "create_preemption_callback": (None, ""),  # SIGTERM and SIGUSR1 always save first
    "resume_past_end": ((False, None), "raise trainer.max_steps to go on with a run that has ended"),
    "resume_from_checkpoint": _RESUME,
    **dict.fromkeys(
        ("create_early_stopping_callback", "create_fault_tolerance_callback"), ((False, None), "remove it")
    ),
    **dict.fromkeys(
        ("create_straggler_detection_callback", "disable_validation_on_resume"), ((False, None), "remove it")
    ),
    **dict.fromkeys(
        ("early_stopping_callback_params", "straggler_detection_params", "fault_tolerance"), (None, "")
    ),
    **dict.fromkeys(("files_to_copy", "max_time_per_run"), ((None,), "remove it")),
}

WHOLE = -1  # of num_sanity_val_steps: all of the validation data, as in Lightning

# Unused parameters are always looked for (data_parallel.py), which the last two ask about.
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false")
PRECISIONS = {
    "32": "32",
    "32-true": "32",
    "fp32": "32",
    "bf16": "bf16",
    "bf16-mixed": "bf16",
}


@dataclass(frozen=True)
class TrainerOptions:
    """NeMo's `trainer:` keys (Lightning's names and meanings) and our additions.

    max_steps counts optimiser steps, max_epochs passes over the data; -1 means no limit, one of them must
    be set. val_check_interval: an int is micro-batches, counted on across epochs; a float is a share of
    each epoch. loss_weighting: `frames` weighs every counted frame alike over micro-batches and ranks;
    `nemo` averages the means of micro-batches and ranks, as Lightning does.  max_nonfinite_steps: that
    many skipped steps in a row end the run.  num_sanity_val_steps: so many batches are validated before the
    first step, to see that it works; -1 takes all, and the figures are logged at step 0.  val_at_epoch_end:
    validate there as well when the interval is a number of micro-batches.  early_stop_patience: that many
    validations in a row without a better monitored figure end the run; 0 for never.
    """

    devices: Any = -1
    num_nodes: int = 1
    max_epochs: int = -1
    max_steps: int = -1
    val_check_interval: int | float = 1.0
    accelerator: str = "auto"
    strategy: str = "auto"
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    precision: Any = 32
    log_every_n_steps: int = 50
    enable_progress_bar: bool = True
    num_sanity_val_steps: int = 0
    check_val_every_n_epoch: int | None = 1
    sync_batchnorm: bool = False
    enable_checkpointing: bool = False
    logger: bool = False
    benchmark: bool = False
    seed: int = 0
    loss_weighting: str = "frames"
    max_nonfinite_steps: int = 10
    val_at_epoch_end: bool = False
    early_stop_patience: int = 0

    @classmethod
    def from_config(cls, section: Mapping[str, Any]) -> TrainerOptions:
        """Check a resolved `trainer:` section; raises ValueError naming the key, the value and the way
        out."""
        options = cls(**_typed(_asked_for(section, TRAINER_ONLY, "trainer"), cls, "trainer"))
        _one_of("trainer.accelerator", options.accelerator, ("auto", "cpu", "gpu", "cuda"))
        _one_of("trainer.strategy", options.strategy, STRATEGIES)
        _one_of("trainer.loss_weighting", options.loss_weighting, ("frames", "nemo"))
        if str(options.precision) not in PRECISIONS:
            hint = "; float16 needs loss scaling, bf16 does not" if "16" in str(options.precision) else ""
            raise ValueError(
                f"trainer.precision: {options.precision!r} is not one of {', '.join(PRECISIONS)}{hint}"
            )
        for key in ("enable_checkpointing", "logger"):
            if getattr(options, key):
                raise ValueError(
                    f"trainer.{key}: exp_manager makes them, as in NeMo's YAML; set trainer.{key}=false"
                )
        if options.max_steps < 0 and options.max_epochs < 0:
            raise ValueError(
                "trainer.max_steps and trainer.max_epochs are both -1: the run would never end; set one"
            )
        for key in ("num_nodes", "accumulate_grad_batches", "log_every_n_steps", "max_nonfinite_steps"):
            _at_least("trainer", key, getattr(options, key), 1)
        _at_least("trainer", "early_stop_patience", options.early_stop_patience, 0)
        for key in ("num_sanity_val_steps", "max_steps", "max_epochs"):
            _at_least("trainer", key, getattr(options, key), -1)
        _at_least("trainer", "gradient_clip_val", options.gradient_clip_val or 0.0, 0)
        if options.check_val_every_n_epoch is not None:
            _at_least("trainer", "check_val_every_n_epoch", options.check_val_every_n_epoch, 1)
        interval = options.val_check_interval
        share = isinstance(interval, float) and 0 < interval <= 1
        if not share and not (isinstance(interval, int) and not isinstance(interval, bool) and interval >= 1):
            raise ValueError(
                f"trainer.val_check_interval: {interval!r} is neither a number of batches nor a "
                f"share in (0, 1]"
            )
        return options

    @property
    def autocast_bf16(self) -> bool:
        return PRECISIONS[str(self.precision)] == "bf16"


@dataclass(frozen=True)
class CheckpointOptions:
    """`exp_manager.checkpoint_callback_params`.

    filename may use {step}, {epoch} and logged figures with a format ({val_loss:.3f}); as in Lightning,
    `name=` is put before each figure unless auto_insert_metric_name is false.  every_n_train_steps adds
    checkpoints between the validations.  save_top_k: how many best ones are kept, -1 for all.
    """

    monitor: str = "val_loss"
    mode: str = "min"
    save_top_k: int = 3
    save_last: bool = True
    always_save_nemo: bool = False
    save_nemo_on_train_end: bool = True
    filename: str | None = None
    every_n_train_steps: int | None = None
    auto_insert_metric_name: bool = True


@dataclass(frozen=True)
class ExperimentOptions:
    """`exp_manager:` keys: where the run is kept and what is kept of it."""

    exp_dir: str | None = None
    name: str = "default"
    version: str | None = None
    explicit_log_dir: str | None = None
    create_tensorboard_logger: bool = True
    create_checkpoint_callback: bool = True
    resume_if_exists: bool = False
    resume_ignore_no_checkpoint: bool = False
    checkpoint: CheckpointOptions = field(default_factory=CheckpointOptions)

    @classmethod
    def from_config(cls, section: Mapping[str, Any]) -> ExperimentOptions:
        """Check a resolved `exp_manager:` section; raises ValueError naming key and value."""
        arguments = _asked_for(section, EXP_MANAGER_ONLY, "exp_manager")
        ema = arguments.pop("ema", None) or {}
        if ema.get("enable"):
            raise ValueError("exp_manager.ema is not supported; set exp_manager.ema.enable=false")
        callback = arguments.pop("checkpoint_callback_params", None) or {}
        arguments = _typed(arguments, cls, "exp_manager")
        callback = _typed(callback, CheckpointOptions, "exp_manager.checkpoint_callback_params")
        checkpoint = CheckpointOptions(**callback)
        if not arguments.pop("create_checkpoint_callback", True) or not callback.get("save_last", True):
            raise ValueError(
                "exp_manager.create_checkpoint_callback and checkpoint_callback_params.save_last must be "
                "true: a run without its last checkpoint could not go on; save_top_k=0 keeps no other one"
            )
        prefix = "exp_manager.checkpoint_callback_params"
        _one_of(f"{prefix}.mode", checkpoint.mode, ("min", "max"))
        _at_least(prefix, "save_top_k", checkpoint.save_top_k, -1)
        if checkpoint.every_n_train_steps is not None:
            _at_least(prefix, "every_n_train_steps", checkpoint.every_n_train_steps, 1)
        return cls(**arguments, checkpoint=checkpoint)


def _asked_for(
    section: Mapping[str, Any], only: Mapping[str, tuple[tuple[Any, ...] | None, str]], name: str
) -> dict[str, Any]:
    """The section without the keys of `only`; ValueError for one whose value asks for what is not there."""
    for key, (values, way_out) in only.items():
        if key in section and values is not None and section[key] not in values:
            raise ValueError(f"{name}.{key}: {section[key]!r} is not supported; {way_out}")
    return {key: value for key, value in section.items() if key not in only}


def _typed(section: Mapping[str, Any], options: type, name: str) -> dict[str, Any]:
    """The section's values for a dataclass, nulls left to its defaults; refuses what does not fit."""
    known = {field.name: str(field.type) for field in fields(options) if field.name != "checkpoint"}
    values: dict[str, Any] = {}
    for key, value in section.items():
        if key not in known:
            hint = suggestion(key, known)
            raise ValueError(f"{name}.{key} is not supported; {hint} (~{name}.{key} removes it)")
        if value is None:
            continue
        allowed = known[key].removesuffix(" | None")
        if allowed != "Any" and not isinstance(value, TYPES[allowed]):
            raise ValueError(f"{name}.{key}: {value!r} is not of the type {allowed}")
        if isinstance(value, bool) and allowed not in ("Any", "bool"):
            raise ValueError(f"{name}.{key}: {value!r} is not of the type {allowed}")
        values[key] = value
    return values


TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,), "float": (int, float), "int | float": (int, float), "bool": (bool,), "str": (str,),
}  # fmt: skip


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: {value!r} is not one of {', '.join(allowed)}")


def _at_least(prefix: str, key: str, value: float, least: int) -> None:
    if value < least:
        raise ValueError(f"{prefix}.{key}: {value!r} must be at least {least}")
