"""The keys of `train_ds` and `validation_ds`: each is honoured, of no effect, or refused with a sentence."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Mapping
from typing import Any

from nest_ssl.config import suggestion
from nest_ssl.data.bucket_plan import STRATEGIES
from nest_ssl.data.lhotse_inputs import SOURCES
from nest_ssl.data.plan import DURATION_JITTER

# Key -> its default; None also where it has none.
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
    "max_utts": 0,
    "trim_silence": False,
    "channel_selector": None,
    "augmentor": None,
    "batch_augmentor": None,
    "is_tarred": False,
    "tarred_audio_filepaths": None,
    "tarred_shard_strategy": "scatter",
    "bucketing_strategy": "synced_randomized",
    "bucketing_batch_size": None,
    "bucketing_weights": None,
    "is_concat": False,
    "concat_sampling_technique": "temperature",
    "concat_sampling_temperature": 5,
    "concat_sampling_scale": 1,
    "concat_sampling_probabilities": None,
    "concat_shuffle": True,
    "concat_sampling_seed": None,
    # with use_lhotse
    "use_lhotse": False,
    "input_cfg": None,
    "cuts_path": None,
    "shar_path": None,
    "seed": None,
    "bucket_duration_bins": None,
    "bucket_batch_size": None,
    "quadratic_duration": None,
    "truncate_duration": None,
    "truncate_offset_type": "random",
    "pad_min_duration": None,
    # Lhotse's names, of effect without it too
    "batch_duration": None,
    "use_bucketing": None,
    # ours
    "duration_jitter": DURATION_JITTER,
    "prefetch_factor": 2,
    "multiprocessing_context": None,
    "telephone": None,
    "max_corrupt": 0,
    "noise_failure": "error",
}
LHOTSE_ONLY = (
    *(source for source in SOURCES if source not in ("manifest_filepath", "tarred_audio_filepaths")),
    "bucket_duration_bins",
    "bucket_batch_size",
    "truncate_duration",
    "pad_min_duration",
)
IN_TEXT = "the choice is by text, which pre-training does not read: filter the manifest"
BEFOREHAND = "prepare the audio beforehand (python -m nest_ssl.bin.simulate)"
# Key -> the values that leave it off, and what to do in its place.
ONLY_OFF: dict[str, tuple[tuple[Any, ...], str]] = {
    "use_dali": ((False, None), "features are computed by the model, on its device"),
    "multi_config": ((False, None), "name the data of all in one input_cfg with weights"),
    "use_multimodal_sampling": ((False, None), "pre-training reads audio alone"),
    "batch_tokens": ((None,), "give batch_duration, seconds"),
    "token_equivalent_duration": ((None,), "give batch_duration, seconds"),
    "quadratic_factor": ((None,), "give quadratic_duration, seconds"),
    "prompt_format": ((None,), "pre-training reads audio alone"),
    "audio_locator_tag": ((None,), "pre-training reads audio alone"),
    "min_tokens": ((None,), IN_TEXT),
    "max_tokens": ((None,), IN_TEXT),
    "min_tps": ((-1, None), IN_TEXT),
    "max_tps": ((math.inf, None), IN_TEXT),
    "min_tpt": ((-1, None), IN_TEXT),
    "max_tpt": ((math.inf, None), IN_TEXT),
    "max_cer": ((math.inf, None), IN_TEXT),
    "min_context_speaker_similarity": ((-1, None), IN_TEXT),
    "keep": (("pass", None), "filter the manifest"),
    "noise_path": ((None,), "name the noise in noise_manifest; batch_augmentor sets its level"),
    "perturb_speed": ((False, None), "use augmentor: {speed: {prob: 1.0, num_rates: 3}}"),
    "concatenate_samples": ((False, None), "join recordings beforehand"),
    "cut_into_windows_duration": ((None,), "cut beforehand (lhotse cut), or set truncate_duration"),
    "rir_enabled": ((False, None), BEFOREHAND),
    "lowpass_enabled": ((False, None), BEFOREHAND),
    "compression_enabled": ((False, None), BEFOREHAND),
    "clipping_enabled": ((False, None), BEFOREHAND),
    "metadata_only": ((False, None), "batches need audio"),
    "pad_direction": (("right", None), "zeros are added behind the audio"),
}
# NeMo's options of how it streams and shuffles (order and resume are exact here without them), options of
# what ONLY_OFF holds off, and keys that NeMo's SSL data ignores as well.
WITHOUT_EFFECT = (
    "shuffle_n", "shard_manifests", "defer_setup", "int_values", "use_start_end_token", "labels",
    "parser", "normalize_transcripts", "return_sample_id", "concat_num_samples", "num_buckets",
    "num_cuts_for_bins_estimate", "bucket_buffer_size", "shuffle_buffer_size", "concurrent_bucketing",
    "bucketing_2d_strict_mode", "shard_seed", "max_open_streams", "cuda_expandable_segments",
    "tarred_random_access", "skip_missing_manifest_entries", "force_finite", "force_map_dataset",
    "force_iterable_dataset", "slice_length", "sampler_fusion", "sampler_weights", "pretokenize",
    "measure_total_length", "text_field", "lang_field", "keep_excessive_supervisions", "noise_snr",
    "noise_mix_prob", "concatenate_gap_seconds", "concatenate_duration_factor",
    "concatenate_merge_supervisions", "db_norm", "cut_into_windows_hop", "rir_path", "rir_prob",
    "lowpass_frequencies_interval", "lowpass_prob", "compression_prob", "compression_level_interval",
    "compression_codecs", "compression_codec_weights", "compression_enable_for_custom_fields",
    "unk_index", "blank_index", "clipping_gain_db", "clipping_normalize", "clipping_oversampling",
    "clipping_prob_hard", "clipping_prob",
)  # fmt: skip

TRUTHS = ("shuffle", "pin_memory", "drop_last", "trim_silence", "use_bucketing", "is_tarred", "is_concat",
          "concat_shuffle", "use_lhotse")  # fmt: skip
FROM_ONE = ("sample_rate", "batch_size", "prefetch_factor")
FROM_ZERO = ("num_workers", "max_corrupt", "max_utts", "concat_sampling_seed")
NUMBERS = ("batch_duration", "min_duration", "max_duration", "duration_jitter", "quadratic_duration")
POSITIVE = ("truncate_duration", "pad_min_duration")
CHOICES = {
    "tarred_shard_strategy": ("scatter", "replicate"),
    "bucketing_strategy": STRATEGIES,
    "truncate_offset_type": ("random", "start", "end"),
    "noise_failure": ("error", "zeros"),
}


def checked_options(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Give every honoured option with its value or default; ValueError names the key that is not right."""
    known = [*HONOURED, *ONLY_OFF, *WITHOUT_EFFECT]
    for key, value in values.items():
        if key not in known:
            raise ValueError(f"{name}.{key} is no option of the data; {suggestion(str(key), known)}")
        if key in ONLY_OFF and value not in ONLY_OFF[key][0]:
            off = "null" if ONLY_OFF[key][0][0] is None else str(ONLY_OFF[key][0][0]).lower()
            raise ValueError(f"{name}.{key}={value!r} is not supported, set it to {off}: {ONLY_OFF[key][1]}")
    options = {key: default if values.get(key) is None else values[key] for key, default in HONOURED.items()}
    if options["use_bucketing"] is None:
        options["use_bucketing"] = options["use_lhotse"] is not True
    for key, value in options.items():
        if value is not None:
            _check_value(key, value, name)
    if options["sample_rate"] is None:
        raise ValueError(f"{name}.sample_rate must be given")
    if not options["use_lhotse"]:
        if options["manifest_filepath"] in (None, "", [], "???"):
            raise ValueError(f"{name}.manifest_filepath must be given")
        for key in LHOTSE_ONLY:
            if options[key] is not None:
                raise ValueError(f"{name}.{key} is given, but {name}.use_lhotse is not true")
    low, high = options["min_duration"], options["max_duration"]
    if low is not None and high is not None and low > high:
        raise ValueError(f"{name}.min_duration {low} is above {name}.max_duration {high}")
    return options


def _check_value(key: str, value: Any, name: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    good, wanted = True, ""
    if key in TRUTHS:
        good, wanted = isinstance(value, bool), "true or false"
    elif key in FROM_ONE:
        good, wanted = whole and value >= 1, "a whole number of at least 1"
    elif key in FROM_ZERO:
        good, wanted = whole and value >= 0, "a whole number of at least 0"
    elif key in NUMBERS:
        good, wanted = number, "a number"
    elif key in POSITIVE:
        good, wanted = number and 0 < value < math.inf, "a positive number of seconds"
    elif key in CHOICES:
        good, wanted = value in CHOICES[key], f"one of {', '.join(CHOICES[key])}"
    elif key == "seed":
        good = whole or value in ("trng", "randomized")
        wanted = "a whole number (or trng or randomized, which mean the run's seed)"
    elif key == "multiprocessing_context":
        methods = multiprocessing.get_all_start_methods()
        good, wanted = value in methods, f"null or one of {', '.join(methods)}"
    if not good:
        raise ValueError(f"{name}.{key} must be {wanted}, not {value!r}")
