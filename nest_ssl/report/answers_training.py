"""Answers from stages and runs: how far it is, whether the losses fell, how much memory it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nest_ssl.report.answer import MET, NOT_MET, UNKNOWN, Answer
from nest_ssl.report.runs import Run, finite
from nest_ssl.report.words import counted, listed, percent, spelled

if TYPE_CHECKING:
    from nest_ssl.report.experiment import Experiment

NEAR = 0.1  # two values of a loss are the same within this share: their validation sets may differ
WORSE = 0.05  # share above the best at which the end of a training is said to be worse


def progress(experiment: Experiment) -> Answer:
    """Answer how far the experiment is, how long it took, and what is running."""
    question = "How far is the experiment?"
    # the stage that writes this page is running while it is written
    stages = [s for s in experiment.stages if not (s.name == "report" and s.state == "running")]
    if not stages:
        known = [_step_of(run) for run in stage_runs(experiment)[0] or experiment.runs]
        if not known:
            return Answer(question, "Nothing has run yet: there are neither stages nor runs.", UNKNOWN)
        return Answer(question, f"No stages of a recipe; {counted(len(known), 'run')}.", details=known)
    done = [stage for stage in stages if stage.state == "done"]
    took = sum(stage.took_s or 0.0 for stage in done)
    parts = [f"{len(done)} of {counted(len(stages), 'stage')} {'is' if len(done) == 1 else 'are'} done"]
    if done:
        parts[0] += f", in {spelled(took)} of work"
    details = []
    for stage in stages:
        words = f"stage {stage.number} ({stage.name})"
        if stage.state == "running":
            parts.append(f"{words} is running")
            current = _current(experiment.runs, stage.name)
            details += [f"{words}: {_step_of(current)}"] if current else []
        elif stage.state in ("failed", "stopped"):
            parts.append(f"{words} {stage.state}")
            details.append(f"{words}: {stage.detail or stage.state}; log {stage.log}")
    waiting = [stage.name for stage in stages if stage.state == "missing"]
    if waiting:
        parts.append(f"not run yet: {listed(waiting)}")
    return Answer(question, "; ".join(parts) + ".", details=details)


def loss_fall(experiment: Experiment, aim: float | None) -> Answer:
    """Answer by how much the validation loss of each stage fell, from its first value to its best."""
    question = "Did the loss fall, and by how much?"
    if aim is not None:
        question = f"Did the loss fall by {percent(aim, 0)} or more in each stage?"
    main, further = stage_runs(experiment)
    if not main:
        return Answer(question, "No training has logged anything yet.", UNKNOWN)
    done = {stage.name for stage in experiment.stages if stage.state == "done"}
    verdicts = {run.name: _verdict(run, aim, run.name in done) for run in main}
    details = [f"{run.name}: {_fall(run, experiment, aim, run.name in done)}" for run in (*main, *further)]
    known = [name for name, verdict in verdicts.items() if verdict != UNKNOWN]
    if not known:
        return Answer(
            question,
            "It cannot be told yet: no stage has ended with two validations or more.",
            UNKNOWN,
            details,
        )
    falls = [f"{run.name} {percent(run.figures.fall or 0.0)}" for run in main if run.name in known]
    text = f"It fell in {listed(falls)}"
    met = [name for name in known if verdicts[name] == MET]
    overall = ""
    if aim is not None:
        text += f": {len(met)} of {len(known)} reach {percent(aim, 0)}"
        overall = MET if len(met) == len(known) else NOT_MET
    unknown = [name for name in verdicts if name not in known]
    if unknown:
        text += f"; not known for {listed(unknown)}"
        overall = UNKNOWN if overall == MET else overall
    return Answer(question, f"{text}.", overall, details)


def memory(experiment: Experiment) -> Answer:
    """Answer how much memory the trainings took at most."""
    question = "How much memory did it take?"
    runs = [run for run in experiment.runs if run.figures.mem_gb is not None and not run.copy_of]
    if not runs:
        return Answer(question, "No training has logged its memory yet.", UNKNOWN)
    parts = []
    for on_gpu, what in ((True, "GPU memory"), (False, "main memory"), (None, "memory")):
        those = [run for run in runs if run.on_gpu is on_gpu]
        if those:
            most = max(those, key=lambda run: run.figures.mem_gb or 0.0)
            parts.append(f"{most.figures.mem_gb:.2f} GB of {what} in a process ({most.name})")
    details = [f"{run.name}: {run.figures.mem_gb:.2f} GB, {_where(run)}" for run in runs]
    return Answer(question, f"At most {' and '.join(parts)}.", details=details)


def stage_runs(experiment: Experiment) -> tuple[list[Run], list[Run]]:
    """Give the runs that stages of the recipe are named after, and the others, such as controls.

    Where no run has the name of a stage all of them come first; copies of a run that is listed are left out.
    """
    names = {stage.name for stage in experiment.stages}
    main = [run for run in experiment.runs if run.name in names]
    if not main:
        return [run for run in experiment.runs if not run.copy_of], []
    shown = {run.name for run in main} | {run.copy_of for run in main if run.copy_of}
    return main, [run for run in experiment.runs if run.name not in shown and not run.copy_of]


def _verdict(run: Run, aim: float | None, done: bool) -> str:
    """done: its stage is; a run that is not, nor at its last step, may still reach the aim."""
    if run.figures.validations < 2 or run.figures.fall is None:
        return UNKNOWN
    if aim is None:
        return ""
    if run.figures.fall >= aim:
        return MET
    return NOT_MET if done or not run.max_steps or run.step >= run.max_steps else UNKNOWN


def _fall(run: Run, experiment: Experiment, aim: float | None, done: bool) -> str:
    f, parts = run.figures, []
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
        verdict = _verdict(run, aim, done)
        verdict = "not met so far" if verdict == UNKNOWN else verdict
        parts.append(
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
        if other.name != run.name and any(f"/{top}/{other.name}/" in f"/{word}" for word in words)
    ]
    return max(named, key=lambda other: len(other.name), default=None)


def _current(runs: Sequence[Run], name: str) -> Run | None:
    """The run of a stage; where none has its name, the unfinished one that wrote last."""
    for run in runs:
        if run.name == name:
            return run
    unfinished = [run for run in runs if run.ended and run.max_steps and run.step < run.max_steps]
    return max(unfinished, key=lambda run: run.ended or run.started, default=None)  # type: ignore[arg-type, return-value]


def _step_of(run: Run) -> str:
    parts = [f"{run.name} at step {run.step}" + (f" of {run.max_steps}" if run.max_steps else "")]
    if run.train:
        row = run.train[-1]
        loss = finite(row.get("loss"))
        parts.append(f"loss {loss:#.4g}" if loss is not None else "loss NaN or infinite")
        if run.max_steps and run.step < run.max_steps and row.get("eta"):
            parts.append(f"{row['eta']} to go")
    return ", ".join(parts)


def _where(run: Run) -> str:
    if run.on_gpu:
        return f"peak of the allocator on {run.env.get('device')}"
    return "resident memory of one process" if run.on_gpu is False else "env.json does not say on what"


def _plain(key: str) -> str:
    return key.removeprefix("val_")


def _times(weight: float | None) -> str:
    return "" if weight in (None, 1.0) else f" (counts {weight:g} times)"
