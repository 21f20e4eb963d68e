"""The section dataset_conf: FunASR's keys, ours beside them, and what each becomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nest_ssl.config import suggestion

SAMPLERS = ("plan", "funasr")
TOKEN_MAX = ("split", "drop")
BATCH_TYPES = ("example", "token")
PROMPT_CLASSES = ("MultiContextPrompt",)
CHECKS = ("error", "warn", "off")

# Keys that count here and their values where the section has none.
DEFAULTS: dict[str, Any] = {
    "batch_type": "token",
    "batch_size": None,
    "batch_size_sample_max": None,
    "batch_size_token_max": None,
    "sort_size": -1,
    "shuffle": True,
    "drop_last": False,
    "max_token_length": None,
    "max_source_length": None,
    "min_source_length": 10,
    "max_target_length": None,
    "data_split_num": 1,
    "num_workers": 0,
    "prefetch_factor": 2,
    "pin_memory": False,
    "retry": 100,
    "prompt_classes": None,
    "prompt_conf": None,
    "sys_prompt": True,
    "do_think": True,
    "multiturn_num_max": 5,
    "use_dynamic_output_ratio": 0.0,
    "min_mask_token_len": 1,
    "min_non_mask_token_len": 6,
    "ctc_target_normalize": True,
    # Ours, which FunASR ignores.
    "nest_ssl_sampler": "plan",
    "batch_duration": None,
    "duration_jitter": 0.03,
    "token_max": "split",
    "length": None,
    "prompt": None,
    "max_corrupt": 0,
    "check_lengths": "error",
    "channel_selector": None,
    "cache_mb": 256,
    "spec_augment": None,
    "speed": None,
    "telephone": None,
    "multiprocessing_context": None,
}
# FunASR's defaults in its code, for nest_ssl_sampler: funasr; ours leave no row out unless asked.
FUNASR_DEFAULTS = {
    "batch_type": "example",
    "batch_size_sample_max": 200,
    "batch_size_token_max": 2500,
    "max_target_length": 2048,
}
# FunASR's keys that say what the model says already, or that nothing reads.
WITHOUT_EFFECT = (
    "index_ds",
    "batch_sampler",
    "batch_size_scale_ratio_max",
    "batch_size_scale_threshold",
    "audio_adaptor_downsample_rate",
    "audio_encoder_downsample_rate",
    "audio_downsample_rate",
    "ctc_tokenizer",
    "ctc_tokenizer_conf",
    "min_target_length",
    "data_split_i",
    "is_training",
    "persistent_workers",
    "sos",
    "eos",
    "save_meta",
)
ONLY_OFF = (
    "preprocessor_speech",
    "preprocessor_speech_conf",
    "preprocessor_noise",
    "preprocessor_noise_conf",
)
COUNTED = {  # whole numbers and the least that they may be
    "batch_size": 1, "batch_size_sample_max": 1, "batch_size_token_max": 1, "sort_size": -1,
    "max_token_length": 1, "max_source_length": 1, "min_source_length": 0, "max_target_length": 1,
    "data_split_num": 1, "num_workers": 0, "prefetch_factor": 1, "retry": 1, "multiturn_num_max": 1,
    "min_mask_token_len": 0, "min_non_mask_token_len": 0, "max_corrupt": 0,
}  # fmt: skip
CHOICES = {
    "nest_ssl_sampler": SAMPLERS,
    "token_max": TOKEN_MAX,
    "batch_type": BATCH_TYPES,
    "check_lengths": CHECKS,
}


def dataset_options(section: Mapping[str, Any] | None, name: str = "dataset_conf") -> dict[str, Any]:
    """Give all options of a dataset_conf; ValueError names the key that is unknown or has a wrong value."""
    values = dict(section or {})
    known = [*DEFAULTS, *WITHOUT_EFFECT, *ONLY_OFF]
    for key, value in values.items():
        if key == "max_speech_length":
            raise ValueError(
                f"{name}.max_speech_length is read nowhere in FunASR and not here: max_source_length limits "
                f"10-ms frames, {name}.length: {{seconds: {{max: 30}}}} seconds"
            )
        if key not in known:
            raise ValueError(f"{name}.{key} is no option of the data; {suggestion(str(key), known)}")
        if key in ONLY_OFF and value:
            raise ValueError(
                f"{name}.{key}={value!r} is not supported; telephone, speed and spec_augment change audio"
            )
    given = {key: value for key, value in values.items() if key in DEFAULTS and value is not None}
    options = DEFAULTS | (FUNASR_DEFAULTS if given.get("nest_ssl_sampler") == "funasr" else {}) | given
    for key, choices in CHOICES.items():
        if options[key] not in choices:
            raise ValueError(f"{name}.{key} is one of {', '.join(choices)}, not {options[key]!r}")
    for key, value in options.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if key in COUNTED and value is not None and (not whole or value < COUNTED[key]):
            raise ValueError(f"{name}.{key} must be a whole number of at least {COUNTED[key]}, not {value!r}")
        if isinstance(DEFAULTS[key], bool) and not isinstance(value, bool):
            raise ValueError(f"{name}.{key} must be true or false, not {value!r}")
    for key, low, high in (
        ("use_dynamic_output_ratio", 0, 1),
        ("duration_jitter", 0, 0.999),
        ("batch_duration", 1e-3, float("inf")),
        ("cache_mb", 0, float("inf")),
    ):
        value = options[key]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and (not number or not low <= value <= high):
            raise ValueError(f"{name}.{key} must be a number from {low:g} to {high:g}, not {value!r}")
    if options["prompt_classes"] not in (None, *PROMPT_CLASSES):
        raise ValueError(
            f"{name}.prompt_classes is {PROMPT_CLASSES[0]} or null, not {options['prompt_classes']!r}"
        )
    if options["token_max"] == "drop" and options["batch_size_token_max"] is None:
        raise ValueError(f"{name}.token_max: drop needs {name}.batch_size_token_max")
    if options["batch_size"] is None and options["batch_duration"] is None:
        raise ValueError(
            f"{name}.batch_size must be given (10-ms frames + LLM tokens, with batch_type example samples), "
            f"or batch_duration in seconds"
        )
    return options
