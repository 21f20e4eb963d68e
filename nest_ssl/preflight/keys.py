"""Keys that nobody reads: misspelt ones, those FunASR never reads, those that mean nothing here."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from nest_ssl.preflight.context import Context
from nest_ssl.preflight.known_keys import SECTIONS, TOP, WAV_FRONTEND
from nest_ssl.preflight.report import Finding

# Known keys without effect: in FunASR, here, or both.
DEAD = {
    "train_conf.use_lora": "FunASR never reads it; LoRA is switched on by llm_conf.use_lora",
    "detach_ctc_decoder": None,
    "model_conf.lsm_weight": None,
    "audio_encoder_conf.feat_permute": None,
    "audio_encoder_conf.freeze_layer_num": None,
    "audio_encoder_conf.positional_dropout_rate": None,
}
REPORTED_ELSEWHERE = ("max_speech_length",)


def check_keys(context: Context) -> Iterator[Finding]:
    """Report keys that nobody reads, with the known one that is nearest."""
    config = context.config
    yield from _unknown(context, "", config, TOP.split())
    for name, known in SECTIONS.items():
        node = context.value(name)
        nest = context.value("audio_encoder") == "ConformerEncoder" and name == "audio_encoder_conf"
        if isinstance(node, Mapping) and not nest:
            yield from _unknown(context, f"{name}.", node, known.split())
    if context.value("frontend", "WavFrontend") == "WavFrontend":
        yield from _unknown(context, "frontend_conf.", context.section("frontend_conf"), WAV_FRONTEND.split())
    for key, text in DEAD.items():
        if text is not None and context.value(key):
            yield Finding(
                "error",
                "KEY.dead",
                f"{key} is {context.value(key)}",
                f"{text}.",
                "Set ++llm_conf.use_lora=true, or take --part lora.",
            )
    if any(key in context.overrides and text is None for key, text in DEAD.items()):
        named = [key for key, text in DEAD.items() if text is None and key in context.overrides]
        yield Finding(
            "warning",
            "KEY.dead",
            f"{', '.join(named)} was given",
            "The published configuration has the key, but neither FunASR's FunASRNano nor this package "
            "reads it.",
            "Leave it away.",
        )
    blank = context.value("ctc_conf.blank_id")
    if blank is not None:
        yield Finding(
            "error",
            "KEY.blank",
            f"ctc_conf.blank_id is {blank}",
            "FunASR stops with a duplicate argument; the blank is always the last class.",
            "Leave it away.",
        )
    excludes = context.value("train_conf.effective_save_name_excludes")
    if excludes not in (None, "None", []):
        yield Finding(
            "note",
            "KEY.excludes",
            f"train_conf.effective_save_name_excludes is {excludes}",
            "Under it FunASR saves checkpoints without llm.*, which then decode with a random language "
            "model. It is not honoured here: OUT/model always has all weights, and its own configuration "
            "says None.",
            'For FunASR itself give ++train_conf.effective_save_name_excludes="None".',
        )


def _unknown(context: Context, prefix: str, node: Mapping[str, Any], known: list[str]) -> Iterator[Finding]:
    for key in node:
        name = f"{prefix}{key}"
        if key in known or key in REPORTED_ELSEWHERE or str(key).startswith("nest_ssl"):
            continue
        if not prefix and key in context.base_keys and name not in context.overrides:
            continue  # a fork's own section; only what a user gives is judged at the top level
        close = difflib.get_close_matches(str(key), known, n=1, cutoff=0.7)
        elsewhere = [
            f"{section}.{key}"
            for section, keys in SECTIONS.items()
            if key in keys.split() and section + "." != prefix
        ]
        if not prefix and key in SECTIONS:
            continue
        hint = f"did you mean {prefix}{close[0]}?" if close else ""
        if elsewhere:
            hint = f"did you mean {' or '.join(elsewhere)}?"
        yield Finding(
            "error" if name in context.overrides else "warning",
            "KEY.unknown",
            f"{name}={node[key]!r} is a key that nobody reads",
            "FunASR takes any key and passes over those it does not know: the setting would have no effect.",
            (hint[:1].upper() + hint[1:])
            if hint
            else f"Remove it. Known keys: {', '.join(sorted(known)[:12])}, ...",
        )
