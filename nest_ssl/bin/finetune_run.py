"""The work of the verb finetune, on one rank."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
import yaml

from nest_ssl.bin.arguments import ROOT
from nest_ssl.bin.finetune_config import seed_of
from nest_ssl.bin.finetune_result import result_is_written, warnings_of, write_result
from nest_ssl.bin.progress import training_bars
from nest_ssl.bin.terminal import start_logging
from nest_ssl.bin.training_run import end_run, resume, start_log
from nest_ssl.config import suggestion
from nest_ssl.data.fun_asr_data import DataFacts, FunASRData, fun_asr_data
from nest_ssl.files.atomic import replaced
from nest_ssl.models.fun_asr_lengths import LengthTable
from nest_ssl.models.fun_asr_trainable import PartAccount, account, audit
from nest_ssl.models.fun_asr_training import FunASRNanoForTraining
from nest_ssl.preflight.probe import probe_of
from nest_ssl.preflight.run import Context, run_checks
from nest_ssl.preflight.run_folder import changed_settings
from nest_ssl.training.checkpoint import Checkpoints
from nest_ssl.training.distributed import Ranks
from nest_ssl.training.funasr_options import optimizer_section, scheduler_section, train_options
from nest_ssl.training.log import RunLog
from nest_ssl.training.loop import Stopped, Trainer, total_steps
from nest_ssl.training.optim import build_optimizer
from nest_ssl.training.run_directory import RunLock, write_environment
from nest_ssl.training.schedulers import build_schedule

log = logging.getLogger(__name__)


def finetune(ranks: Ranks, argument: Any) -> int:
    """Train on one rank; gives the exit status."""
    start_logging(logging.INFO if ranks.is_main else logging.WARNING)
    config, part, given, command = argument
    options, experiment, train_conf = train_options(config.get("train_conf") or {}, seed_of(config))
    folder = Path(config["output_dir"])
    lock = RunLock(folder) if ranks.is_main else None  # held until this function returns
    if config.get("enable_tf32", True):
        torch.set_float32_matmul_precision("high")  # GPUs only; FunASR's default, too
    model = load_model(config, train_conf, options.seed)
    parts, notes = check_parts(model, config)
    train_data, validation_data = datasets(config, model, options.seed, ranks)
    model = model.to(ranks.device)
    optim = optimizer_section(config)
    optimizer = build_optimizer(model.parameter_groups(optim), optim, "optim_conf")
    steps = total_steps(options, train_data)
    schedule = scheduler_section(config)
    schedules = [
        build_schedule(schedule, group["lr"], steps, "scheduler_conf") for group in optimizer.param_groups
    ]
    checkpoints = Checkpoints(folder / "checkpoints", "step", experiment.checkpoint)
    config_yaml = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    trainer = Trainer(
        model,
        optimizer,
        schedules,
        steps,
        train_data,
        validation_data,
        options,
        ranks,
        checkpoints,
        config_yaml,
        None,
        training_bars(f"finetune {part or ''}".strip()),
    )
    resumed = resume(trainer, ranks, experiment)
    run_log: RunLog | None = None
    try:
        # The same settings were checked when the run began.
        if not resumed or ranks.gather(changed_settings(folder, config))[0]:
            preflight(config, part, given, model, train_data, ranks)
        if ranks.is_main:
            write_environment(folder, ranks, ROOT, command)
            run_log = start_log(trainer, folder, config_yaml, ranks, experiment, resumed)
            say_the_start(run_log, config, parts, notes)
        if not resumed:
            validate_the_start(trainer, run_log)
        trainer.fit(run_log)
        finish(model, trainer, folder, train_conf["avg_nbest_model"], run_log)
    except Stopped as stopped:
        return stopped.status
    finally:
        end_run(trainer, run_log, lock)
    return 0


def load_model(config: dict[str, Any], train_conf: dict[str, Any], seed: int) -> FunASRNanoForTraining:
    """The model with the weights to start from, ready to train; fresh adapters are a function of the seed."""
    torch.manual_seed(seed)
    model = FunASRNanoForTraining.from_pretrained(
        config["nest_ssl"]["base"]["directory"], init_param=config["init_param"], overrides=config
    )
    assert isinstance(model, FunASRNanoForTraining)
    model.prepare(
        ctc_weight=float(config.get("ctc_weight") or 0.0),
        ctc_detach_encoder=bool(config.get("ctc_detach_encoder", False)),
        gradient_checkpointing=train_conf["gradient_checkpointing"],
    )
    return model


def check_parts(model: FunASRNanoForTraining, config: dict[str, Any]) -> tuple[list[PartAccount], list[str]]:
    """The account of the model's parts, checked against nest_ssl.trainable, and notes for the log."""
    declared, notes = config["nest_ssl"].get("trainable"), []
    if model.ctc is None and (
        config.get("ctc_weight") or any(p in (declared or ()) for p in ("ctc", "ctc_decoder"))
    ):
        notes.append(
            "WARNING the weights to start from have no CTC branch (those of Hugging Face have none, those of "
            "ModelScope do): ctc_weight counts as 0, and there is no CTC text"
        )
    if declared is None:
        notes.append("nest_ssl.trainable is not given: what is trained is not checked")
        return account(model), notes
    if (config.get("ctc_conf") or {}).get("freeze") and "ctc" in declared:
        declared = [name for name in declared if name != "ctc"]
        notes.append("the CTC head is frozen (ctc_conf.freeze)")
    return audit(model, declared), notes


