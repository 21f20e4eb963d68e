"""Make corpora and calls into FunASR-Nano messages files, with a report: stage 0 at 8 kHz.

Examples:
  python -m nest_ssl.bin.prepare --simulated WenetSpeech.json --real kaldi=calls/data \\
      --tokenizer Fun-ASR-Nano-2512/Qwen3-0.6B --out data/stage0
  python -m nest_ssl.bin.prepare --simulated WenetSpeech.json --out data/stage0 --test
  python -m nest_ssl.bin.prepare --check data/stage0

Each set is read, freed of annotation errors, cut to lengths (a preview comes first), divided into train and
dev, given its audio and written as messages lines.  The same command again goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import logging
import platform
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from nest_ssl import __version__
from nest_ssl.bin.arguments import Parser, Rare
from nest_ssl.bin.terminal import progress_bar, run
from nest_ssl.config import load_config, resolved
from nest_ssl.data.length_limits import LengthLimits
from nest_ssl.data.prompts import PromptSettings, prompt_tokens
from nest_ssl.data.stage0.channel import ChannelSettings
from nest_ssl.data.stage0.check import LIMITS, REPORT, check_folder
from nest_ssl.data.stage0.html import render_html
from nest_ssl.data.stage0.lengths import columns
from nest_ssl.data.stage0.markdown import overview, render_markdown, table
from nest_ssl.data.stage0.parallel import worker_count
from nest_ssl.data.stage0.pipeline import SIDES, STEPS, Run, SetFiles, prepare_set
from nest_ssl.data.stage0.report import MEASURED, describe_set, measure_outputs
from nest_ssl.data.stage0.settings import KINDS, SetSettings, parse_source, set_settings
from nest_ssl.data.stage0.steps import Steps, write_json
from nest_ssl.files.atomic import replaced
from nest_ssl.files.system import lock_or_fail
from nest_ssl.telephone.presets import mix_from_config
from nest_ssl.text.llm_tokenizer import LlmTokenizer

log = logging.getLogger(__name__)

CONF = Path(__file__).resolve().parents[2] / "conf"
TEST_ROWS = 50
STOPPED_EARLY = 3  # exit status: manifests only, since there is no tokenizer
SHOWN_PROBLEMS = 20
STEP_NAMES = (*STEPS[:4], *(f"{step}-{side}" for step in STEPS[4:] for side in SIDES))


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    if arguments.check:
        return check(arguments)
    config = load_config(arguments.config, arguments.overrides)
    plain = resolved(config, str(arguments.config))
    out = arguments.out
    if arguments.test:
        out = out.with_name(f"{out.name}-test")
    tokenizer = LlmTokenizer(arguments.tokenizer) if arguments.tokenizer else None
    asked = {"simulated": arguments.simulated, "real": arguments.real}
    sets = [
        set_settings(name, plain["sets"][name], tuple(parse_source(text) for text in sources))
        for name, sources in asked.items()
        if sources
    ]
    seed = int(plain["seed"] if arguments.seed is None else arguments.seed)
    channels = {each.name: channel_settings(each, plain, arguments, seed) for each in sets}
    shared = Run(
        out=out,
        seed=seed,
        workers=processes(arguments),
        tokenizer=tokenizer,
        limit=TEST_ROWS if arguments.test else None,
        redo=tuple(arguments.redo or ()),
        preview_only=arguments.preview,
        bars=lambda total, what: progress_bar(total, "utt", what),
    )
    out.mkdir(parents=True, exist_ok=True)
    with open(out / ".lock", "a", encoding="utf-8") as lock:
        try:
            lock_or_fail(lock)
        except OSError as error:
            raise ValueError(
                f"{out} is being written by another run; wait for it, or give another --out"
            ) from error
        finished = [prepare_set(each, shared, channels[each.name]) for each in sets]
        if arguments.preview:
            print("stopped before anything was removed by length, as --preview asks")
            return 0
        if tokenizer is None:
            places = ", ".join(str(SetFiles(out / each.name).manifest("train")) for each in sets)
            log.error(
                "stopped after the manifests (%s, and dev.jsonl beside): messages lines state text_length in "
                "tokens of the LLM, which are counted and not guessed. Give the same command with "
                "--tokenizer DIR to go on from here (of Fun-ASR-Nano: its folder Qwen3-0.6B)",
                places,
            )
            return STOPPED_EARLY
        assert all(finished)
        report = make_report(sets, shared, channels, plain, argv)
    print(table(*overview(report)))
    print(f"\nreport {out / f'{REPORT}.html'}, limits {out / LIMITS}")
    return 0


def processes(arguments: argparse.Namespace) -> int:
    """Give the number of processes; a test is done before several have started."""
    return 1 if arguments.test and not arguments.workers else worker_count(arguments.workers)


def channel_settings(
    settings: SetSettings, plain: Mapping[str, Any], arguments: argparse.Namespace, seed: int
) -> ChannelSettings:
    """How the audio of a set is made; a mix that cannot be had is refused before anything is read."""
    most = float(plain["max_error_rate"])
    workers = processes(arguments)
    if settings.channel != "simulate":
        return ChannelSettings(seed, workers, most, quality=settings.quality)
    section = settings.simulate
    path = Path(section["config"]) if section.get("config") else CONF / "telephone.yaml"
    name = arguments.mix or section.get("mix") or "default"
    mix = mix_from_config(load_config(path, list(section.get("overrides") or ())), name)
    if arguments.missing == "drop":
        mix = mix.without_missing()
    mix.check()
    recordings = noise_recordings(arguments.noise_manifest or section.get("noise") or ())
    return ChannelSettings(seed, workers, most, mix=mix, mix_name=name, recordings=recordings)


def noise_recordings(words: Sequence[str]) -> dict[str, Path]:
    """Read [KIND=]PATH words; ValueError or FileNotFoundError for what is not there or twice."""
    found: dict[str, Path] = {}
    for word in words:
        kind, equals, path = word.partition("=")
        kind, path = (kind, path) if equals else ("music", word)
        if kind in found:
            raise ValueError(f"--noise-manifest {word}: there are recordings of {kind} already")
        if not Path(path).exists():
            raise FileNotFoundError(f"--noise-manifest {word}: {path} does not exist")
        found[kind] = Path(path)
    return found


def make_report(
    sets: list[SetSettings],
    shared: Run,
    channels: Mapping[str, ChannelSettings],
    plain: Mapping[str, Any],
    argv: list[str],
) -> dict[str, Any]:
    """Write STAGE0_REPORT.json, .md, .html and funasr_limits.yaml; gives the report."""
    sections = {}
    for each in sets:
        files = SetFiles(shared.out / each.name)
        measure(files, shared, Steps(files.work, each.name))
        sections[each.name] = describe_set(files, each)
    limits = funasr_limits(sets, shared)
    write_limits(shared.out / LIMITS, limits)
    assert shared.tokenizer is not None
    command = shlex.join(["python", "-m", "nest_ssl.bin.prepare", *argv])
    report = {
        "sets": sections,
        "funasr_limits": limits,
        "seed": shared.seed,
        "channels": {
            name: f"mix {each.mix_name}, recordings of noise: {', '.join(sorted(each.recordings)) or 'none'}"
            if each.mix
            else f"raised to 16 kHz, quality {each.quality}"
            for name, each in channels.items()
        },
        "tokenizer": {
            "folder": str(shared.tokenizer.folder.absolute()),
            "vocab_size": shared.tokenizer.vocab_size,
        },
        "note": f"A test of {shared.limit} utterances per set, not the data." if shared.limit else "",
        "command": command,
        "written": datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": versions(),
        "settings": plain,
    }
    write_json(shared.out / f"{REPORT}.json", report)
    for suffix, text in (("md", render_markdown(report)), ("html", render_html(report))):
        with replaced(shared.out / f"{REPORT}.{suffix}") as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    return report


def measure(files: SetFiles, shared: Run, steps: Steps) -> None:
    """Measure the levels of some of the finished files, unless that was done."""

    def body() -> None:
        with shared.bars(MEASURED, f"{files.folder.name}: levels") as bar:
            measure_outputs(files, shared.workers, bar.update)

    manifests = [files.manifest(side) for side in SIDES]
    steps.run("measure", {"files": MEASURED}, manifests, [files.work / "measured.json"], body)


def funasr_limits(sets: list[SetSettings], shared: Run) -> dict[str, Any]:
    """FunASR's keys in their own units, the smallest that leave no line of any set out."""
    assert shared.tokenizer is not None
    found: dict[str, list[np.ndarray]] = {}
    most = 0
    for each in sets:
        prompt = PromptSettings.from_config(each.prompt, f"sets.{each.name}.prompt")
        tokens = prompt_tokens(prompt, shared.tokenizer)
        most = max(most, tokens)
        for side in SIDES:
            manifest = SetFiles(shared.out / each.name).manifest(side)
            for unit, values in columns(manifest, shared.tokenizer, tokens).items():
                found.setdefault(unit, []).append(values)
    joined = {unit: np.concatenate(values) for unit, values in found.items()}
    return LengthLimits().funasr_limits(joined, prompt_tokens=most)


