"""Write funasr/tiny/: a tiny random Fun-ASR-Nano, and what FunASR makes of it.

By hand, where FunASR 1.4.16 is: python -m tests.golden.make_funasr_sample tests/golden/funasr/tiny
Tests read that folder, and take `wave`, FRONTENDS and `draw_weights` from here.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

MELS, STACKED = 10, 7
CONFIG = {
    "model": "FunASRNano",
    "model_conf": {"lsm_weight": 0.1, "length_normalized_loss": True},
    "audio_encoder": "SenseVoiceEncoderSmall",
    "audio_encoder_conf": {
        "output_size": 16,
        "attention_heads": 2,
        "linear_units": 24,
        "num_blocks": 2,
        "tp_blocks": 1,
        "kernel_size": 5,
        "sanm_shfit": 1,
        "attention_dropout_rate": 0.1,
        "freeze": True,
    },
    "llm": "Qwen3-0.6b",
    "llm_conf": {"hub": "hf", "freeze": True, "llm_dtype": "fp32", "init_param_path": "Qwen3-0.6B"},
    "audio_adaptor": "Transformer",
    "audio_adaptor_conf": {
        "downsample_rate": 2,
        "use_low_frame_rate": True,
        "ffn_dim": 24,
        "llm_dim": 32,
        "encoder_dim": 16,
        "n_layer": 1,
        "freeze": True,
    },
    "ctc_decoder": "Transformer",
    "ctc_decoder_conf": {"downsample_rate": 1, "ffn_dim": 24, "llm_dim": 16, "encoder_dim": 16, "n_layer": 1},
    "ctc_vocab_size": 60,
    "ctc_conf": {"dropout_rate": 0.0, "ctc_type": "builtin", "reduce": True, "ignore_nan_grad": True},
    "frontend": "WavFrontend",
    "frontend_conf": {"fs": 8000, "n_mels": MELS, "lfr_m": STACKED, "lfr_n": 6, "dither": 0.0},
    "dataset_conf": {
        "ctc_tokenizer": "SenseVoiceTokenizer",
        "ctc_tokenizer_conf": {"vocab_path": "multilingual.tiktoken"},
    },
    "tokenizer": "HuggingfaceTokenizer",
    "tokenizer_conf": {"init_param_path": "${llm_conf.init_param_path}"},
}
LLM = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "intermediate_size": 48,
    "vocab_size": 64,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "hidden_act": "silu",
    "attention_bias": False,
    "tie_word_embeddings": True,
    "bos_token_id": 60,
    "eos_token_id": 62,
}
FRONTENDS = {
    "default": ({"fs": 16000, "lfr_m": 7, "lfr_n": 6}, 3261),
    "8k": ({"fs": 8000, "n_mels": 40, "lfr_m": 7, "lfr_n": 6}, 1630),
    "no_snip": ({"fs": 16000, "lfr_m": 5, "lfr_n": 3, "n_mels": 20, "snip_edges": False}, 2011),
    "short": ({"fs": 16000, "lfr_m": 7, "lfr_n": 6, "n_mels": 23}, 303),
    "plain": ({"fs": 16000, "window": "povey", "n_mels": 30}, 1600),
}


def wave(samples: int) -> Tensor:
    """(samples,) float32 of 16-bit steps: tones and a hum with an offset, by integers alone."""
    n = torch.arange(samples, dtype=torch.int64)
    steps = (n * n * 7 + 13 * n) % 4099 - 2049 + 900 * ((n // 40) % 2) + 57
    return steps.to(torch.float32) / 32768


def draw_weights(model: torch.nn.Module) -> None:
    """Give every parameter numbers that bf16 holds, a function of the sorted names."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in sorted(model.named_parameters()):
        drawn = torch.randn(parameter.shape, generator=generator) * (0.3 if parameter.dim() > 1 else 0.1)
        parameter.data = (drawn + float("norm" in name and "weight" in name)).bfloat16().float()


