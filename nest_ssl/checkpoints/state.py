"""Weights into a module, with an account of every key."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nest_ssl.files.tensors import separate

log = logging.getLogger(__name__)

SHOWN = 5  # keys named in a message before the rest is only counted


@dataclass(frozen=True)
class LoadAccount:
    """What became of the keys: loaded from the source, kept as they were (missing there), left unread.

    `excluded` are the source's keys that were not asked for, `untouched` the module's; `values` is the
    number of elements loaded.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    excluded: tuple[str, ...] = ()
    untouched: tuple[str, ...] = ()
    values: int = 0

    def __str__(self) -> str:
        text = f"loaded {len(self.loaded)} missing {len(self.missing)} unexpected {len(self.unexpected)}"
        return f"{text} excluded {len(self.excluded)}" if self.excluded else text

    def told(self) -> str:
        """The account for a reader: counts, the first keys of what did not fit, the parts not asked for."""
        parts = [f"loaded {len(self.loaded)} tensors ({self.values:,} values)"]
        for what, keys in (("missing", self.missing), ("unexpected", self.unexpected)):
            parts.append(listed(what, keys) or f"0 {what}")
        for what, keys in (("excluded", self.excluded), ("of the model not asked for", self.untouched)):
            names = dict.fromkeys(key.split(".")[0] for key in keys)
            parts.append(f"{len(keys)} {what}" + (f" ({', '.join(names)})" if names else ""))
        return "; ".join(parts)


def load_state(
    module: nn.Module,
    state: Mapping[str, Tensor],
    source: str,
    allowed_missing: Iterable[str] = (),
    allowed_unexpected: Iterable[str] = (),
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    told: bool = True,
) -> LoadAccount:
    """Copy `state` into `module`; keys and shapes must fit, but for keys that start with an allowed prefix.

    `include` and `exclude` choose among the keys of both sides as NeMo does, by parts of the name: one of
    `include` must be in it (none given: all are taken), none of `exclude`.  `source` names the file in
    messages.  told: log the counts; False for a caller that says more itself.  Tensors are cast to the
    module's dtypes.  Raises ValueError, before anything is copied, with counts and the first keys of each
    kind.
    """
    allowed_missing, allowed_unexpected = tuple(allowed_missing), tuple(allowed_unexpected)
    include, exclude = tuple(include), tuple(exclude)

    def asked_for(key: str) -> bool:
        return (not include or any(part in key for part in include)) and not any(p in key for p in exclude)

    wanted = module.state_dict()
    loaded = [key for key in wanted if key in state and asked_for(key)]
    account = LoadAccount(
        loaded=tuple(loaded),
        missing=tuple(key for key in wanted if key not in state and asked_for(key)),
        unexpected=tuple(key for key in state if key not in wanted and asked_for(key)),
        excluded=tuple(key for key in state if not asked_for(key)),
        untouched=tuple(key for key in wanted if not asked_for(key)),
        values=sum(wanted[key].numel() for key in loaded),
    )
    misshaped = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in loaded
        if state[key].shape != wanted[key].shape
    ]
    problems = [
        listed("missing", [key for key in account.missing if not key.startswith(allowed_missing)]),
        listed("unexpected", [key for key in account.unexpected if not key.startswith(allowed_unexpected)]),
        listed("of another shape", misshaped),
    ]
    problems = [problem for problem in problems if problem]
    if problems:
        raise ValueError(f"{source} does not fit the model ({account}): {'; '.join(problems)}")
    with torch.no_grad():
        for key in loaded:
            wanted[key].copy_(state[key])
    if told:
        log.info("weights %s %s", source, account)
    return account


def portable_state(module: nn.Module) -> dict[str, Tensor]:
    """The module's state dict, ready to be written (see `separate`)."""
    return separate(module.state_dict())


def listed(what: str, keys: Iterable[str]) -> str:
    """The number of keys, what they are, and the first of them; nothing for none."""
    keys = list(keys)
    if not keys:
        return ""
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return f"{len(keys)} {what}: {', '.join(keys[:SHOWN])}{more}"


def tensors_digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Give a digest of names and bits, in the order of the names."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(tensors, key=lambda item: item[0]):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
