"""Learning-rate schedules as pure functions of the optimiser step, with NeMo's and FunASR's names and curves.

There is no scheduler state to save: a resumed run computes its rate from its step and its configuration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nest_ssl.config import check_arguments

Schedule = Callable[[int], float]


def build_schedule(
    sched: Mapping[str, Any] | None, base_lr: float, max_steps: int, name: str = "model.optim.sched"
) -> Schedule:
    """Give `step -> lr` (0-based optimiser step) for a NeMo `optim.sched` section; None keeps `base_lr`.

    max_steps: optimiser steps of the whole run; a `max_steps` key of the section wins, as in NeMo.  name: of
    the section, for messages.
    Raises ValueError for an unknown name or key, and for warmup_steps together with warmup_ratio.
    """
    if not sched:
        return lambda step: base_lr
    arguments = dict(sched)
    kind = arguments.pop("name", None)
    if kind not in SCHEDULES:
        raise ValueError(f"{name}.name: {kind!r} is not one of {', '.join(SCHEDULES)}")
    for key, value in arguments.items():
        if key not in (*WITHOUT_EFFECT, "phase_ratio") and value is not None and not _is_number(value):
            raise ValueError(f"{name}.{key}: {value!r} is not a number")
    arguments["max_steps"] = arguments.get("max_steps") or max_steps
    arguments["warmup_steps"] = _warmup_steps(
        arguments.pop("warmup_steps", None), arguments.pop("warmup_ratio", None), arguments["max_steps"], name
    )
    for ignored in WITHOUT_EFFECT:
        arguments.pop(ignored, None)
    if kind == "tri_stage":
        del arguments["warmup_steps"]  # its phases are shares of the run
    check_arguments(SCHEDULES[kind], {"base_lr": base_lr, **arguments}, name)
    return SCHEDULES[kind](base_lr=base_lr, **arguments)


def noam_annealing(
    base_lr: float, d_model: int, max_steps: int, warmup_steps: int, min_lr: float = 0.0
) -> Schedule:
    """Vaswani et al. 2017 (arXiv 1706.03762), section 5.3, times base_lr; steps 0 and 1 have the same rate.

    Peak: base_lr * d_model**-0.5 * warmup_steps**-0.5.  max_steps has no effect.  min_lr holds after
    warm-up only.
    """
    if base_lr < min_lr:
        raise ValueError(f"model.optim.lr {base_lr} is below model.optim.sched.min_lr {min_lr}")
    scale = base_lr * d_model**-0.5

    def rate(step: int) -> float:
        step = max(1, step)
        if warmup_steps == 0:
            return max(scale * step**-0.5, min_lr)
        lr = scale * min(step**-0.5, step * warmup_steps**-1.5)
        return max(lr, min_lr) if step > warmup_steps else lr

    return rate


def cosine_annealing(
    base_lr: float, max_steps: int, warmup_steps: int, min_lr: float = 0.0, constant_steps: int = 0
) -> Schedule:
    """Half a cosine from base_lr to min_lr after a linear warm-up.

    constant_steps > 0 is NeMo's Megatron variant: the warm-up starts at 0, and min_lr is held for the last
    constant_steps.
    """

    def rate(step: int) -> float:
        if warmup_steps and step <= warmup_steps:
            return base_lr * (step / warmup_steps if constant_steps else (step + 1) / (warmup_steps + 1))
        decay_steps = max_steps - warmup_steps - constant_steps
        done = step - warmup_steps
        if step > max_steps or done > decay_steps:
            return min_lr
        return min_lr + 0.5 * (base_lr - min_lr) * (1 + math.cos(math.pi * done / decay_steps))

    return rate


def inverse_square_root_annealing(
    base_lr: float, max_steps: int, warmup_steps: int, min_lr: float = 0.0
) -> Schedule:
    """base_lr / sqrt((step + 1) / (warmup_steps + 1)) after a linear warm-up; min_lr after max_steps."""

    def rate(step: int) -> float:
        if warmup_steps and step <= warmup_steps:
            return base_lr * (step + 1) / (warmup_steps + 1)
        if step > max_steps:
            return min_lr
        return base_lr / math.sqrt((step + 1) / (warmup_steps + 1))

    return rate


def warmup_policy(base_lr: float, max_steps: int, warmup_steps: int, min_lr: float = 0.0) -> Schedule:
    """Linear warm-up, then base_lr until max_steps, then min_lr."""

    def rate(step: int) -> float:
        if warmup_steps and step <= warmup_steps:
            return base_lr * (step + 1) / (warmup_steps + 1)
        return min_lr if step > max_steps else base_lr

    return rate


def warmup_lr(base_lr: float, max_steps: int, warmup_steps: int) -> Schedule:
    """FunASR's WarmupLR: base_lr is the peak, reached at update `warmup_steps`, then 1/sqrt(update).

    The first update already has base_lr / warmup_steps.  max_steps has no effect.
    """
    if warmup_steps < 1:
        raise ValueError(f"scheduler_conf.warmup_steps: {warmup_steps!r} must be at least 1 for warmuplr")

    def rate(step: int) -> float:
        update = step + 1
        return base_lr * warmup_steps**0.5 * min(update**-0.5, update * warmup_steps**-1.5)

    return rate


def noam_lr(base_lr: float, max_steps: int, warmup_steps: int, model_size: float = 320) -> Schedule:
    """FunASR's NoamLR: base_lr * model_size**-0.5 * min(n**-0.5, n * warmup_steps**-1.5) at update n."""
    peak = warmup_lr(1.0, max_steps, warmup_steps)
    scale = base_lr * model_size**-0.5 * warmup_steps**-0.5
    return lambda step: scale * peak(step)


