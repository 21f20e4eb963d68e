"""Where a step spends its time: methods of objects are wrapped by a clock."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch


class Regions:
    """Seconds by region.  `time_of` wraps; what runs inside another region counts to that one too, so
    `exclusive` takes the inner ones away.  On CUDA every boundary waits for the device: profile apart."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self.active = False

    def time_of(self, owner: Any, method: str, region: str) -> None:
        """Count what `owner.method(...)` takes, from now on."""
        setattr(owner, method, self.timed(getattr(owner, method), region))

    def timed(self, work: Callable[..., Any], region: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not self.active:
                return work(*args, **kwargs)
            started = self.now()
            try:
                return work(*args, **kwargs)
            finally:
                self.seconds[region] += self.now() - started

        return call

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def exclusive(self, inside: dict[str, tuple[str, ...]]) -> dict[str, float]:
        """Seconds of each region less those of the regions `inside` it."""
        return {
            name: seconds - sum(self.seconds.get(inner, 0.0) for inner in inside.get(name, ()))
            for name, seconds in self.seconds.items()
        }


def flops_of(work: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products, convolutions and attention kernels in `work`,
    backward included (a multiplication and an addition are two)."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def kernels_of(work: Callable[[], Any]) -> dict[str, Any]:
    """CUDA kernels and copies that `work` starts, and the longest of them: {name: ms}."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiler:
        work()
        torch.cuda.synchronize()
    on_device = [event for event in profiler.events() if event.device_type == DeviceType.CUDA]
    longest: dict[str, float] = defaultdict(float)
    for event in on_device:
        longest[event.name] += event.device_time_total / 1e3
    top = sorted(longest.items(), key=lambda pair: -pair[1])[:12]
    return {"kernels": len(on_device), "device_ms": sum(longest.values()), "longest": dict(top)}
