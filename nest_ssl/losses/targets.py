"""The `_target_` names of configurations that this room can build."""

from __future__ import annotations

from nest_ssl.losses.ssl_losses.mlm import MLMLoss, MultiMLMLoss

_NEMO = "nemo.collections.asr.losses"

TARGETS: dict[str, type] = {
    name: cls
    for cls in (MLMLoss, MultiMLMLoss)
    for name in (
        f"{_NEMO}.{cls.__name__}",
        f"{_NEMO}.ssl_losses.{cls.__name__}",
        f"{_NEMO}.ssl_losses.mlm.{cls.__name__}",
        f"{cls.__module__}.{cls.__name__}",
    )
}
