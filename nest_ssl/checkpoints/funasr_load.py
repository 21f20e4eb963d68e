"""FunASR's weights into a model: all of them, but for sets that are named, and an account of every key."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nest_ssl.checkpoints.funasr_lora import A, lora_keys
from nest_ssl.checkpoints.funasr_weights import check_finite, read_weights
from nest_ssl.checkpoints.state import LoadAccount, listed, load_state

log = logging.getLogger(__name__)

CTC_PREFIXES = ("ctc_decoder.", "ctc.")
LLM_PREFIX = "llm."
HEAD, EMBEDDING = "llm.lm_head.weight", "llm.model.embed_tokens.weight"
SETS = ("ctc", "lora")


@dataclass(frozen=True)
class WeightsAccount:
    """What became of the weights: `load_state`'s account, and which named sets the file did not have.

    `llm_from` is the file that gave the language model where the first had none, else None.
    """

    source: str
    keys: LoadAccount
    absent: tuple[str, ...]
    llm_from: str | None = None

    def told(self) -> str:
        """One line for a reader: file, tensors and values loaded, what is missing, which sets are absent."""
        text = f"weights {self.source}: {self.keys.told()}"
        for name in self.absent:
            text += f"; no {name} weights" + (": they stay random" if name == "lora" else "")
        return text + (f"; language model from {self.llm_from}" if self.llm_from else "")


def load_weights(
    model: nn.Module,
    path: str | Path,
    allow: Collection[str] = SETS,
    llm_from: str | Path | None = None,
    tied: bool = True,
) -> WeightsAccount:
    """Copy the weights at `path` into `model` and say what became of each; all keys must be there.

    `allow` names the sets that may be absent, each as a whole: "ctc" (the caller then drops those modules),
    "lora" (adapters that training starts).  `llm_from` gives the language model where `path` has none.
    `tied`: the model's lm_head is its embedding, so a file may lack it, and must not hold another one.
    Raises ValueError before anything is copied.
    """
    state = read_weights(path)
    given = None
    if llm_from is not None and not any(key.startswith(LLM_PREFIX) for key in state):
        given = str(llm_from)
        state |= {k: v for k, v in read_weights(llm_from).items() if k.startswith(LLM_PREFIX)}
    return load_weights_state(model, state, str(path), allow, given, tied)


def load_weights_state(
    model: nn.Module,
    state: Mapping[str, Tensor],
    source: str,
    allow: Collection[str] = SETS,
    llm_from: str | None = None,
    tied: bool = True,
) -> WeightsAccount:
    """As `load_weights`, from a state dict; `source` names it in messages."""
    state = dict(state)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    wanted = list(shapes)
    if tied:
        _tie(state, source)
    _check_rank(shapes, state, source)
    absent = absent_sets(wanted, state, source, allow)
    check_finite(state, source)
    account = load_state(model, state, source, allowed_missing=_keys_of(absent, wanted), told=False)
    told = WeightsAccount(source, account, absent, llm_from)
    log.info("%s", told.told())
    return told


def absent_sets(
    wanted: Iterable[str], state: Mapping[str, Tensor], source: str, allow: Collection[str] = SETS
) -> tuple[str, ...]:
    """The named sets that `state` lacks as a whole; ValueError for keys that are missing otherwise.

    The causes that users meet have messages of their own: a checkpoint saved without the language model,
    half a CTC branch, LoRA on one side only.
    """
    wanted = set(wanted)
    missing = wanted - state.keys()
    llm = {key for key in wanted if key.startswith(LLM_PREFIX)} - set(lora_keys(wanted))
    if llm and llm <= missing:
        raise ValueError(
            f"{source} has no llm.* tensors: it was saved with train_conf.effective_save_name_excludes: "
            "[llm.], the published setting, and would decode with a random language model. Take those "
            "weights from the base (--llm-from BASE/model.pt, llm_from=), and train with "
            "++train_conf.effective_save_name_excludes=None"
        )
    absent = []
    for name, keys in (("ctc", _ctc(wanted)), ("lora", set(lora_keys(wanted)))):
        gone = keys & missing
        if not gone:
            continue
        if gone != keys:
            raise ValueError(
                f"{source} has {len(keys) - len(gone)} of the {len(keys)} {name} tensors, "
                f"{listed('missing', sorted(gone))}; a set is there or not. FunASR would leave it out "
                "without an error; take a complete file, or delete the rest of the set from this one"
            )
        if name not in allow:
            raise ValueError(f"{source} has none of the {len(keys)} {name} tensors, which are needed here")
        absent.append(name)
    odd = set(state) - wanted
    if set(lora_keys(odd)):
        raise ValueError(
            f"{source} has LoRA adapters ({listed('tensors', sorted(lora_keys(odd)))}), but "
            "llm_conf.use_lora is false, so they would be ignored: set ++llm_conf.use_lora=true with the "
            "lora_conf of that training, or fold them in with `python -m nest_ssl.bin.export --to merged`"
        )
    if _ctc(odd) and not _ctc(wanted):
        raise ValueError(
            f"{source} has {len(_ctc(odd))} CTC tensors, but the configuration has no ctc_decoder; take the "
            "config.yaml that belongs to these weights"
        )
    return tuple(absent)


def _check_rank(shapes: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor], source: str) -> None:
    """ValueError with the rank to set where adapters are of another one than the model's."""
    for key in lora_keys(state):
        shape, at = tuple(state[key].shape), 0 if key.endswith(A) else 1
        if len(shape) == 2 and key in shapes and shape[at] != shapes[key][at]:
            raise ValueError(
                f"{source}: {key} has the shape {shape}, llm_conf.lora_conf asks for {shapes[key]}; set "
                f"++llm_conf.lora_conf.r={shape[at]}, and lora_alpha, as in that training"
            )


def _tie(state: dict[str, Tensor], source: str) -> None:
    """Fill a tied lm_head from the embedding, and refuse two that differ: only one of them can be used."""
    head, embedding = state.get(HEAD), state.get(EMBEDDING)
    if embedding is not None and head is None:
        state[HEAD] = embedding
    elif embedding is None and head is not None:
        state[EMBEDDING] = head
    elif embedding is not None and head is not None and not torch.equal(head, embedding):
        raise ValueError(
            f"{source}: {HEAD} and {EMBEDDING} differ, but the language model's config.json has "
            "tie_word_embeddings: true, so one would overwrite the other; set it to false if they were "
            "trained apart"
        )


def _ctc(keys: Iterable[str]) -> set[str]:
    return {key for key in keys if key.startswith(CTC_PREFIXES)}


def _keys_of(names: Iterable[str], wanted: Iterable[str]) -> list[str]:
    sets = {"ctc": _ctc, "lora": lora_keys}
    return [key for name in names for key in sets[name](wanted)]
