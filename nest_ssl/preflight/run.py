"""All checks in their order: `run_checks(context) -> Report`, for a stage before its first step and alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from nest_ssl.data.fun_asr_config import dataset_options
from nest_ssl.preflight import probe
from nest_ssl.preflight.context import Context, Options
from nest_ssl.preflight.data_sets import check_audio, check_doubles, check_lines
from nest_ssl.preflight.frontend import check_frontend, check_lengths, check_probe
from nest_ssl.preflight.keys import check_keys
from nest_ssl.preflight.limits import check_dead_limits, check_limits
from nest_ssl.preflight.precision import check_frozen, check_precision, check_ranks
from nest_ssl.preflight.prompts import check_prompts
from nest_ssl.preflight.report import Finding, Report
from nest_ssl.preflight.resources import check_disk, check_memory
from nest_ssl.preflight.run_folder import check_folder
from nest_ssl.preflight.stage import check_freezing, check_lora, check_plan
from nest_ssl.preflight.texts import check_ctc, check_llm_tokens, check_texts
from nest_ssl.preflight.weights import check_directory, check_weights

__all__ = ["Context", "Finding", "Options", "Report", "run_checks"]

Check = Callable[[Context], Iterator[Finding]]


def check_data_options(context: Context) -> Iterator[Finding]:
    """Check dataset_conf with the data's own reader, which refuses unknown keys and values."""
    try:
        dataset_options(context.section("dataset_conf"))
    except ValueError as error:
        if "max_speech_length" in str(error):
            return  # has a check of its own
        yield Finding(
            "error",
            "KEY.dataset_conf",
            str(error),
            "The data would not be built.",
            "Correct or remove the key.",
        )


NEEDS_NOTHING: dict[str, Check] = {
    "directory": check_directory,
    "keys": check_keys,
    "data options": check_data_options,
    "dead limits": check_dead_limits,
    "front end": check_frontend,
    "plan": check_plan,
    "freezing": check_freezing,
    "lora": check_lora,
    "precision": check_precision,
    "run folder": check_folder,
}
NEEDS_WEIGHTS: dict[str, Check] = {
    "weights": check_weights,
    "frozen": check_frozen,
    "ranks": check_ranks,
    "disk": check_disk,
}
NEEDS_DATA: dict[str, Check] = {
    "lines": check_lines,
    "audio": check_audio,
    "doubles": check_doubles,
    "texts": check_texts,
    "lengths": check_lengths,
    "limits": check_limits,
    "prompts": check_prompts,
}
NEEDS_TOKENIZER: dict[str, Check] = {"tokens": check_llm_tokens}
NEEDS_CTC: dict[str, Check] = {"ctc": check_ctc}


def run_checks(context: Context) -> Report:
    """Run every check that the context allows, and name those it does not; nothing is raised for findings.

    Call `report.raise_errors()` to stop at errors, print `report.text()`.  A stage calls this once its model
    is built and its trainable set is made:

        context = Context(config, model_dir=directory, model=model, train=train_files, valid=valid_files,
                          part=part, out=folder, device=device, world_size=ranks.world_size,
                          overrides=given, probe=probe_of(model, train_data.dataset))
        report = run_checks(context)
    """
    report = Report()
    weights, data = bool(context.shapes), bool(context.train or context.valid)
    groups = (
        (NEEDS_NOTHING, None),
        (NEEDS_WEIGHTS, None if weights else "no weights were read"),
        (NEEDS_DATA, None if data else "no data were named"),
        (NEEDS_TOKENIZER, None if context.tokenizer is not None and data else "no tokenizer or no data"),
        (NEEDS_CTC, None if context.ctc_tokenizer is not None and data else "no CTC tokenizer or no data"),
        ({"memory": check_memory}, None if weights else "no weights were read"),
        ({"probe": check_probe}, probe.wanted(context) if not report.errors else "errors before it"),
    )
    for checks, reason in groups:
        for name, check in checks.items():
            if reason is not None:
                report.skipped[name] = reason
                continue
            started = time.perf_counter()
            report.findings += list(check(context))
            report.seconds[name] = time.perf_counter() - started
    return report