def write_limits(path: Path, limits: Mapping[str, Any]) -> None:
    """Write the limits as YAML, each key with what it counts."""
    head = "# Limits for FunASR's dataset_conf with which it leaves out no line of these sets.\n"
    units = "".join(
        f"#   {key}: {' '.join(str(unit).split())}\n" for key, unit in limits.get("units", {}).items()
    )
    body = yaml.safe_dump({"dataset_conf": dict(limits["dataset_conf"])}, sort_keys=False, allow_unicode=True)
    with replaced(path) as temporary:
        temporary.write_text(f"{head}# What each key counts:\n{units}{body}", encoding="utf-8", newline="\n")


def check(arguments: argparse.Namespace) -> int:
    """Validate a finished folder; the first problems are printed, all go to a file."""
    out = arguments.check
    tokenizer = LlmTokenizer(arguments.tokenizer) if arguments.tokenizer else None
    lines, problems, counted = check_folder(out, tokenizer, 4 * worker_count(arguments.workers))
    path = out / "check.problems.txt"
    kinds = Counter(problem.kind for problem in problems)
    for problem in problems[:SHOWN_PROBLEMS]:
        print(problem)
    print(f"checked {lines} lines, {len(problems)} problems")
    if not counted:
        print("text_length was not recomputed: the report's tokenizer is not there; give --tokenizer DIR")
    for kind, number in kinds.most_common():
        print(f"  {number} {kind}")
    if kinds["other audio"] == lines > 0:
        print("the folder was moved or copied: give the command that made it once more, with this --out")
    try:
        if problems:
            path.write_text("".join(f"{problem}\n" for problem in problems), encoding="utf-8")
            print(f"all of them are in {path}")
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        print(f"{path} cannot be written: {error.strerror}")
    return 1 if problems else 0


