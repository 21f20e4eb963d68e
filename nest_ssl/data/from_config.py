"""The sections `train_ds` and `validation_ds` of a configuration, made into a loader."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from omegaconf import DictConfig

from nest_ssl.config import resolved
from nest_ssl.data.bucket_plan import BucketPlan, bucket_batch_sizes
from nest_ssl.data.inputs import Part, open_parts, parts_of_section
from nest_ssl.data.joined import JoinedCorpus
from nest_ssl.data.keys import checked_options
from nest_ssl.data.lhotse_inputs import parts_of_lhotse
from nest_ssl.data.loader import SSLDataLoader
from nest_ssl.data.noise_batch import BatchAugmentor
from nest_ssl.data.perturb import augmentor_from_config
from nest_ssl.data.plan import BatchPlan, Selection
from nest_ssl.data.selections import Mixture, Repeated
from nest_ssl.data.ssl_dataset import AudioNoiseDataset
from nest_ssl.data.telephone_channel import telephone_from_config

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

    NeMo's keys keep their meaning; docs/training_data.md has all of them.  Beyond NeMo:
    batch_duration: seconds of padded audio in a batch (Lhotse's name); batch_size is then the most utterances
        it may hold, and may be null.
    use_bucketing: true (Lhotse's name; with use_lhotse false is the default) batches utterances of like
        length; false gives NeMo's order.
    duration_jitter: 0..1, how far from its duration an utterance may be sorted, other in every epoch.
    telephone: {mix, prob, apply_to}: telephone channels drawn anew in every epoch (telephone_channel.py).
    max_corrupt: 0 stops at the first utterance that cannot be read; N leaves out up to N of them, named in
        the log; counted by each rank from the start of the process.
    noise_failure: "error" or "zeros" where 20 noise recordings in a row cannot be read.
    prefetch_factor: batches under way per worker.
    multiprocessing_context: fork, spawn or forkserver, how workers start; null is fork on Linux, and no
        workers elsewhere whatever num_workers says.

    batch_augmentor: the object that the section's batch_augmentor describes, built by the caller.
    training: ranks get equally many batches; None means unless the section's name begins with validation or
        test.
    Raises ValueError for unknown keys, bad values and features that are not there.
    """
    values = resolved(section, name) if isinstance(section, DictConfig) else dict(section)
    options = checked_options(values, name)
    if options["batch_augmentor"] and batch_augmentor is None:
        raise ValueError(f"{name}.batch_augmentor describes an augmentor, but none was built from it")
    if training is None:
        training = not name.rpartition(".")[2].startswith(("validation", "test"))
    bins = _bin_sizes(options, name)
    if bins:  # as NeMo: what is longer than the last bin has no batch size
        options["max_duration"] = min(options["max_duration"] or bins[-1][0], bins[-1][0])
    parts = parts_of_lhotse(options, name) if options["use_lhotse"] else parts_of_section(options, name)
    least_s = (options["pad_min_duration"] or 0.0) if options["use_lhotse"] else 1.0
    dataset = AudioNoiseDataset(
        None,
        options["sample_rate"],
        corpus=open_parts(parts, options, name),
        noise_manifest=options["noise_manifest"],
        min_audio_len_secs=least_s,
        pad_mode="zero" if options["use_lhotse"] else "repeat",  # as NeMo does in either case
        trim_silence=options["trim_silence"],
        channel_selector=options["channel_selector"],
        max_corrupt=options["max_corrupt"],
        augmentor=augmentor_from_config(options["augmentor"], options["sample_rate"], f"{name}.augmentor"),
        telephone=telephone_from_config(
            options["telephone"], options["sample_rate"], seed, ("noisy", "both"), f"{name}.telephone"
        ),
        truncate_duration=options["truncate_duration"],
        truncate_offset_type=options["truncate_offset_type"],
        zeros_without_noise=options["noise_failure"] == "zeros",
        seed=seed,
        name=name,
    )
    order_seed = options["seed"] if isinstance(options["seed"], int) else seed
    copies = world_size if training and options["tarred_shard_strategy"] == "replicate" else 1
    common = {
        "shuffle": options["shuffle"],
        "use_bucketing": options["use_bucketing"],
        "duration_jitter": options["duration_jitter"],
        "quadratic_duration": options["quadratic_duration"],
        "drop_last": options["drop_last"],
        "training": training,
        "seed": order_seed,
        "rank": rank,
        "world_size": world_size,
        "name": name,
    }
    plan = _plan(dataset, parts, options, common, copies)
    return SSLDataLoader(
        dataset,
        plan,
        num_workers=options["num_workers"],
        pin_memory=options["pin_memory"],
        batch_augmentor=batch_augmentor,
        prefetch_factor=options["prefetch_factor"],
        start_method=options["multiprocessing_context"],
    )