def datasets(
    config: dict[str, Any], model: FunASRNanoForTraining, seed: int, ranks: Ranks
) -> tuple[FunASRData, FunASRData | None]:
    """Training and validation data; the main rank comes first and leaves what others need not read again."""
    facts = DataFacts(
        model.tokenizer,
        model.ctc_tokenizer,
        model.frontend,
        LengthTable(model.frames_of),
        LengthTable(model.llm_tokens_of),
    )

    def data(split: str) -> FunASRData:
        return fun_asr_data(config, facts, split, seed=seed, rank=ranks.rank, world_size=ranks.world_size)

    with ranks.main_first():
        train = data("train")
        validation = data("valid") if config.get("valid_data_set_list") else None
    return train, validation


def preflight(
    config: dict[str, Any],
    part: str | None,
    given: dict[str, Any],
    model: FunASRNanoForTraining,
    train_data: FunASRData,
    ranks: Ranks,
) -> None:
    """Stop with cause and cure where the stage would fail later, or worse, would not."""
    failed = ""
    if ranks.is_main and config["nest_ssl"].get("preflight", True):
        base = config["nest_ssl"]["base"]["directory"]
        context = Context(
            config,
            model_dir=Path(base),
            model=model,
            train=[Path(path) for path in config["train_data_set_list"]],
            valid=[Path(path) for path in config.get("valid_data_set_list") or ()],
            part=part,
            out=Path(config["output_dir"]),
            device=ranks.device,
            world_size=ranks.world_size,
            overrides=given,
            probe=probe_of(model, train_data.dataset, ranks.device),
        )
        report = run_checks(context)
        kept = Path(config["output_dir"]) / "preflight.txt"
        with replaced(kept) as temporary:
            temporary.write_text(report.text() + "\n", encoding="utf-8")
        # what is in order does not hide what is not; errors come below, in the error itself
        print(f"{report.text(['warning'])}; all of them in {kept}", flush=True)
        try:
            report.raise_errors()
        except ValueError as error:
            failed = str(error)
    failed = next((text for text in ranks.gather(failed) if text), "")
    if failed:
        raise ValueError(failed)


def say_the_start(
    run_log: RunLog, config: dict[str, Any], parts: list[PartAccount], notes: list[str]
) -> None:
    section = config["nest_ssl"]
    base = section["base"]
    made_by = f", made by stage {base['stage']}" if base["stage"] else ""
    run_log.message(
        f"stage {section['stage']} from {base['directory']}{made_by}, weights {base['weights']} digest "
        f"{base['digest']}"
    )
    for line in parts:
        run_log.message(
            f"part {line.part} parameters {line.parameters:,} trained {line.trainable:,} {line.dtypes}"
        )
    run_log.message(f"trained in all {sum(line.trainable for line in parts):,}")
    for note in notes:
        run_log.message(note)


def validate_the_start(trainer: Trainer, run_log: RunLog | None) -> None:
    """Write down what the weights to start from are worth on the validation data."""
    figures = trainer.validate()
    monitor = trainer.checkpoints.options.monitor
    if figures and monitor not in figures:
        raise ValueError(
            f"train_conf.monitor: {monitor!r} is no figure of this validation; {suggestion(monitor, figures)}"
        )
    if run_log and figures:
        run_log.validation({"step": 0, "max_steps": trainer.total_steps, "epoch": 0, **figures})


def finish(
    model: FunASRNanoForTraining, trainer: Trainer, folder: Path, num_averaged: int, run_log: RunLog | None
) -> None:
    """Write OUT/model unless it is there, and say so; a training that did not help is told last."""
    written = trainer.ranks.gather(result_is_written(folder, trainer))[0]
    lines = [] if written else write_result(model, trainer, folder, num_averaged)
    if run_log:
        figures = "".join(f" {key} {value:.4f}" for key, value in trainer.progress.metrics.items())
        base = model.config["nest_ssl"]["base"]["directory"]
        warnings = warnings_of(folder, trainer.checkpoints.options, base)
        for line in [*lines, f"finished at step {trainer.progress.step}{figures}", *warnings]:
            run_log.message(line)