def versions() -> dict[str, str]:
    """What the result was made with."""
    found = {"nest_ssl": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for name in ("numpy", "scipy", "soxr", "soundfile", "av", "tokenizers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        "prepare",
        usage="%(prog)s (--simulated PATH | --real PATH)... --out DIR [options]\n"
        "       %(prog)s --check DIR [--tokenizer DIR]",
        description=__doc__,
        epilog="docs/stage0.md is the manual; conf/stage0.yaml has all settings.",
    )
    add = parser.add_argument_group("sets").add_argument
    kinds = f"wideband speech; repeatable. KIND: {', '.join(KINDS)}"
    add("--simulated", action="append", metavar="[KIND=]PATH", help=kinds)
    add("--real", action="append", metavar="[KIND=]PATH", help="recorded calls, the same kinds; repeatable")
    add("--out", type=Path, metavar="DIR", help="folder of the sets and the report")
    add("--tokenizer", type=Path, metavar="DIR", help="of the LLM: Qwen3-0.6B of Fun-ASR-Nano")
    add("--check", type=Path, metavar="DIR", help="only validate DIR; exit status 1 if there is a problem")
    add = parser.add_argument_group("settings").add_argument
    config = CONF / "stage0.yaml"
    add("--config", type=Path, default=config, metavar="FILE", help="settings [conf/stage0.yaml]")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="changes to --config")
    add("--seed", type=int, metavar="N", help="of the split and the channels [that of the settings]")
    add("--mix", metavar="NAME", help="mix of channels [that of the settings]")
    noise = "recordings of a kind of noise [music]; repeatable"
    add("--noise-manifest", action="append", metavar="[KIND=]PATH", help=noise)
    missing = "presets whose codec is not here: end, or do without [%(default)s]"
    add("--missing", choices=("refuse", "drop"), default="refuse", help=missing)
    add = parser.add_argument_group("the run").add_argument
    add("--preview", action="store_true", help="stop after showing what the length limits would remove")
    add("--test", action="store_true", help=f"{TEST_ROWS} utterances of each set, to DIR-test, in seconds")
    workers = "processes; 0: one per core, for --test one [%(default)s]"
    add("--workers", type=int, default=0, metavar="N", help=workers)
    steps = f"do again: {', '.join(STEP_NAMES)}"
    add("--redo", action="append", choices=STEP_NAMES, metavar="STEP", help=Rare(steps))
    arguments = parser.parse_intermixed_args(argv)
    if arguments.check:
        if arguments.simulated or arguments.real:
            parser.error("--check validates a finished folder; sources are for a run without it")
        return arguments
    if not (arguments.simulated or arguments.real):
        parser.error("nothing to prepare: give --simulated [KIND=]PATH, --real [KIND=]PATH or both")
    if arguments.out is None:
        parser.error("--out DIR says where the sets go")
    return arguments


if __name__ == "__main__":
    run(main)