def _plan(
    dataset: AudioNoiseDataset,
    parts: Sequence[Part],
    options: dict[str, Any],
    common: dict[str, Any],
    copies: int,
) -> BatchPlan | BucketPlan:
    """Plan the batches: plain, of a mixture of parts, or of buckets; `copies`: how often an item comes."""
    name, durations = common["name"], dataset.lengths()
    starts = (
        dataset.corpus.starts.tolist() if isinstance(dataset.corpus, JoinedCorpus) else [0, len(durations)]
    )
    selection: Selection | None = Repeated(0, len(durations), copies) if copies > 1 else None
    if options["is_concat"]:
        selection = Mixture(
            starts,
            options["concat_sampling_technique"],
            temperature=options["concat_sampling_temperature"],
            scale=options["concat_sampling_scale"] * copies,
            probabilities=options["concat_sampling_probabilities"],
            shuffle=options["concat_shuffle"],
            seed=common["seed"]
            if options["concat_sampling_seed"] is None
            else options["concat_sampling_seed"],
            name=name,
        )
    elif len(parts) > 1 and parts[0].weight is not None:
        total = sum(part.weight or 0.0 for part in parts)
        selection = Mixture(
            starts,
            "random",
            scale=copies,
            probabilities=[(part.weight or 0.0) / total for part in parts],
            seed=common["seed"],
            name=name,
        )
    if not options["use_lhotse"] and len(parts) > 1 and not options["is_concat"]:
        return _plan_of_buckets(durations, starts, options, common, copies)
    elif options["bucketing_batch_size"] is not None or options["bucketing_weights"]:
        raise ValueError(
            f"{name}.bucketing_batch_size and bucketing_weights are for buckets: a list of lists in "
            f"{name}.manifest_filepath"
        )
    return BatchPlan(
        durations,
        batch_size=options["batch_size"],
        batch_duration=options["batch_duration"],
        bin_sizes=_bin_sizes(options, name),
        selection=selection,
        **common,
    )


def _bin_sizes(options: dict[str, Any], name: str) -> list[tuple[float, int]] | None:
    """Give (seconds, utterances) of Lhotse's buckets with fixed batch sizes; None without them."""
    bins, sizes = options["bucket_duration_bins"], options["bucket_batch_size"]
    if bins is None and sizes is None:
        return None
    number = all(isinstance(edge, int | float) and not isinstance(edge, bool) for edge in bins or ())
    if not isinstance(bins, list) or not bins or not number or sorted(set(bins)) != bins:
        raise ValueError(
            f"{name}.bucket_duration_bins must be a list of ascending seconds (text does not count in "
            f"pre-training), not {bins!r}"
        )
    if sizes is None:
        return None  # use_bucketing sorts by length without edges
    whole = isinstance(sizes, list) and all(isinstance(size, int) and size >= 1 for size in sizes)
    if not whole or len(sizes) != len(bins):
        raise ValueError(
            f"{name}.bucket_batch_size must be a whole number for each of the {len(bins)} "
            f"bucket_duration_bins, not {sizes!r}"
        )
    return list(zip(bins, sizes, strict=True))


def _plan_of_buckets(
    durations: np.ndarray,
    starts: Sequence[int],
    options: dict[str, Any],
    common: dict[str, Any],
    copies: int,
) -> BucketPlan:
    """Plan NeMo's bucketing lists: each part is a bucket."""
    name, count = common["name"], len(starts) - 1
    weights = options["bucketing_weights"] or [1] * count
    whole = all(isinstance(weight, int) and not isinstance(weight, bool) and weight > 0 for weight in weights)
    if len(weights) != count or not whole:
        raise ValueError(
            f"{name}.bucketing_weights must be a whole number above 0 for each of the {count} buckets, not "
            f"{weights!r}"
        )
    sizes = bucket_batch_sizes(options["bucketing_batch_size"], count, options["batch_size"], name)
    buckets = []
    for number, (start, stop) in enumerate(pairwise(starts)):
        selection = Repeated(start, stop, weights[number] * copies)
        buckets.append(
            BatchPlan(
                durations,
                batch_size=sizes[number],
                batch_duration=options["batch_duration"],
                selection=selection,
                stream=f"bucket {number}",
                **common,
            )
        )
    return BucketPlan(buckets, options["bucketing_strategy"], name)
