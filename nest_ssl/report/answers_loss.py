"""The answer on the losses: by how much that of each stage fell, and what the log says of the reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nest_ssl.report.answer import MET, NOT_MET, UNKNOWN, Answer
from nest_ssl.report.answers_training import stage_runs
from nest_ssl.report.runs import Run, finite
from nest_ssl.report.words import listed, percent

if TYPE_CHECKING:
    from nest_ssl.report.experiment import Experiment

NAMED = 4  # stages up to which the answer names each; the details name all
NEAR = 0.1  # two values of a loss are the same within this share: their validation sets may differ
WORSE = 0.05  # share above the best at which the end of a training is said to be worse


def loss_fall(experiment: Experiment, aim: float | None) -> Answer:
    """Answer by how much the validation loss of each stage fell, from its first value to its best."""
    question = "Did the loss fall, and by how much?"
    if aim is not None:
        question = f"Did the loss fall by {percent(aim, 0)} or more in each stage?"
    main, further = stage_runs(experiment)
    if not main:
        return Answer(question, "No training has logged anything yet.", UNKNOWN)
    done = {stage.name for stage in experiment.stages if stage.state in ("done", "stale")}
    judged = {run.name: _judged(run, experiment, aim, run.name in done) for run in main}
    details = [f"{run.name}: {_told(run, experiment, aim, run.name in done)}" for run in (*main, *further)]
    known = {
        name: each.fall for name, each in judged.items() if each.fall is not None and each.verdict != UNKNOWN
    }
    broken = listed(run.name for run in main if run.figures.nonfinite)
    broken = f"; NaN or infinite losses in {broken}" if broken else ""
    if not known:
        text = "It cannot be told yet: no stage has ended with a validation before it and after it"
        return Answer(question, f"{text}{broken}.", UNKNOWN, details)
    text = f"It fell in {listed(f'{name} {percent(fall)}' for name, fall in known.items())}"
    if len(known) > NAMED:
        best, worst = max(known, key=lambda name: known[name]), min(known, key=lambda name: known[name])
        text = (
            f"Of {len(known)} stages it fell most in {best}, {percent(known[best])}, and least in {worst}, "
            f"{percent(known[worst])}"
        )
    met = [name for name in known if judged[name].verdict == MET]
    overall = ""
    if aim is not None:
        text += f": {len(met)} of {len(known)} reach {percent(aim, 0)}"
        overall = MET if len(met) == len(known) else NOT_MET
    unknown = [name for name in judged if name not in known]
    if unknown:
        text += f"; not known for {listed(unknown)}"
        overall = UNKNOWN if overall == MET else overall
    return Answer(question, f"{text}{broken}.", overall, details)


@dataclass(frozen=True)
class _Judged:
    """What is said of the fall of a stage; `fall` is None where it is not known."""

    fall: float | None
    verdict: str
    words: str = ""


def _judged(run: Run, experiment: Experiment, aim: float | None, done: bool) -> _Judged:
    """done: the stage is; a run that is not, nor at its last step, may still reach the aim."""
    f = run.figures
    whole = _whole_stage(run, experiment)
    fall, words = whole or (f.fall if f.validations > 1 else None, "")
    if fall is None:
        return _Judged(None, UNKNOWN)
    if aim is None or fall >= aim:
        return _Judged(fall, "" if aim is None else MET, words)
    if not done and run.max_steps and run.step < run.max_steps:
        return _Judged(fall, UNKNOWN, words or "not met so far")
    if f.first_step and not whole:
        return _Judged(fall, UNKNOWN, f"not met after step {f.first_step}")
    return _Judged(fall, NOT_MET, words)


def _whole_stage(run: Run, experiment: Experiment) -> tuple[float, str] | None:
    """Give the fall over a stage of several runs, each from the model of the one before, and words on it: the
    least fall of the parts of the loss that all have.

    None for a stage of one run, and where the validation data of the first and the last are not the same.
    """
    names, first = {stage.name for stage in experiment.stages}, run
    runs = [run.name]
    while (start := started_from(first, experiment)) is not None and start.name not in {*names, *runs}:
        first = start
        runs.insert(0, start.name)
    same_data = run.settings.get("valid_data_set_list") == first.settings.get("valid_data_set_list")
    begin, best = _validation(first, 0), _validation(run, run.figures.best_step)
    if first is run or run.name not in names or not same_data or begin is None or best is None:
        return None
    parts = [key for key in loss_parts(run, best) if (finite(begin.get(key)) or 0.0) > 0]
    if not parts:
        return None
    fall = min(1 - best[key] / begin[key] for key in parts)
    told = ", ".join(f"{_plain(key)} {begin[key]:#.4g} -> {best[key]:#.4g}" for key in parts)
    each = " at least" if len(parts) > 1 else ""
    return fall, f"over {listed(runs)}: {told},{each} {percent(fall)} lower"


def _validation(run: Run, step: int | None) -> Mapping[str, Any] | None:
    """The validation at a step, the first one with a finite loss for step 0."""
    for row in run.validation:
        if finite(row.get("val_loss")) is not None and (step == 0 or row.get("step") == step):
            return row
    return None


def _told(run: Run, experiment: Experiment, aim: float | None, done: bool) -> str:
    f, parts = run.figures, []
    judged = _judged(run, experiment, aim, done)
    if judged.fall is not None and judged.fall != f.fall:
        parts.append(judged.words + (f", {judged.verdict}" if judged.verdict else ""))
    if f.first_val_loss is None or f.best_val_loss is None:
        parts.append(
            "no validation has been logged" if not f.nonfinite else "no validation with a finite loss"
        )
    elif f.validations == 1:
        parts.append(
            f"one validation alone, {f.first_val_loss:#.4g} at step {f.first_step}: nothing to compare with"
        )
    elif f.fall is None:
        parts.append(f"{f.first_val_loss:#.4g} -> {f.best_val_loss:#.4g}, of which a share says nothing")
    else:
        verdict = "" if parts else judged.words or judged.verdict
        parts.append(
            f"{run.name + ' alone ' if parts else ''}"
            f"{f.first_val_loss:#.4g} -> {f.best_val_loss:#.4g} (step {f.first_step} -> {f.best_step}), "
            f"{percent(f.fall)} lower{f', {verdict}' if verdict else ''}"
        )
        parts += _why(run, experiment, aim)
    if f.nonfinite:
        lines = "1 logged line has" if f.nonfinite == 1 else f"{f.nonfinite} logged lines have"
        parts.append(f"{lines} a loss that is NaN or infinite")
    if run.max_steps and run.step < run.max_steps:
        parts.append(f"at step {run.step} of {run.max_steps}")
    return "; ".join(parts)


def _why(run: Run, experiment: Experiment, aim: float | None) -> list[str]:
    """What the log says about the size of the fall."""
    f, found = run.figures, []
    first = next(row for row in run.validation if finite(row.get("val_loss")) is not None)
    best = min(
        (row for row in run.validation if finite(row.get("val_loss")) is not None),
        key=lambda r: r["val_loss"],
    )
    parts = loss_parts(run, first)
    if len(parts) > 1:
        told = [
            f"{_plain(key)} {first[key]:#.4g} -> {best[key]:#.4g}{_times(weight)}"
            for key, weight in parts.items()
            if finite(best.get(key)) is not None
        ]
        found.append(f"its parts: {', '.join(told)}")
    if f.first_step:
        found.append(f"the first {f.first_step} steps are not in, for the first validation came after them")
        losses = [(loss, row["step"]) for row in run.train if (loss := finite(row.get("loss"))) is not None]
        if len(losses) > 1:
            (begin, step), (least, when) = losses[0], min(losses)
            found.append(f"in training {begin:#.4g} (step {step}) -> {least:#.4g} (step {when})")
    if f.fall == 0.0:
        found.append("no validation was below the first one")
    elif f.last_val_loss is not None and f.best_val_loss and f.last_val_loss > (1 + WORSE) * f.best_val_loss:
        worse = f.last_val_loss / f.best_val_loss - 1
        found.append(f"the last one, {f.last_val_loss:#.4g}, is {percent(worse)} above the best")
    if aim is not None and f.fall is not None and f.fall < aim:
        found += _left_by_another(run, experiment, first, parts)
    return found


def loss_parts(run: Run, row: Mapping[str, Any]) -> dict[str, float | None]:
    """Give the keys of a validation row that val_loss is made of, with their weights where the settings of
    Fun-ASR state them (None: not known); a part with weight 0 is only watched and not given."""
    found: dict[str, float | None] = {}
    for key in row:
        if (
            key != "val_loss"
            and key.startswith("val_")
            and key.endswith("_loss")
            and finite(row[key]) is not None
        ):
            name = _plain(key).removesuffix("_loss")
            weight = 1.0 if name == "llm" else finite(run.settings.get(f"{name}_weight"))
            if weight != 0.0:
                found[key] = weight
    return found


def _left_by_another(
    run: Run, experiment: Experiment, first: Mapping[str, Any], parts: Mapping[str, float | None]
) -> list[str]:
    start = started_from(run, experiment)
    if start is None:
        return []
    words = f"it started from the model of {start.name}"
    last: Mapping[str, Any] = next(
        (row for row in reversed(start.validation) if finite(row.get("val_loss")) is not None), {}
    )
    same = []
    for key in parts:
        before, now = finite(last.get(key)), finite(first.get(key))
        if before and now and abs(now / before - 1) <= NEAR:
            same.append(f"{_plain(key)} to {before:#.4g}")
    return [f"{words}, which had brought {listed(same)} already" if same else words]


def started_from(run: Run, experiment: Experiment) -> Run | None:
    """Give the run of the same experiment whose files the command of `run` names; None if it names none."""
    command = run.env.get("command")
    words = [str(word).rpartition("=")[2] + "/" for word in command] if isinstance(command, list) else []
    top = experiment.folder.resolve().name
    named = [
        other
        for other in experiment.runs
        if other.name not in (run.name, run.copy_of)
        and other.copy_of != run.name
        and any(f"/{top}/{other.name}/" in f"/{word}" for word in words)
    ]
    return max(named, key=lambda other: len(other.name), default=None)


def _plain(key: str) -> str:
    return key.removeprefix("val_")


def _times(weight: float | None) -> str:
    return "" if weight in (None, 1.0) else f" (counts {weight:g} times)"
