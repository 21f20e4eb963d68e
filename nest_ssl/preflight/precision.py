"""Number formats and ranks: weights too coarse for the learning rate, parameters without gradient."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from nest_ssl.preflight.context import Context
from nest_ssl.preflight.report import Finding, shown

COARSE_BELOW = 1e-4  # learning rate at which a bf16 weight of 0.02 no longer moves in most steps
HALF = {torch.bfloat16: "bf16", torch.float16: "fp16"}


def check_precision(context: Context) -> Iterator[Finding]:
    """Check the format of the trainable weights against the learning rate, and of the device."""
    rate = _rate(context)
    if context.model is not None:
        trained = [(n, p) for n, p in context.model.named_parameters() if p.requires_grad and p.dtype in HALF]
        if trained:
            name = HALF[trained[0][1].dtype]
            yield Finding(
                "error" if rate is not None and rate < COARSE_BELOW else "warning",
                "PREC.trainable",
                f"{len(trained)} trainable tensors are {name} at lr {rate}: {shown(n for n, _ in trained)}",
                "A bf16 number has 8 bits: a step below half of the last one is rounded away. At lr 1e-5 "
                "AdamW moves only 17 % of weights of the size 0.02 in 100 steps, in fp32 all of them.",
                "Keep trainable weights in fp32 (llm_conf.llm_dtype=fp32) under bf16 autocast "
                "(train_conf.use_bf16=true).",
            )
    if _coarse(context) and rate is not None and rate < COARSE_BELOW:
        yield Finding(
            "note",
            "PREC.trainable",
            f"llm_conf.llm_dtype is {context.value('llm_conf.llm_dtype')} and lr is {rate}",
            "FunASR trains LoRA adapters and the language model in that format, where most steps at such a "
            "rate are rounded away. Here trainable weights are kept in fp32.",
        )
    bf16 = bool(context.value("train_conf.use_bf16", False))
    if bool(context.value("train_conf.use_fp16", False)):
        yield Finding(
            "error",
            "PREC.fp16",
            "train_conf.use_fp16 is true",
            "fp16 needs loss scaling; bf16 has the range of fp32 and does not.",
            "Set train_conf.use_bf16=true in its place.",
        )
    if bf16 and context.device.type == "cpu":
        yield Finding(
            "warning",
            "PREC.cpu",
            "train_conf.use_bf16 is true on a CPU",
            "Most CPUs emulate bf16: slower than fp32, not faster.",
            "Set train_conf.use_bf16=false.",
        )
    if bf16 and context.device.type == "cuda" and not torch.cuda.is_bf16_supported():
        yield Finding(
            "error",
            "PREC.cuda",
            f"train_conf.use_bf16 is true, {torch.cuda.get_device_name(context.device)} has no bf16",
            "GPUs have bf16 from the generation Ampere on.",
            "Set train_conf.use_bf16=false.",
        )


def check_frozen(context: Context) -> Iterator[Finding]:
    """Say what happens to the dropout of frozen modules, and check that they are told apart."""
    model = context.model
    if model is None:
        return
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        yield Finding(
            "error",
            "STAGE.nothing",
            "no parameter is trainable",
            "Every freeze key is true (audio_encoder_conf, audio_adaptor_conf, llm_conf; ctc_decoder_conf), "
            "and LoRA is off.",
            "Set --part encoder, adaptor, lora or all, or the freeze key of what is to be trained to false.",
        )
        return
    frozen = [
        name
        for name, module in model.named_children()
        if any(True for _ in module.parameters())
        and not any(parameter.requires_grad for parameter in module.parameters())
        and any(isinstance(inner, torch.nn.Dropout) and inner.p > 0 for inner in module.modules())
    ]
    if frozen:
        yield Finding(
            "note",
            "STAGE.dropout",
            f"frozen modules with dropout: {', '.join(frozen)}",
            "FunASR's model.train() switches their dropout on again; the stages here keep frozen modules in "
            "evaluation mode.",
        )


def check_ranks(context: Context) -> Iterator[Finding]:
    """Find parameters that get no gradient, which several ranks must know of."""
    weight = context.value("ctc_weight", 0.0) if "ctc_weight" in context.config else 0.0
    unused = _unused(context, float(weight or 0.0))
    if not unused:
        return
    looked_for = context.value("train_conf.find_unused_parameters", None)
    several = context.world_size > 1
    yield Finding(
        "error" if several and looked_for is False else "note",
        "DDP.unused",
        f"{len(unused)} trainable tensors get no gradient: {shown(unused)} (world size {context.world_size}, "
        f"find_unused_parameters {looked_for})",
        "FunASR has no CTC loss, and its CTC head has no freeze switch: on several GPUs with "
        "find_unused_parameters=false it stops at step 2 with 'Expected to have finished reduction in the "
        "prior iteration'.",
        "Set ctc_weight > 0 to train them, or leave them frozen; for FunASR ++freeze_param=ctc_decoder,ctc "
        "or ++train_conf.find_unused_parameters=true.",
    )


def _unused(context: Context, ctc_weight: float) -> list[str]:
    if ctc_weight > 0:
        return []
    if context.model is not None:
        named = context.model.named_parameters()
        return [n for n, p in named if p.requires_grad and n.startswith(("ctc.", "ctc_decoder."))]
    frozen = str(context.value("freeze_param", "")).replace(" ", "").split(",")
    names = [n for n in context.shapes if n.startswith("ctc.") and "ctc" not in frozen]
    if not context.value("ctc_decoder_conf.freeze", False) and "ctc_decoder" not in frozen:
        names += [n for n in context.shapes if n.startswith("ctc_decoder.")]
    return names if context.part is None else []


def _coarse(context: Context) -> bool:
    """True where FunASR would train the language model, or its adapters, in a half format."""
    trained = context.part in ("lora", "all") or bool(context.value("llm_conf.use_lora", False))
    return trained and context.value("llm_conf.llm_dtype") in ("bf16", "fp16")


def _rate(context: Context) -> float | None:
    rate = context.value("optim_conf.lr")
    return float(rate) if isinstance(rate, int | float) and not isinstance(rate, bool) else None
