"""The README.md beside an exported model: what it is, what it was trained on, what is known of it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from nest_ssl.checkpoints.source import Source
from nest_ssl.files.atomic import replaced

UNKNOWN = "not recorded"
RUN_FILES = ("env.json", "metrics.jsonl")
PARENTS_OF_A_RUN = 3  # run/checkpoints/NAME/model.safetensors

TAGS = {
    "EncDecCTCModelBPE": "automatic-speech-recognition, CTC",
    "EncDecDenoiseMaskedTokenPredModel": "self-supervised, NEST",
}

_DATA_LINE = re.compile(r"training data .*?\brows (?P<rows>\d+) .*?\bhours (?P<hours>[\d.]+)")


@dataclass
class RunFacts:
    """What a run directory tells of a model; None or empty where it tells nothing."""

    folder: Path | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    trainer: Mapping[str, Any] = field(default_factory=dict)
    data_hours: float | None = None
    data_rows: int | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    validation: Mapping[str, Any] = field(default_factory=dict)


def run_facts(path: Path, step: int | None = None) -> RunFacts:
    """The facts of the run that `path` lies in: the figures of `step`, or the last ones.

    A line that a kill tore is passed over; a file that is missing leaves its facts unknown.
    """
    places = [path, *path.resolve().parents[:PARENTS_OF_A_RUN]]
    folder = next((place for place in places if all((place / name).is_file() for name in RUN_FILES)), None)
    if folder is None:
        return RunFacts()
    facts = RunFacts(folder, _json(folder / "env.json"))
    for row in _rows(folder / "metrics.jsonl"):
        if step is None or row.get("step", 0) <= step:
            if row.get("kind") == "train":
                facts.training = row
            elif row.get("kind") == "validation":
                facts.validation = row
    if (folder / "config.yaml").is_file():
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        facts.trainer = config.get("trainer") or {} if isinstance(config, dict) else {}
    if (folder / "train.log").is_file():
        for match in _DATA_LINE.finditer((folder / "train.log").read_text(encoding="utf-8")):
            facts.data_hours, facts.data_rows = float(match["hours"]), int(match["rows"])
    return facts


def model_card(
    source: Source, section: Mapping[str, Any], name: str, kind: str, licence: str | None, facts: RunFacts
) -> str:
    """The card's text.  `name` and `kind` are of what was exported; `section` its model configuration."""
    encoder = section.get("encoder") or {}
    features = section.get("preprocessor") or {}
    values = sum(tensor.numel() for tensor in source.state.values())
    step = source.facts.get("step") or facts.training.get("step") or facts.validation.get("step")
    environment = facts.environment
    commit = environment.get("git_commit")
    if commit and environment.get("git_changes"):
        commit = f"{commit} (with uncommitted changes)"
    command = environment.get("command")
    rows = {
        "file": f"`{name}` ({kind})",
        "made from": f"`{source.path}` ({source.kind})",
        "class": f"`{source.target}`",
        "weights": f"{values:,} values in {len(source.state)} tensors",
        "encoder": _listed(
            encoder,
            ("n_layers", "d_model", "n_heads", "subsampling", "subsampling_factor", "conv_kernel_size"),
        ),
        "features": _listed(
            features, ("sample_rate", "features", "window_size", "window_stride", "normalize")
        ),
        "training data": _hours(facts),
        "audio seen in training": _number(
            source.facts.get("hours_seen") or facts.training.get("hours_seen"), "{:.2f} hours"
        ),
        "steps": _of(step, facts.trainer.get("max_steps")),
        "epoch": _number(source.facts.get("epoch", facts.training.get("epoch")), "{}"),
        "precision, seed": _pair(facts.trainer.get("precision"), facts.trainer.get("seed")),
        "trained on": _pair(environment.get("device"), environment.get("started"), " since "),
        "commit": f"`{commit}`" if commit else UNKNOWN,
        "command": f"`{shlex.join(map(str, command))}`" if command else UNKNOWN,
        "software": _software(environment),
        "licence": licence or UNKNOWN,
    }
    metrics = _metrics(source, facts)
    lines = [
        "---",
        *([f"license: {json.dumps(licence)}"] if licence else []),
        "library_name: nest-ssl",
        f"export: {json.dumps(name)}",
        f"tags: [speech, {TAGS.get(source.target.rpartition('.')[2], 'self-supervised')}, FastConformer]",
        "---",
        "",
        f"# {name}",
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {str(value).replace('|', '/')} |" for key, value in rows.items()),
        "",
        "## Validation",
        "",
        *(
            ["| figure | value |", "|---|---|", *(f"| {key} | {value} |" for key, value in metrics.items())]
            if metrics
            else [f"{UNKNOWN[0].upper()}{UNKNOWN[1:]}."]
        ),
        "",
        "## Configuration",
        "",
        "```yaml",
        OmegaConf.to_yaml(OmegaConf.create(dict(section))).rstrip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def write_card(path: Path, text: str) -> Path:
    """Write the card of the file or directory `path`; gives where.

    README.md in the directory, or beside the file unless one that is not its card is there: then
    NAME.README.md.
    """
    if path.is_dir():
        target = path / "README.md"
    else:
        target = path.parent / "README.md"
        mark = f"export: {json.dumps(path.name)}\n"
        if target.exists() and mark not in target.read_text(encoding="utf-8", errors="replace")[:2000]:
            target = path.with_name(f"{path.name}.README.md")
    with replaced(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return target


def _metrics(source: Source, facts: RunFacts) -> dict[str, str]:
    found = source.facts.get("metrics") or facts.validation
    skipped = {"time", "kind", "step", "max_steps", "epoch", "seconds"}
    return {
        key: f"{value:.4f}" if isinstance(value, float) else str(value)
        for key, value in found.items()
        if key not in skipped
    }


def _hours(facts: RunFacts) -> str:
    if facts.data_hours is None:
        return UNKNOWN
    return f"{facts.data_hours:g} hours in {facts.data_rows} rows"


def _software(environment: Mapping[str, Any]) -> str:
    packages = environment.get("packages") or {}
    known = {"nest_ssl": environment.get("nest_ssl"), "python": environment.get("python"), **packages}
    named = [f"{name} {known[name]}" for name in ("nest_ssl", "python", "torch") if known.get(name)]
    return ", ".join(named) or UNKNOWN


def _listed(section: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    return ", ".join(f"{key} {section[key]}" for key in keys if key in section) or UNKNOWN


def _number(value: Any, form: str) -> str:
    return UNKNOWN if value is None else form.format(value)


def _of(value: Any, limit: Any) -> str:
    if value is None:
        return UNKNOWN
    return f"{value} of {limit}" if isinstance(limit, int) and limit > 0 else str(value)


def _pair(first: Any, second: Any, between: str = ", ") -> str:
    if first is None and second is None:
        return UNKNOWN
    return f"{first}{between}{second}"


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not readable as JSON: {error}") from error
    return content if isinstance(content, dict) else {}


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the last line of a run that was killed
        if isinstance(row, dict):
            rows.append(row)
    return rows
