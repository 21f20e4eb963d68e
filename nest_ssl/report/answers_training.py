"""Answers from stages and runs: how far the experiment is, and how much memory it took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nest_ssl.report.answer import UNKNOWN, Answer
from nest_ssl.report.runs import Run, finite
from nest_ssl.report.words import counted, listed, spelled

if TYPE_CHECKING:
    from nest_ssl.report.experiment import Experiment


def progress(experiment: Experiment) -> Answer:
    """Answer how far the experiment is, how long it took, and what is running."""
    question = "How far is the experiment?"
    stages = experiment.stages
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
        elif stage.state == "stale":
            details.append(f"{words}: {stage.detail}{'; '.join(['', *stage.changes])}")
        elif stage.state in ("failed", "stopped"):
            parts.append(f"{words} {stage.state}")
            details.append(f"{words}: {stage.detail or stage.state}; log {stage.log}")
    stale = [stage.name for stage in stages if stage.state == "stale"]
    if stale:
        parts.append(f"changed since they were done: {listed(stale)}")
    waiting = [stage.name for stage in stages if stage.state == "missing"]
    if waiting:
        parts.append(f"not run yet: {listed(waiting)}")
    return Answer(question, "; ".join(parts) + ".", details=details)


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