def tri_stage(
    base_lr: float,
    max_steps: int,
    phase_ratio: Sequence[float] = (0.1, 0.4, 0.5),
    init_lr_scale: float = 0.01,
    final_lr_scale: float = 0.01,
) -> Schedule:
    """FunASR's TriStageLR: linear warm-up, a plateau at base_lr, exponential decay; then the last rate.

    phase_ratio: the three phases' shares of max_steps, with the sum 1.  Its own trainer never initialises it;
    here max_steps is the run's.
    """
    if len(phase_ratio) != 3 or abs(sum(phase_ratio) - 1) > 1e-6:
        raise ValueError(f"scheduler_conf.phase_ratio: {list(phase_ratio)!r} must be 3 shares with the sum 1")
    warm, hold, decay = (int(max_steps * share) for share in phase_ratio)
    first = init_lr_scale * base_lr
    factor = -math.log(final_lr_scale) / max(decay, 1)

    def rate(step: int) -> float:
        update = step + 1
        if update < warm:
            return first + (base_lr - first) / warm * update
        if update - warm < hold:
            return base_lr
        if update - warm - hold <= decay:
            return base_lr * math.exp(-factor * (update - warm - hold))
        return base_lr * final_lr_scale

    return rate


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "NoamAnnealing": noam_annealing,
    "CosineAnnealing": cosine_annealing,
    "InverseSquareRootAnnealing": inverse_square_root_annealing,
    "WarmupPolicy": warmup_policy,
    "warmuplr": warmup_lr,
    "noamlr": noam_lr,
    "tri_stage": tri_stage,
}


WITHOUT_EFFECT = ("last_epoch", "monitor", "reduce_on_plateau")  # Lightning's, on these curves


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _warmup_steps(steps: int | None, ratio: float | None, max_steps: int, name: str) -> int:
    if steps is not None and ratio is not None:
        raise ValueError(
            f"{name}: warmup_steps ({steps}) and warmup_ratio ({ratio}) exclude each other; set one to null"
        )
    if ratio is not None:
        return int(ratio * max_steps)
    return steps or 0
