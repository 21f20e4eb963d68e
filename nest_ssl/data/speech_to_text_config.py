"""The sections `train_ds` and `validation_ds` of a CTC configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from omegaconf import DictConfig

from nest_ssl.config import resolved, suggestion
from nest_ssl.data.plan import DURATION_JITTER, BatchPlan
from nest_ssl.data.speech_to_text import SpeechToTextDataset, SpeechToTextLoader, TextEncoder
from nest_ssl.data.telephone_channel import telephone_from_config
from nest_ssl.text.tokenizer import unknown_characters

INFEASIBLE = "text longer than the encoder's frames"
SHOWN_IDS = 20
SHOWN_CHARACTERS = 10

DEFAULTS: dict[str, Any] = {
    "manifest_filepath": None,
    "sample_rate": None,
    "batch_size": None,
    "batch_duration": None,
    "shuffle": False,
    "num_workers": 0,
    "pin_memory": False,
    "drop_last": False,
    "min_duration": None,
    "max_duration": None,
    "trim_silence": False,
    "channel_selector": None,
    "use_bucketing": True,
    "duration_jitter": DURATION_JITTER,
    "prefetch_factor": 2,
    "telephone": None,
    "max_corrupt": 0,
}
# NeMo's keys that change nothing here, and those that may only say that they are off.
WITHOUT_EFFECT = (
    "use_start_end_token",
    "shuffle_n",
    "bucketing_strategy",
    "labels",
    "parser",
    "return_sample_id",
)
ONLY_OFF = (
    "is_tarred",
    "tarred_audio_filepaths",
    "is_concat",
    "use_lhotse",
    "bucketing_batch_size",
    "augmentor",
)

log = logging.getLogger(__name__)


def speech_to_text_from_config(
    section: Mapping[str, Any],
    encoder: TextEncoder,
    *,
    seed: int,
    frames_short: Callable[[SpeechToTextDataset], np.ndarray] | None = None,
    rank: int = 0,
    world_size: int = 1,
    name: str = "model.train_ds",
) -> SpeechToTextLoader:
    """Build dataset, plan and loader from a section; `name` is its dotted key, for messages.

    Keys mean what they mean in pre-training (data/from_config.py).  frames_short: gives (N,) bool, True for
    utterances that have too few frames for their text; they are left out and named in the log.  Raises
    ValueError for unknown keys, bad values, features that are not there, and a tokenizer of another language.
    """
    values = resolved(section, name) if isinstance(section, DictConfig) else dict(section)
    options = _checked(values, name)
    training = not name.rpartition(".")[2].startswith(("validation", "test"))
    dataset = SpeechToTextDataset(
        options["manifest_filepath"],
        options["sample_rate"],
        encoder,
        min_duration=options["min_duration"],
        max_duration=options["max_duration"],
        trim_silence=options["trim_silence"],
        channel_selector=options["channel_selector"],
        max_corrupt=options["max_corrupt"],
        telephone=telephone_from_config(
            options["telephone"], options["sample_rate"], seed, ("audio",), f"{name}.telephone"
        ),
        seed=seed,
        name=name,
    )
    _name_unknown_characters(dataset, rank)
    if training and frames_short is not None:
        ids = dataset.leave_out(frames_short(dataset), INFEASIBLE)
        if ids and rank == 0:
            more = f" and {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else ""
            log.warning(
                "%s: %d left out, %s: %s%s", name, len(ids), INFEASIBLE, ", ".join(ids[:SHOWN_IDS]), more
            )
    plan = BatchPlan(
        dataset.lengths(),
        batch_size=options["batch_size"],
        batch_duration=options["batch_duration"],
        shuffle=options["shuffle"],
        use_bucketing=options["use_bucketing"],
        duration_jitter=options["duration_jitter"],
        drop_last=options["drop_last"],
        training=training,
        seed=seed,
        rank=rank,
        world_size=world_size,
        name=name,
    )
    return SpeechToTextLoader(
        dataset,
        plan,
        num_workers=options["num_workers"],
        pin_memory=options["pin_memory"],
        prefetch_factor=options["prefetch_factor"],
    )


def _name_unknown_characters(dataset: SpeechToTextDataset, rank: int) -> None:
    """Warn of characters that the tokenizer does not have; ValueError if most characters are such."""
    unknown = dataset.encoder.unknown_id
    texts = [dataset.texts[i] for i in dataset.items if unknown in dataset.tokens[i]]
    if not texts:
        return
    counts = unknown_characters(dataset.encoder, texts)
    named = ", ".join(f"{character!r} {count}" for character, count in counts.most_common(SHOWN_CHARACTERS))
    message = (
        f"{dataset.name}: {len(texts)} of {len(dataset)} texts have characters that the tokenizer does not "
        f"have, which a model cannot learn to write: {named}"
    )
    characters = sum(len(dataset.texts[i].replace(" ", "")) for i in dataset.items)
    if 2 * counts.total() > characters:
        raise ValueError(f"{message}; python -m nest_ssl.bin.tokenizer makes a tokenizer of these texts")
    if rank == 0:
        log.warning("%s; model.text_normalization or another tokenizer helps", message)


def _checked(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    known = [*DEFAULTS, *WITHOUT_EFFECT, *ONLY_OFF]
    for key, value in values.items():
        if key not in known:
            raise ValueError(f"{name}.{key} is no option of the data; {suggestion(str(key), known)}")
        if key in ONLY_OFF and value not in (None, False, "", [], {}):
            raise ValueError(f"{name}.{key}={value!r} is not supported for CTC; set it to null")
    options = DEFAULTS | {k: v for k, v in values.items() if k in DEFAULTS and v is not None}
    for key in ("manifest_filepath", "sample_rate"):
        if options[key] in (None, "", [], "???"):
            raise ValueError(f"{name}.{key} must be given")
    for key, value in options.items():
        default = DEFAULTS[key]
        if isinstance(default, bool) and not isinstance(value, bool):
            raise ValueError(f"{name}.{key} must be true or false, not {value!r}")
        whole = isinstance(value, int) and not isinstance(value, bool)
        least = 0 if key in ("num_workers", "max_corrupt") else 1
        counted = ("sample_rate", "batch_size", "num_workers", "prefetch_factor", "max_corrupt")
        if key in counted and value is not None and (not whole or value < least):
            raise ValueError(f"{name}.{key} must be a whole number of at least {least}, not {value!r}")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if key.endswith("duration") and value is not None and not number:
            raise ValueError(f"{name}.{key} must be a number of seconds, not {value!r}")
    return options
