"""One side of the benchmark in a process of its own: takes orders as JSON lines, answers likewise.

python side.py {ours,nemo} FOLDER
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

OWN = {"nest_ssl", "train_step"}

# In place of this folder, whose nemo.py would be taken for NeMo.
sys.path[:1] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]


class Process:
    """Builds the side on `build`, then steps, profiles and counts."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.side: Any = None

    def build(self, **options: Any) -> dict[str, Any]:
        started = time.perf_counter()
        module = importlib.import_module(f"train_step.{self.name}")
        torch = importlib.import_module("torch")
        if self.name == "nemo":
            importlib.import_module("nemo.collections.asr.models.ssl_models")
        imported_s, imported_mb = time.perf_counter() - started, peak_mb()
        modules, packages = len(sys.modules), third_party(sys.modules)
        from train_step.inputs import speech_like

        if options["threads"]:
            torch.set_num_threads(options["threads"])
        self.side = module.Side(self.folder, options)
        self.tensors = speech_like(options["batch"], options["seconds"], options["seed"])
        self.dropouts = {
            layer: layer.p for layer in self.side.model.modules() if isinstance(layer, torch.nn.Dropout)
        }
        parameters = sum(p.numel() for p in self.side.model.parameters())
        return {
            "parameters": parameters,
            "import_s": imported_s,
            "import_mb": imported_mb,
            "modules": modules,
            "packages": len(packages),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "processor": torch.cuda.get_device_name() if self.side.device.type == "cuda" else "",
        }

    def dropout(self, on: bool) -> dict[str, Any]:
        """Both sides draw dropout in another order: losses are compared without."""
        for layer, share in self.dropouts.items():
            layer.p = share if on else 0.0
        return {}

    def step(self, number: int) -> dict[str, Any]:
        now = self.side.regions.now
        started = now()
        self.side.step(self.tensors, number)
        seconds = now() - started
        return {"seconds": seconds, "loss": self.side.loss_value()}

    def profile(self, steps: int) -> dict[str, Any]:
        self.side.regions.active = True
        for number in range(steps):
            self.side.step(self.tensors, number)
        self.side.regions.active = False
        return {"ms": {name: ms / steps for name, ms in self.side.profile().items()}}

    def memory(self) -> dict[str, Any]:
        import torch

        if self.side.device.type == "cuda":
            return {"mb": torch.cuda.max_memory_allocated() / 1e6, "what": "allocated on the device"}
        return {"mb": peak_mb(), "what": "resident, the whole process"}

    def flops(self) -> dict[str, Any]:
        from train_step.regions import flops_of

        return {"flops": flops_of(lambda: self.side.step(self.tensors, 0))}

    def kernels(self) -> dict[str, Any]:
        from train_step.regions import kernels_of

        return kernels_of(lambda: self.side.step(self.tensors, 0))


def third_party(loaded: Iterable[str]) -> set[str]:
    """Top-level names among `loaded` modules that are neither Python's nor this checkout's."""
    names = {name.split(".")[0] for name in loaded}
    return {n for n in names - set(sys.stdlib_module_names) - OWN if not n.startswith("_")}


def peak_mb() -> float:
    """The most memory that this process has held, in MB of 10^6 bytes."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    except (OSError, IndexError):
        import resource

        return (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            * (1 if sys.platform == "darwin" else 1024)
            / 1e6
        )


def main() -> None:
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what libraries print goes elsewhere
    process = Process(sys.argv[1], Path(sys.argv[2]))
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = getattr(process, order.pop("do"))(**order)
        except Exception as error:
            import traceback

            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {str(error)[:400]}"}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
