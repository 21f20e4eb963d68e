"""The `_target_` names of configurations that this room can build."""

from __future__ import annotations

from nest_ssl.losses.ssl_losses.contrastive import ContrastiveLoss
from nest_ssl.losses.ssl_losses.mlm import MLMLoss, MultiMLMLoss

_NEMO = "nemo.collections.asr.losses"

TARGETS: dict[str, type] = {
    name: cls
    for cls, file in ((MLMLoss, "mlm"), (MultiMLMLoss, "mlm"), (ContrastiveLoss, "contrastive"))
    for name in (
        f"{_NEMO}.{cls.__name__}",
        f"{_NEMO}.ssl_losses.{cls.__name__}",
        f"{_NEMO}.ssl_losses.{file}.{cls.__name__}",
        f"{cls.__module__}.{cls.__name__}",
    )
}
