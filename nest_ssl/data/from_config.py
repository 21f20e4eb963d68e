"""The sections `train_ds` and `validation_ds` of a configuration: NeMo's keys, honoured or refused."""

from __future__ import annotations

import logging
import math
import multiprocessing
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from nest_ssl.config import resolved, suggestion
from nest_ssl.data.loader import SSLDataLoader
from nest_ssl.data.noise_batch import BatchAugmentor
from nest_ssl.data.plan import DURATION_JITTER, BatchPlan
from nest_ssl.data.ssl_dataset import AudioNoiseDataset

# Key -> its default; manifest_filepath and sample_rate have none.  The last block is ours or Lhotse's.
HONOURED: dict[str, Any] = {
    "manifest_filepath": None,
    "sample_rate": None,
    "noise_manifest": None,
    "batch_size": None,
    "shuffle": False,
    "num_workers": 0,
    "pin_memory": False,
    "drop_last": False,
    "min_duration": None,
    "max_duration": None,
    "trim_silence": False,
    "channel_selector": None,
    "batch_augmentor": None,
    "batch_duration": None,
    "use_bucketing": True,
    "duration_jitter": DURATION_JITTER,
    "prefetch_factor": 2,
    "multiprocessing_context": None,
    "max_corrupt": 0,
}
# Features that are not there: accepted only with the values that leave them off.
ONLY_OFF: dict[str, tuple[Any, ...]] = {
    "is_tarred": (False, None),
    "tarred_audio_filepaths": (None, "", []),
    "is_concat": (False, None),
    "use_lhotse": (False, None),
    "input_cfg": (None,),
    "bucketing_batch_size": (None,),
    "bucketing_weights": (None,),
    "augmentor": (None, {}),
    "int_values": (False, None),
    "max_utts": (0, None),
    "shard_manifests": (False, None),
}
# Options of those features (of no effect while they are off), and keys that NeMo's SSL data ignores as well.
WITHOUT_EFFECT = (
    "concat_sampling_technique",
    "concat_sampling_temperature",
    "concat_sampling_scale",
    "concat_sampling_probabilities",
    "concat_sampling_seed",
    "concat_shuffle",
    "concat_num_samples",
    "shuffle_n",
    "tarred_shard_strategy",
    "bucketing_strategy",
    "use_start_end_token",
    "labels",
    "parser",
    "normalize_transcripts",
    "return_sample_id",
)

log = logging.getLogger(__name__)


def ssl_data_from_config(
    section: Mapping[str, Any],
    *,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    batch_augmentor: BatchAugmentor | None = None,
    name: str = "model.train_ds",
    training: bool | None = None,
) -> SSLDataLoader:
    """Build dataset, plan and loader from a section; `name` is its dotted key, for messages.

    NeMo's keys keep their meaning.  Beyond NeMo:
    batch_duration: seconds of padded audio in a batch (Lhotse's name); batch_size is then the most utterances
        it may hold, and may be null.
    use_bucketing: true (Lhotse's name, there false) batches utterances of like length; false gives NeMo's
        order.
    duration_jitter: 0..1, how far from its duration an utterance may be sorted, other in every epoch.
    max_corrupt: 0 stops at the first utterance that cannot be read; N leaves out up to N of them, named in
        the log; counted by each rank from the start of the process.
    prefetch_factor: batches under way per worker.
    multiprocessing_context: fork, spawn or forkserver, how workers start; null is fork on Linux, and no
        workers elsewhere whatever num_workers says.

    batch_augmentor: the object that the section's batch_augmentor describes, built by the caller.
    training: ranks get equally many batches; None means unless the section's name begins with validation or
        test.
    Raises ValueError for unknown keys, bad values and features that are not there.
    """
    values = resolved(section, name) if isinstance(section, DictConfig) else dict(section)
    _check_keys(values, name)
    options = HONOURED | {key: value for key, value in values.items() if key in HONOURED}
    _check_values(options, name)
    if options["batch_augmentor"] and batch_augmentor is None:
        raise ValueError(f"{name}.batch_augmentor describes an augmentor, but none was built from it")
    if training is None:
        training = not name.rpartition(".")[2].startswith(("validation", "test"))
    dataset = AudioNoiseDataset(
        options["manifest_filepath"],
        options["sample_rate"],
        noise_manifest=options["noise_manifest"],
        min_duration=options["min_duration"],
        max_duration=options["max_duration"],
        trim_silence=options["trim_silence"],
        channel_selector=options["channel_selector"],
        max_corrupt=options["max_corrupt"],
        seed=seed,
        name=name,
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
    return SSLDataLoader(
        dataset,
        plan,
        num_workers=options["num_workers"],
        pin_memory=options["pin_memory"],
        batch_augmentor=batch_augmentor,
        prefetch_factor=options["prefetch_factor"],
        start_method=options["multiprocessing_context"],
    )


def _check_keys(values: Mapping[str, Any], name: str) -> None:
    known = [*HONOURED, *ONLY_OFF, *WITHOUT_EFFECT]
    for key, value in values.items():
        if key not in known:
            raise ValueError(f"{name}.{key} is no option of the data; {suggestion(str(key), known)}")
        if key in ONLY_OFF and value not in ONLY_OFF[key]:
            off = "null" if ONLY_OFF[key][0] is None else str(ONLY_OFF[key][0]).lower()
            raise ValueError(f"{name}.{key}={value!r} is not supported; set it to {off}")
    for key in ("manifest_filepath", "sample_rate"):
        if values.get(key) in (None, "", [], "???"):
            raise ValueError(f"{name}.{key} must be given")


def _check_values(options: dict[str, Any], name: str) -> None:
    """Check types and ranges; null means the default, where there is one."""
    for key, value in options.items():
        if value is None and HONOURED[key] is not None:
            options[key] = value = HONOURED[key]
        if value is None:
            continue
        if key in ("shuffle", "pin_memory", "drop_last", "trim_silence", "use_bucketing"):
            good, wanted = isinstance(value, bool), "true or false"
        elif key in ("sample_rate", "batch_size", "prefetch_factor"):
            good, wanted = _whole(value) and value >= 1, "a whole number of at least 1"
        elif key in ("num_workers", "max_corrupt"):
            good, wanted = _whole(value) and value >= 0, "a whole number of at least 0"
        elif key in ("batch_duration", "min_duration", "max_duration", "duration_jitter"):
            good = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
            wanted = "a number"
        elif key == "multiprocessing_context":
            good = value in (methods := multiprocessing.get_all_start_methods())
            wanted = f"null or one of {', '.join(methods)}"
        else:
            continue
        if not good:
            raise ValueError(f"{name}.{key} must be {wanted}, not {value!r}")
    low, high = options["min_duration"], options["max_duration"]
    if low is not None and high is not None and low > high:
        raise ValueError(f"{name}.min_duration {low} is above {name}.max_duration {high}")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
