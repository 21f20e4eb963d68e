"""Prompts: what training says to the model besides the audio, against what decoding says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from nest_ssl.data.prompts import DEFAULT_SYSTEM, HOTWORD_HEADER
from nest_ssl.preflight.context import Context
from nest_ssl.preflight.report import Finding, shown

# What inference can say: FunASR's templates and the English ones of its training data.
KNOWN = re.compile(
    r"语音转写(成\S{1,12}?)?(，不进行文本规整)?：|Speech transcription:|Transcribe speech into [\w ]{1,40}:"
)
HEADER = re.escape(HOTWORD_HEADER).replace(re.escape("{words}"), ".*?")
WITH_HOTWORDS = re.compile(f"(?:{HEADER})?(?:{KNOWN.pattern})", re.DOTALL)


def check_prompts(context: Context) -> Iterator[Finding]:
    """Check headers, templates and layout switches of training against inference."""
    classes = context.value(
        "dataset_conf.prompt_classes", context.value("dataset_conf.prompt.prompt_classes")
    )
    if classes not in (None, "null", "None"):
        yield Finding(
            "warning",
            "PROMPT.header",
            f"dataset_conf.prompt_classes is {classes}",
            "Every training prompt gets a header that asks to use context, also where there is none; "
            "inference without hot words has no header and with them another one. The model is trained for "
            "a prompt that it will not see.",
            "Set dataset_conf.prompt_classes=null; hot words are trained with the prompt of inference "
            "(prompt.hotwords: prompt in data preparation).",
        )
    for key, plain in (("do_think", True), ("sys_prompt", True)):
        value = context.value(f"dataset_conf.{key}", plain)
        if value is not plain:
            yield Finding(
                "warning",
                "PROMPT.layout",
                f"dataset_conf.{key} is {value}",
                "It changes the layout of every training prompt; inference with the published configuration "
                "has the other one.",
                f"Set dataset_conf.{key}={str(plain).lower()}, or use the same value in the model's "
                "config.yaml.",
            )
    for name, found in context.sets:
        prompts = Counter(row.prompt for row in found.rows if row.prompt is not None)
        strange = [prompt for prompt in prompts if not WITH_HOTWORDS.fullmatch(str(prompt).strip())]
        count = sum(prompts[prompt] for prompt in strange)
        if strange:
            yield Finding(
                "warning",
                "PROMPT.template",
                f"{count} of {len(found)} rows of the {name} set have a prompt that inference does not say: "
                f"{shown((repr(prompt)[:60] for prompt in strange), 2)}",
                "The model learns to answer that prompt; inference says 语音转写：, "
                "语音转写成LANGUAGE：, with ，不进行文本规整 where ITN is off, or Speech transcription:.",
                "Write the prompts of inference (data preparation does), or decode with the same prompt.",
            )
        systems = Counter(
            turn["content"]
            for row in found.rows
            for turn in row.line.get("messages", ())[:1]
            if turn["role"] == "system"
        )
        other = [text for text in systems if text != DEFAULT_SYSTEM]
        if other:
            yield Finding(
                "warning",
                "PROMPT.system",
                f"{sum(systems[text] for text in other)} rows of the {name} set have the system message "
                f"{other[0][:60]!r}",
                f"Inference says {DEFAULT_SYSTEM!r}.",
                "Take the default system message, or leave the turn away.",
            )
    yield from _differing(context)


def _differing(context: Context) -> Iterator[Finding]:
    """Compare the prompts of training and validation."""
    if not (context.train and context.valid):
        return
    trained = {row.prompt for row in context.training.rows if row.prompt is not None}
    valid = Counter(row.prompt for row in context.validation.rows if row.prompt is not None)
    unseen = [prompt for prompt in valid if prompt not in trained]
    if trained and unseen:
        yield Finding(
            "warning",
            "PROMPT.validation",
            f"{sum(valid[prompt] for prompt in unseen)} validation rows have a prompt that no training row "
            f"has: {shown((repr(prompt)[:60] for prompt in unseen), 2)}",
            "The monitored metric would measure how the model takes an unknown prompt.",
            "Write both sets with the same prompt settings.",
        )
