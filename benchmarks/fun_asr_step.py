#!/usr/bin/env python3
"""Time a training step of Fun-ASR-Nano in each of the three stages, alone or in turn with FunASR's own.

  python benchmarks/fun_asr_step.py --part encoder --device cuda
  python benchmarks/fun_asr_step.py --part lora --device cuda --funasr-python FUNASR_ENVIRONMENT/bin/python
  python benchmarks/fun_asr_step.py --part adaptor --size tiny --batch 2 --steps 3

The released configuration (829.8 M parameters, CTC branch of 39.1 M beside it) with random weights and random
features of equally long utterances: the time does not depend on the values.  The settings of each part are
those of conf/fun_asr_nano_8k.  A step is forward, backward, clipping and AdamW; reading audio is not in it.
Each side runs in a process of its own.  With FunASR the losses of the first step without dropout are
compared (both with the language model's loss alone: FunASR has no CTC loss), then steps are timed in turn.
Exit status 1 if the losses differ, 2 if a side cannot run.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from side_process import SideProcess

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = {
    "encoder": "stage1_encoder_adapt.yaml",
    "adaptor": "stage2_adaptor_align.yaml",
    "lora": "stage3_lora_domain.yaml",
}
SECTIONS = ("audio_encoder_conf", "audio_adaptor_conf", "ctc_decoder_conf", "ctc_conf", "llm_conf")
SIZES: dict[str, dict[str, int]] = {
    "nano": {"width": 512, "heads": 4, "ffn": 2048, "blocks": 50, "tp": 20, "hidden": 1024, "layers": 28,
             "llm_heads": 16, "kv": 8, "head_dim": 128, "inner": 3072, "vocab": 151936, "ctc_vocab": 60515},
    "tiny": {"width": 32, "heads": 4, "ffn": 64, "blocks": 3, "tp": 2, "hidden": 64, "layers": 2,
             "llm_heads": 4, "kv": 2, "head_dim": 16, "inner": 128, "vocab": 600, "ctc_vocab": 300},
}  # fmt: skip
TEXT_PER_S = 3.0  # LLM tokens of Chinese speech, about; CTC units alike
PROMPT = 20  # tokens of the system message, the prompt and the turns' marks
LOSS_TOLERANCE = {"fp32": 1e-5, "bf16": 2e-2}


def configuration(size: str, folder: Path) -> dict[str, Any]:
    """The released config.yaml's architecture, or a tiny one; writes the language model's config.json."""
    n = SIZES[size]
    (folder / "llm").mkdir(parents=True, exist_ok=True)
    llm = {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": n["hidden"],
        "num_hidden_layers": n["layers"], "num_attention_heads": n["llm_heads"], "head_dim": n["head_dim"],
        "num_key_value_heads": n["kv"], "intermediate_size": n["inner"], "vocab_size": n["vocab"],
        "rope_theta": 1000000.0, "rms_norm_eps": 1e-6, "tie_word_embeddings": True, "hidden_act": "silu",
        "max_position_embeddings": 40960, "attention_bias": False, "eos_token_id": 2, "bos_token_id": 1,
    }  # fmt: skip
    (folder / "llm" / "config.json").write_text(json.dumps(llm))
    return {
        "model": "FunASRNano",
        "model_conf": {"length_normalized_loss": True},
        "audio_encoder": "SenseVoiceEncoderSmall",
        "audio_encoder_conf": {
            "output_size": n["width"], "attention_heads": n["heads"], "linear_units": n["ffn"],
            "num_blocks": n["blocks"], "tp_blocks": n["tp"], "dropout_rate": 0.1,
            "positional_dropout_rate": 0.1, "attention_dropout_rate": 0.1, "input_layer": "pe",
            "pos_enc_class": "SinusoidalPositionEncoder", "normalize_before": True, "kernel_size": 11,
            "sanm_shfit": 0, "selfattention_layer_type": "sanm",
        },
        "llm": "Qwen3-0.6b",
        "llm_conf": {"hub": "hf", "llm_dtype": "bf16", "init_param_path": str(folder / "llm")},
        "audio_adaptor": "Transformer",
        "audio_adaptor_conf": {
            "downsample_rate": 1, "use_low_frame_rate": True, "ffn_dim": n["ffn"], "llm_dim": n["hidden"],
            "encoder_dim": n["width"], "n_layer": 2,
        },
        "ctc_decoder": "Transformer",
        "ctc_decoder_conf": {
            "downsample_rate": 1, "ffn_dim": n["ffn"], "llm_dim": n["width"], "encoder_dim": n["width"],
            "n_layer": 5,
        },
        "ctc_vocab_size": n["ctc_vocab"],
        "ctc_conf": {"dropout_rate": 0.0, "ctc_type": "builtin", "reduce": True, "ignore_nan_grad": True},
        "frontend": "WavFrontend",
        "frontend_conf": {"fs": 16000, "window": "hamming", "n_mels": 80, "frame_length": 25,
                          "frame_shift": 10, "lfr_m": 7, "lfr_n": 6, "dither": 0.0},
        "tokenizer_conf": {"init_param_path": str(folder / "llm")},
        "dataset_conf": {},
    }  # fmt: skip


def synthetic_batch(batch: int, seconds: float, size: str) -> dict[str, Any]:
    """A batch by FunASR's names, of `batch` utterances of `seconds`, drawn with a fixed seed."""
    import torch

    generator = torch.Generator().manual_seed(7)
    frames = -(-(1 + int((seconds * 1000 - 25) // 10)) // 6)
    audio = frames
    for _ in range(3):
        audio = 1 + (audio - 1) // 2
    text = max(2, round(seconds * TEXT_PER_S))
    length = PROMPT + audio + text + 1
    n = SIZES[size]
    ids = torch.randint(3, n["vocab"], (batch, length), generator=generator)
    ids[:, PROMPT : PROMPT + audio] = 0
    labels = ids.clone()
    labels[:, : PROMPT + audio] = -100
    return {
        "speech": torch.randn(batch, frames, 560, generator=generator),
        "speech_lengths": torch.full((batch, 1), frames, dtype=torch.int32),
        "input_ids": ids,
        "attention_mask": torch.ones(batch, length, dtype=torch.int32),
        "labels_ids": labels,
        "fbank_beg": torch.full((batch, 1), PROMPT, dtype=torch.int32),
        "fake_token_len": torch.full((batch, 1), audio, dtype=torch.int32),
        "ctc_targets": torch.randint(0, n["ctc_vocab"] - 1, (batch, text), generator=generator),
        "ctc_target_lengths": torch.full((batch,), text),
    }


class Side:
    """One side in its own process: `ours` or `funasr`."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        import torch
        import yaml

        self.torch, self.name = torch, name
        self.device = torch.device(options["device"])
        self.bf16 = options["precision"] == "bf16"
        torch.manual_seed(0)
        if options["threads"]:
            torch.set_num_threads(options["threads"])
        self.stage = yaml.safe_load(
            (ROOT / "conf" / "fun_asr_nano_8k" / CONFIGS[options["part"]]).read_text()
        )
        config = configuration(options["size"], Path(options["folder"]) / name)
        for section in SECTIONS:
            config[section] = {**config[section], **(self.stage.get(section) or {})}
        if not self.bf16:
            config["llm_conf"]["llm_dtype"] = "fp32"
        lora = config["llm_conf"].get("lora_conf") or {}
        if not options["dropout"]:
            config["audio_encoder_conf"] |= {"dropout_rate": 0.0, "attention_dropout_rate": 0.0}
            lora["lora_dropout"] = 0.0
        with torch.device(self.device):
            model = self._ours(config, options) if name == "ours" else self._funasr(config)
        self.model = model.to(self.device)
        self._fill()
        self.model.train()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.trained = trained
        self.optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=0.0)
        self.batch = {k: v.to(self.device) for k, v in self._batch(options).items()}

    def facts(self) -> dict[str, Any]:
        torch = self.torch
        where = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        return {
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "trained": sum(p.numel() for p in self.trained),
            "torch": torch.__version__,
            "where": where if self.device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads",
            "shape": list(self.batch["speech"].shape),
        }

    def step(self, order: dict[str, Any]) -> dict[str, Any]:
        """One step; `ctc` false leaves CTC's loss away, as FunASR has none."""
        torch = self.torch
        self._settle()
        started = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss = self._loss(bool(order.get("ctc", True)))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 5.0)
        self.optimizer.step()
        self._settle()
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "loss": float(loss.detach())}

    def memory(self) -> dict[str, Any]:
        if self.device.type == "cuda":
            return {"mb": self.torch.cuda.max_memory_allocated() / 2**20, "what": "allocated on the GPU"}
        import resource

        return {"mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, "what": "resident"}

    def _loss(self, ctc: bool) -> Any:
        if self.name == "funasr":
            return self.model(**{k: v for k, v in self.batch.items() if not k.startswith("ctc")})[0].mean()
        self.model.ctc_weight = self.ctc_weight if ctc else 0.0
        loss_sum, weight, _ = self.model.training_loss(Batch(self.batch))
        return loss_sum / weight

    def _ours(self, config: dict[str, Any], options: dict[str, Any]) -> Any:
        from nest_ssl.models.fun_asr_training import FunASRNanoForTraining
        from nest_ssl.models.lora import add_lora

        model = FunASRNanoForTraining(config, None)
        if config["llm_conf"].get("use_lora"):
            add_lora(model.llm, config["llm_conf"]["lora_conf"])
        model.prepare(
            ctc_weight=float(self.stage.get("ctc_weight") or 0.0),
            ctc_detach_encoder=bool(self.stage.get("ctc_detach_encoder")),
            gradient_checkpointing=options["gradient_checkpointing"],
        )
        self.ctc_weight = model.ctc_weight
        return model

    def _funasr(self, config: dict[str, Any]) -> Any:
        for tables in ("llm_asr.adaptor", "sense_voice.model"):  # importing them fills what the model reads
            importlib.import_module(f"funasr.models.{tables}")
        from funasr.models.fun_asr_nano.model import FunASRNano

        drop = ("model", "model_conf", "ctc_decoder", "ctc_decoder_conf", "ctc_conf", "ctc_vocab_size")
        kept = {key: value for key, value in config.items() if key not in drop}
        model = FunASRNano(**kept, input_size=560, length_normalized_loss=True)
        if config["llm_conf"].get("use_lora"):
            for key, parameter in model.named_parameters():
                parameter.requires_grad_("lora_" in key)
        for parameter in model.parameters():  # as ours: what is trained is fp32
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        return model

    def _fill(self) -> None:
        """Weights that follow from the names, so that both sides have the same."""
        torch = self.torch
        with torch.no_grad():
            for key, value in self.model.state_dict().items():
                if not value.is_floating_point() or "inv_freq" in key:
                    continue
                generator = torch.Generator(self.device).manual_seed(zlib.crc32(key.encode()))
                drawn = torch.randn(value.shape, generator=generator, device=self.device)
                norm = "norm" in key and key.endswith("weight")
                value.copy_(1.0 + 0.02 * drawn if norm else 0.02 * drawn)

    def _batch(self, options: dict[str, Any]) -> dict[str, Any]:
        return synthetic_batch(options["batch"], options["seconds"], options["size"])

    def _settle(self) -> None:
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()


class Batch:
    """What training_loss reads of a batch."""

    def __init__(self, tensors: dict[str, Any]) -> None:
        self.tensors = tensors


def serve(name: str) -> int:
    """Answer orders, JSON lines, until standard input ends; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    side: Side | None = None
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if order["do"] == "build":
                side = Side(name, order)
                found = side.facts()
            else:
                assert side is not None
                found = side.step(order) if order["do"] == "step" else side.memory()
        except Exception as error:
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(found), file=answers, flush=True)
    return 0


def side_process(python: str, name: str, folder: Path) -> SideProcess:
    """Start a side, with this checkout on its path."""
    words = [python, str(Path(__file__).resolve()), "--side", name]
    path = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}".rstrip(":")
    return SideProcess(name, words, folder, {**os.environ, "PYTHONPATH": path})


def main(argv: Sequence[str]) -> int:
    arguments = parse(argv)
    if arguments.side:
        return serve(arguments.side)
    sides: list[SideProcess] = []
    with tempfile.TemporaryDirectory() as folder:
        options = {**vars(arguments), "folder": folder}
        try:
            sides.append(side_process(sys.executable, "ours", Path(folder)))
            if arguments.funasr_python:
                sides.append(side_process(arguments.funasr_python, "funasr", Path(folder)))
            equal = len(sides) == 1 or same_loss(sides, options)
            facts = [side("build", **{**options, "dropout": True}) for side in sides]
            print_head(arguments, sides, facts)
            report(arguments, sides)
            return 0 if equal else 1
        finally:
            for side in sides:
                side.close()


def same_loss(sides: list[SideProcess], options: dict[str, Any]) -> bool:
    """Compare the first loss without dropout and without CTC."""
    losses = []
    for side in sides:
        side("build", **{**options, "dropout": False})
        losses.append(side("step", ctc=False)["loss"])
    ours, theirs = losses
    difference = abs(ours / theirs - 1)
    equal = difference <= LOSS_TOLERANCE[options["precision"]]
    verdict = "ok" if equal else f"DIFFERS, tolerance {LOSS_TOLERANCE[options['precision']]:.0e}"
    print(f"first loss: {ours:.6f}, FunASR {theirs:.6f}, relatively {difference:.1e} {verdict}")
    return equal


def print_head(arguments: argparse.Namespace, sides: list[SideProcess], facts: list[dict[str, Any]]) -> None:
    rows, frames, width = facts[0]["shape"]
    print(
        f"Fun-ASR-Nano {arguments.size}, part {arguments.part}, {arguments.batch} x {arguments.seconds:g} s "
        f"({rows} x {frames} x {width}), {arguments.precision}, {facts[0]['where']}, "
        f"torch {facts[0]['torch']}"
    )
    for side, fact in zip(sides, facts, strict=True):
        print(f"{side.name:>7}: {fact['trained']:,} of {fact['parameters']:,} parameters are trained")


def report(arguments: argparse.Namespace, sides: list[SideProcess]) -> None:
    times: list[list[float]] = [[] for _ in sides]
    for number in range(arguments.warmup + arguments.steps):
        order = range(len(sides)) if number % 2 else reversed(range(len(sides)))
        for index in order:
            seconds = sides[index]("step", ctc=len(sides) == 1)["seconds"]
            if number >= arguments.warmup:
                times[index].append(seconds)
    audio = arguments.batch * arguments.seconds
    for side, seconds in zip(sides, times, strict=True):
        held, median = side("memory"), statistics.median(seconds)
        print(
            f"{side.name:>7}: {1e3 * median:.0f} ms a step ({1e3 * min(seconds):.0f} to "
            f"{1e3 * max(seconds):.0f}, {len(seconds)} steps), {audio / median:.1f} audio-s/s, peak memory "
            f"{held['mb']:.0f} MB ({held['what']})"
        )
    rate = audio / statistics.median(times[0])
    print(f"100 h of audio, once, on one such device: {100 * 3600 / rate / 3600:.2f} h of training")
    if len(sides) == 2:
        ratios = sorted(theirs / ours for ours, theirs in zip(*times, strict=True))
        print(
            f"FunASR's time / ours: median of {len(ratios)} pairs {statistics.median(ratios):.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}), both without CTC"
        )


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=CONFIGS, default="encoder", help="[%(default)s]")
    parser.add_argument("--size", choices=SIZES, default="nano", help="[%(default)s]")
    parser.add_argument("--batch", type=int, default=12, help="utterances [%(default)s]")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each utterance [%(default)s]")
    parser.add_argument("--device", default="cpu", help="cpu or cuda [%(default)s]")
    parser.add_argument("--precision", choices=LOSS_TOLERANCE, default="bf16", help="[%(default)s]")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="of our side")
    parser.add_argument("--steps", type=int, default=9, help="timed steps of each side [%(default)s]")
    parser.add_argument("--warmup", type=int, default=3, help="steps before [%(default)s]")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's default")
    parser.add_argument("--funasr-python", help="Python of an environment with FunASR: its step in turn")
    parser.add_argument("--side", choices=("ours", "funasr"), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    for name in ("batch", "steps"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} {getattr(arguments, name)}: at least 1 is needed")
    return arguments


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except RuntimeError as error:
        print(f"fun_asr_step: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
