#!/usr/bin/env python3
"""Time NEST's whole training step, alone or interleaved with NeMo's on the same inputs and weights.

  python benchmarks/nest_step.py --size small --batch 4 --seconds 8
  python benchmarks/nest_step.py --size large --device cuda --precision bf16 --compile --batch 32 --seconds 20
  python benchmarks/nest_step.py --size large --nemo-python NEMO_ENVIRONMENT/bin/python

A step is augmentation, features, mask, tokens, encoder, loss, backward and optimiser, as the training loop
takes it.  Each side runs in a process of its own, so that its peak memory is its own.  With NeMo the losses
of a few steps without dropout are compared first (NeMo draws dropout in another order), then steps with the
YAML's dropout are timed in turn, and the ratio is that of each pair: it holds where a busy machine's times do
not.  Exit status 1 if the losses differ, 2 if a side cannot run.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from side_process import SideProcess

ROOT = Path(__file__).resolve().parent.parent
SIDE = Path(__file__).resolve().parent / "train_step" / "side.py"
# The sizes that the configuration's header names, as overrides of model.encoder.
SIZES = {
    "small": ["d_model=176", "n_heads=4", "n_layers=16"],
    "medium": ["d_model=256", "n_heads=4", "n_layers=16"],
    "large": [],
    "xlarge": ["d_model=1024", "n_heads=8", "n_layers=24", "use_bias=false"],
}
LOSS_TOLERANCE = {"fp32": 2e-6, "bf16": 2e-2}  # relative; under bf16 NeMo projects the tokens in bf16
# Of later steps: AdamW turns the rounding of gradients that are zero but for it into whole steps.
LATER_TOLERANCE = {"fp32": 2e-5, "bf16": 5e-2}
CHECKED_STEPS = 3
PEAK_TFLOPS = 790.0  # bf16 matrix products of an H200, as measured; --peak-tflops for another
REGIONS = ("augment", "features", "mask", "quantize", "encode", "loss", "backward", "optimiser")


def side_process(python: str, name: str, folder: Path, threads: int) -> SideProcess:
    """Start a side, on as many threads of the CPU as asked for; 0 leaves it to torch."""
    environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    return SideProcess(name, [python, str(SIDE), name, str(folder)], folder, environment)


def main(argv: Sequence[str]) -> int:
    arguments = parse(argv)
    with tempfile.TemporaryDirectory(prefix="nest-step-") as folder:
        sides = [side_process(sys.executable, "ours", Path(folder), arguments.threads)]
        try:
            options = {
                **{
                    key: getattr(arguments, key) for key in ("batch", "seconds", "precision", "threads", "lr")
                },
                **{"device": arguments.device, "config": str(arguments.config), "seed": 0},
                **{"compile": arguments.compile, "share": arguments.nemo_python is not None},
                "overrides": [
                    *(f"model.encoder.{word}" for word in SIZES[arguments.size]),
                    *arguments.overrides,
                ],
            }
            facts = [sides[0]("build", **options)]
            if arguments.nemo_python:
                sides.append(side_process(arguments.nemo_python, "nemo", Path(folder), arguments.threads))
                facts.append(sides[1]("build", **{**options, "compile": False}))
            print_head(arguments, sides, facts)
            equal = len(sides) == 1 or compare_losses(sides, arguments.precision)
            times = timed(sides, arguments.steps, arguments.warmup)
            report(arguments, sides, times)
            return 0 if equal else 1
        finally:
            for side in sides:
                side.close()


def print_head(arguments: argparse.Namespace, sides: list[SideProcess], facts: list[dict[str, Any]]) -> None:
    where = (
        facts[0]["processor"]
        or f"{platform.processor() or platform.machine()}, {facts[0]['threads']} threads"
    )
    how = f"{arguments.precision}{' compiled' if arguments.compile else ''}"
    print(
        f"NEST {arguments.size}, {arguments.batch} x {arguments.seconds:g} s, {how}, {where}, torch "
        f"{facts[0]['torch']}"
    )
    for side, fact in zip(sides, facts, strict=True):
        print(
            f"{side.name:>5}: parameters {fact['parameters']:,}, import {fact['import_s']:.1f} s, "
            f"{fact['modules']} modules, {fact['import_mb']:.0f} MB before the model"
        )
    if len({fact["parameters"] for fact in facts}) > 1:
        raise RuntimeError("the two sides have not the same number of parameters")


def compare_losses(sides: list[SideProcess], precision: str) -> bool:
    """Optimiser steps on the same batch without dropout; True if the losses agree."""
    equal = True
    for side in sides:
        side("dropout", on=False)
    for number in range(CHECKED_STEPS):
        ours, nemo = (side("step", number=number)["loss"] for side in sides)
        difference = abs(ours / nemo - 1)
        tolerance = (LATER_TOLERANCE if number else LOSS_TOLERANCE)[precision]
        equal &= difference <= tolerance
        verdict = "ok" if difference <= tolerance else f"DIFFERS, tolerance {tolerance:.0e}"
        print(f"loss of step {number}: {ours:.6f}, NeMo {nemo:.6f}, relatively {difference:.1e} {verdict}")
    for side in sides:
        side("dropout", on=True)
    return equal


def timed(sides: list[SideProcess], steps: int, warmup: int) -> list[list[float]]:
    """Seconds per step of each side, taken in turn, the first alternating."""
    times: list[list[float]] = [[] for _ in sides]
    for number in range(warmup + steps):
        order = range(len(sides)) if number % 2 else reversed(range(len(sides)))
        for index in order:
            seconds = sides[index]("step", number=100 + number)["seconds"]
            if number >= warmup:
                times[index].append(seconds)
    return times


def report(arguments: argparse.Namespace, sides: list[SideProcess], times: list[list[float]]) -> None:
    audio_s = arguments.batch * arguments.seconds
    memory = [side("memory") for side in sides]
    for side, seconds, held in zip(sides, times, memory, strict=True):
        median = statistics.median(seconds)
        print(
            f"{side.name:>5}: {1e3 * median:.0f} ms a step ({1e3 * min(seconds):.0f} to "
            f"{1e3 * max(seconds):.0f}, {len(seconds)} steps), {audio_s / median:.1f} audio-s/s, "
            f"peak memory {held['mb']:.0f} MB ({held['what']})"
        )
    if len(sides) == 2:
        ratios = sorted(nemo / ours for ours, nemo in zip(*times, strict=True))
        print(
            f"NeMo's time / ours: median of {len(ratios)} pairs {statistics.median(ratios):.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}); our peak memory / NeMo's: "
            f"{memory[0]['mb'] / memory[1]['mb']:.2f}"
        )
    profiles = [side("profile", steps=max(2, arguments.steps // 3))["ms"] for side in sides]
    print(f"{'region, ms':<12}" + "".join(f"{side.name:>10}{'':>6}" for side in sides))
    for region in REGIONS:
        cells = (f"{p.get(region, 0.0):>10.1f}{p.get(region, 0.0) / sum(p.values()):>6.0%}" for p in profiles)
        print(f"{region:<12}" + "".join(cells))
    flops = sides[0]("flops")["flops"]
    rate = flops / statistics.median(times[0]) / 1e12
    print(f"matrix work of a step: {flops / 1e12:.3f} TFLOP, {rate:.2f} TFLOP/s", end="")
    if arguments.device.startswith("cuda"):
        print(f", {rate / arguments.peak_tflops:.1%} of {arguments.peak_tflops:g}")
        for side in sides:
            found = side("kernels")
            print(
                f"{side.name:>5}: {found['kernels']} kernels and copies, {found['device_ms']:.1f} ms a step"
            )
            for name, ms in found["longest"].items():
                print(f"       {ms:8.2f} ms  {name[:90]}")
    else:
        print()


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="small", help="[%(default)s]")
    parser.add_argument("--batch", type=int, default=4, help="utterances [%(default)s]")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each utterance [%(default)s]")
    parser.add_argument("--device", default="cpu", help="cpu or cuda [%(default)s]")
    parser.add_argument("--precision", choices=LOSS_TOLERANCE, default="fp32", help="[%(default)s]")
    parser.add_argument("--compile", action="store_true", help="our encoder through torch.compile")
    parser.add_argument("--steps", type=int, default=9, help="timed steps of each side [%(default)s]")
    parser.add_argument("--warmup", type=int, default=2, help="steps before [%(default)s]")
    parser.add_argument(
        "--threads", type=int, default=0, help="CPU threads; 0: torch's default [%(default)s]"
    )
    parser.add_argument("--lr", type=float, default=1e-4, help="constant learning rate [%(default)s]")
    parser.add_argument("--peak-tflops", type=float, default=PEAK_TFLOPS, help="of the device [%(default)s]")
    parser.add_argument("--nemo-python", help="Python of an environment with NeMo: interleave its step")
    parser.add_argument("--config", type=Path, default=ROOT / "conf" / "nest_fast-conformer.yaml")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="settings to change, as for pretrain"
    )
    arguments = parser.parse_intermixed_args(argv)
    for name in ("batch", "steps"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} {getattr(arguments, name)}: at least 1 is needed")
    return arguments


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except RuntimeError as error:
        print(f"nest_step: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
