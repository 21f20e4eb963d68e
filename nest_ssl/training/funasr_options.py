"""FunASR's `train_conf`, `optim` and `scheduler` keys as options of our loop, or refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nest_ssl.config import suggestion
from nest_ssl.training.options import CheckpointOptions, ExperimentOptions, TrainerOptions

# Keys that FunASR knows: the values under which they ask for nothing that is not there anyway, and the way
# out.  None: any value, because it has no effect here that a user could miss.
NOT_HERE: dict[str, tuple[tuple[Any, ...] | None, str]] = {
    "use_deepspeed": ((False, None), "set it to false: DDP is used, and any of these models fits one GPU"),
    "deepspeed_config": (None, ""),
    "use_fsdp": ((False, None), "set it to false: DDP is used, and any of these models fits one GPU"),
    "use_fp16": ((False, None), "set train_conf.use_bf16=true: float16 needs loss scaling, bf16 does not"),
    "use_ddp": (None, ""),  # as many ranks as there are devices
    "find_unused_parameters": (None, ""),  # always looked for
    "effective_save_name_excludes": (None, ""),  # OUT/model always has all weights
    "save_init_model": ((False, None), "set it to false: the start is the model that nest_ssl.base names"),
    "reset_gpu_cache": ((False, None), "set it to false"),
    "use_wandb": ((False, None), "set it to false and read metrics.jsonl or the TensorBoard events"),
    "grad_clip_type": ((2, 2.0, None), "gradients are clipped by their L2 norm"),
    "use_lora": ((False, None), "FunASR never reads it: set llm_conf.use_lora=true"),
    **dict.fromkeys(("wandb_token", "wandb_project", "wandb_team", "wandb_exp_name"), (None, "")),
    **dict.fromkeys(("start_step", "start_data_split_i"), ((0, None), "a run resumes where it stood")),
}
FUNASR_KEYS: dict[str, tuple[type, Any]] = {  # name -> type, default; None as a value means the default
    "max_epoch": (int, -1),
    "accum_grad": (int, 1),
    "grad_clip": (float, 10.0),
    "log_interval": (int, 50),
    "validate_interval": (int, None),
    "save_checkpoint_interval": (int, None),
    "keep_nbest_models": (int, 5),
    "avg_nbest_model": (int, 1),
    "avg_keep_nbest_models_type": (str, None),
    "early_stopping_patience": (int, 0),
    "use_bf16": (bool, False),
    "resume": (bool, True),
}
OUR_KEYS: dict[str, tuple[type, Any]] = {
    "max_steps": (int, -1),
    "monitor": (str, "val_loss"),
    "mode": (str, None),
    "max_nonfinite_steps": (int, 10),
    "gradient_checkpointing": (bool, False),
    "tensorboard": (bool, True),
    "devices": (object, -1),
    "num_nodes": (int, 1),
    "accelerator": (str, "auto"),
}
KEYS = {**FUNASR_KEYS, **OUR_KEYS}
HIGHER_IS_BETTER = ("val_acc",)


def train_options(
    section: Mapping[str, Any], seed: int
) -> tuple[TrainerOptions, ExperimentOptions, dict[str, Any]]:
    """Options for the loop and its checkpoints, and all of `train_conf` with the defaults filled in.

    Raises ValueError naming the key, the value and the way out.
    """
    values: dict[str, Any] = {key: default for key, (_, default) in KEYS.items()}
    for key, value in section.items():
        name = f"train_conf.{key}"
        if key in NOT_HERE:
            allowed, way_out = NOT_HERE[key]
            if allowed is not None and value not in allowed:
                raise ValueError(f"{name}: {value!r} is not supported; {way_out}")
            continue
        if key not in KEYS:
            raise ValueError(f"{name} is not supported; {suggestion(key, KEYS)} (~{name} removes it)")
        if value is not None:
            values[key] = _typed(name, value, KEYS[key][0])
    _check(values)
    by_accuracy = values["avg_keep_nbest_models_type"]
    if by_accuracy is not None and "monitor" not in section:
        values["monitor"] = f"val_{by_accuracy}"
    if values["mode"] is None:
        values["mode"] = "max" if values["monitor"] in HIGHER_IS_BETTER else "min"
    trainer = TrainerOptions.from_config(
        {
            "seed": seed,
            "devices": values["devices"],
            "num_nodes": values["num_nodes"],
            "accelerator": values["accelerator"],
            "max_epochs": values["max_epoch"],
            "max_steps": values["max_steps"],
            "val_check_interval": values["validate_interval"] or 1.0,
            "val_at_epoch_end": True,
            "accumulate_grad_batches": values["accum_grad"],
            "gradient_clip_val": values["grad_clip"],
            "precision": "bf16" if values["use_bf16"] else "32",
            "log_every_n_steps": values["log_interval"],
            "max_nonfinite_steps": values["max_nonfinite_steps"],
            "early_stop_patience": values["early_stopping_patience"],
        }
    )
    checkpoint = CheckpointOptions(
        monitor=values["monitor"],
        mode=values["mode"],
        save_top_k=max(values["keep_nbest_models"], values["avg_nbest_model"]),
        filename="step-{step}",
        auto_insert_metric_name=False,
        every_n_train_steps=values["save_checkpoint_interval"],
    )
    experiment = ExperimentOptions(
        create_tensorboard_logger=values["tensorboard"],
        resume_if_exists=values["resume"],
        resume_ignore_no_checkpoint=True,
        checkpoint=checkpoint,
    )
    return trainer, experiment, values


def optimizer_section(config: Mapping[str, Any]) -> dict[str, Any]:
    """FunASR's `optim` and `optim_conf` as the one section that build_optimizer takes."""
    return {"name": config.get("optim") or "adam", **_mapping(config, "optim_conf")}