def batch() -> dict[str, Tensor]:
    """A batch as FunASR's collator makes it: two turns, one turn, text alone; padded with -1."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(1, 60, (3, 22), generator=generator)
    labels = torch.full((3, 22), -100)
    for row, spans in enumerate([[(7, 11), (17, 22)], [(9, 16)], [(3, 6)]]):
        for start, end in spans:
            labels[row, start:end] = ids[row, start:end]
    mask = torch.ones(3, 22, dtype=torch.int32)
    for row, end in ((1, 16), (2, 6)):
        ids[row, end:], labels[row, end:], mask[row, end:] = -1, -1, -1
    speech = torch.randn(3, 21, MELS * STACKED, generator=generator).bfloat16().float()
    lengths = torch.tensor([[21], [9], [17]], dtype=torch.int32)
    for row, length in enumerate(lengths[:, 0].tolist()):
        speech[row, length:] = 0
    return {
        "speech": speech,
        "speech_lengths": lengths,
        "input_ids": ids,
        "attention_mask": mask,
        "labels_ids": labels,
        "fbank_beg": torch.tensor([[2, 13], [4, -1], [-1, -1]], dtype=torch.int32),
        "fake_token_len": torch.tensor([[3, 2], [3, -1], [0, -1]], dtype=torch.int32),
    }


def frontend_outputs() -> dict[str, Tensor]:
    """`frontend.NAME`: what FunASR's WavFrontend makes of `wave`, by FRONTENDS; with CMVN too."""
    from funasr.frontends.wav_frontend import WavFrontend

    found = {}
    for name, (options, samples) in FRONTENDS.items():
        features, _ = WavFrontend(**options, dither=0.0)(wave(samples)[None], [samples])
        found[f"frontend.{name}"] = features[0]
    return found


def record(model: torch.nn.Module) -> dict[str, Tensor]:
    """`in.*`, what the parts give, loss, statistics and weight for `batch`."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, first: bool = False):
        return lambda module, inputs, output: seen.update({name: output[0] if first else output})

    model.audio_encoder.encoders0[0].register_forward_hook(keep("enc.layer0", first=True))
    model.audio_encoder.after_norm.register_forward_hook(keep("enc.after_norm"))
    model.audio_encoder.register_forward_hook(keep("encoder_out", first=True))
    model.audio_adaptor.register_forward_hook(keep("adaptor_out", first=True))
    model.llm.register_forward_hook(lambda module, inputs, output: seen.update(logits=output.logits))
    given = batch()
    inputs = {f"in.{name}": tensor.clone() for name, tensor in given.items()}
    inputs["in.speech"] = inputs["in.speech"].bfloat16()  # without loss
    with torch.no_grad():
        loss, stats, weight = model(**given)
        lengths = inputs["in.speech_lengths"][:, 0]
        seen["ctc_log_probs"] = model.ctc.log_softmax(model.ctc_decoder(seen["encoder_out"], lengths)[0])
    numbers = {f"stats.{name}": value.float() for name, value in stats.items()}
    return {**inputs, **seen, **numbers, "loss": loss, "weight": weight}


def main(folder: Path) -> None:
    """Write the model directory and the tensors."""
    import funasr.models.llm_asr.adaptor
    import funasr.models.sense_voice.model
    import funasr.tokenizer.whisper_tokenizer  # noqa: F401  (each registers a class)
    from funasr.models.fun_asr_nano.model import FunASRNano

    (folder / "Qwen3-0.6B").mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    (folder / "Qwen3-0.6B" / "config.json").write_text(json.dumps(LLM, indent=1))
    ranks = "".join(f"{base64.b64encode(bytes([i])).decode()} {i}\n" for i in range(256))
    (folder / "multilingual.tiktoken").write_text(ranks)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["llm_conf"]["init_param_path"] = str(folder / "Qwen3-0.6B")
    config["dataset_conf"]["ctc_tokenizer_conf"]["vocab_path"] = str(folder / "multilingual.tiktoken")
    model = FunASRNano(input_size=MELS * STACKED, **config["model_conf"], **config).eval()
    draw_weights(model)
    tensors = {name: value.contiguous() for name, value in {**record(model), **frontend_outputs()}.items()}
    save_file(tensors, folder / "sample.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