def scheduler_section(config: Mapping[str, Any]) -> dict[str, Any]:
    """FunASR's `scheduler` and `scheduler_conf` as the one section that build_schedule takes."""
    return {"name": config.get("scheduler") or "warmuplr", **_mapping(config, "scheduler_conf")}


def _mapping(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    section = config.get(key) or {}
    if not isinstance(section, Mapping):
        raise ValueError(f"{key}: {section!r} must be a mapping of options")
    return {str(name): value for name, value in section.items()}


def _check(values: Mapping[str, Any]) -> None:
    if values["max_epoch"] < 0 and values["max_steps"] < 0:
        raise ValueError("train_conf.max_epoch and train_conf.max_steps: one of them must be set")
    if 0 in (values["max_epoch"], values["max_steps"]):
        raise ValueError(
            "train_conf.max_epoch and train_conf.max_steps: 0 would train nothing and write the model as it "
            "was; -1 means no limit"
        )
    kinds = (None, "acc", "loss")
    if values["avg_keep_nbest_models_type"] not in kinds:
        raise ValueError(
            f"train_conf.avg_keep_nbest_models_type: {values['avg_keep_nbest_models_type']!r} is neither acc "
            "nor loss; for other figures set train_conf.monitor"
        )
    if values["mode"] not in (None, "min", "max"):
        raise ValueError(f"train_conf.mode: {values['mode']!r} is neither min nor max")
    for key in ("accum_grad", "log_interval", "keep_nbest_models", "avg_nbest_model"):
        if values[key] < 1:
            raise ValueError(f"train_conf.{key}: {values[key]!r} must be at least 1")
    for key in ("validate_interval", "save_checkpoint_interval"):
        if values[key] is not None and values[key] < 1:
            raise ValueError(f"train_conf.{key}: {values[key]!r} must be at least 1, or null")
    if not values["monitor"].startswith("val_"):
        raise ValueError(
            f"train_conf.monitor: {values['monitor']!r} is no figure of the validation; they start with val_ "
            "(val_loss, val_acc, val_ctc_cer)"
        )


def _typed(name: str, value: Any, kind: type) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{name}: {value!r} is not of the type {kind.__name__}")
    return value
