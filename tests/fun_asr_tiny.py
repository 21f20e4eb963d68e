"""A tiny Fun-ASR model directory in the published layout, and a corpus of synthetic speech, from nothing.

The model is random (a function of the seed), its text units are the 256 bytes: one byte is one token of the
language model and one unit of the CTC tokenizer.
"""

from __future__ import annotations

import base64
import json
import math
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from torch import Tensor

from nest_ssl.modules.conformer_encoder import ConformerEncoder

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
ENDOFTEXT, IM_START, IM_END = (256, 257, 258)
LLM_VOCAB = 256 + 8  # padded beyond the last token, as Qwen3's table is
CTC_VOCAB = 256 + 1679 + 1  # bytes, SenseVoice's special tokens, blank
WIDTH, LLM_WIDTH, HEAD = 16, 32, 16  # of the encoder, of the language model, of one of its heads
MEL = {"n_mels": 80, "frame_length": 25, "frame_shift": 10}
CTC_PREFIXES = ("ctc_decoder.", "ctc.")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
LETTER_S = 0.2  # of sound per letter: three frames of 60 ms


class Corpus(NamedTuple):
    """The same utterances as a plain manifest and as FunASR's messages."""

    manifest: Path
    jsonl: Path


def make_model_dir(
    path: Path,
    encoder: str = "sanm",
    ctc: bool = True,
    seed: int = 0,
    configuration: bool = True,
    wrapped: bool = True,
) -> Path:
    """Write a complete model directory; `encoder` is sanm or conformer (80 ms frames).

    `ctc` false leaves the CTC tensors away as the Hugging Face file does, `configuration` false
    configuration.json, `wrapped` false the "state_dict" around the weights.
    """
    path = Path(path)
    qwen = path / "Qwen3-0.6B"
    qwen.mkdir(parents=True)
    (path / "config.yaml").write_text(
        yaml.safe_dump(model_config(encoder), sort_keys=False, allow_unicode=True), encoding="utf-8"
    )
    if configuration:
        (path / "configuration.json").write_text(json.dumps(CONFIGURATION, indent=1), encoding="utf-8")
    ranks = "".join(f"{base64.b64encode(bytes([n])).decode()} {n}\n" for n in range(256))
    (path / "multilingual.tiktoken").write_text(ranks, encoding="utf-8")
    (qwen / "config.json").write_text(json.dumps(QWEN, indent=1), encoding="utf-8")
    (qwen / "tokenizer.json").write_text(json.dumps(_tokenizer()), encoding="utf-8")
    (qwen / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG), encoding="utf-8")
    state = model_state(encoder, seed)
    if not ctc:
        state = {key: value for key, value in state.items() if not key.startswith(CTC_PREFIXES)}
    torch.save({"state_dict": state} if wrapped else state, path / "model.pt")
    return path


def make_corpus(path: Path, n: int, seed: int = 0, sample_rate: int = 16000, prefix: str = "tiny") -> Corpus:
    """Write `n` utterances of three to six letters, each letter a tone of its own in faint noise.

    Rows: audio_filepath, duration, text, lang, utt_id; messages with the prompt `Speech transcription:`.
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    rows, lines = [], []
    for number in range(n):
        letters = generator.choice(len(LETTERS), size=3 + number % 4, replace=False)
        text = "".join(LETTERS[letter] for letter in letters)
        samples = _spoken(letters, sample_rate, generator)
        file = path / f"{prefix}{number:03d}.wav"
        with wave.open(str(file), "wb") as out:
            out.setparams((1, 2, sample_rate, len(samples), "NONE", ""))
            out.writeframes(samples.tobytes())
        duration_s = len(samples) / sample_rate
        common = {"audio_filepath": str(file), "duration": duration_s, "text": text}
        rows.append({**common, "lang": "en", "utt_id": file.stem})
        lines.append(message(file.stem, file, text, duration_s))
    corpus = Corpus(path / f"{prefix}.manifest.jsonl", path / f"{prefix}.messages.jsonl")
    for target, content in zip(corpus, (rows, lines), strict=True):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in content)
        target.write_text(text, encoding="utf-8")
    return corpus


def message(key: str, file: Path, text: str, duration_s: float) -> dict[str, Any]:
    """One of FunASR's training lines; a byte is a token here, so text_length is a number of bytes."""
    user = f"Speech transcription:<|startofspeech|>!{file}<|endofspeech|>"
    turns = [("system", "You are a helpful assistant."), ("user", user), ("assistant", text)]
    return {
        "key": key,
        "messages": [{"role": role, "content": content} for role, content in turns],
        "speech_length": math.floor((duration_s * 1000 - 25) / 10) + 1,
        "text_length": len(text.encode()),
    }


def model_config(encoder: str = "sanm") -> dict[str, Any]:
    """The configuration with the published keys, tiny widths, no dither."""
    if encoder == "sanm":
        front = {"audio_encoder": "SenseVoiceEncoderSmall", "audio_encoder_conf": dict(SANM)}
        sound = {"fs": 16000, "window": "hamming", **MEL, "lfr_m": 7, "lfr_n": 6, "dither": 0.0}
        frontend = {"frontend": "WavFrontend", "frontend_conf": {**sound, "cmvn_file": None}}
    else:
        front = {"audio_encoder": "ConformerEncoder", "audio_encoder_conf": {**CONFORMER, "freeze": True}}
        frontend = {"frontend": "AudioToMelSpectrogramPreprocessor", "frontend_conf": dict(MELS)}
    return {
        "model": "FunASRNano",
        "model_conf": {"lsm_weight": 0.1, "length_normalized_loss": True},
        **front,
        **LLM,
        **ADAPTOR,
        **CTC,
        **frontend,
        **TRAINING,
    }


def model_state(encoder: str = "sanm", seed: int = 0) -> dict[str, Tensor]:
    """All weights of the model in fp32: the published names, `llm.lm_head.weight` stored although tied."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    if encoder == "sanm":
        for key, shape in _sanm():
            state[f"audio_encoder.{key}"] = _drawn(key, shape, generator)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            built = ConformerEncoder(**CONFORMER).state_dict()
        state |= {f"audio_encoder.{key}": value.clone() for key, value in built.items()}
    for key, shape in _qwen():
        state[f"llm.{key}"] = _drawn(key, shape, generator)
    state["llm.lm_head.weight"] = state["llm.model.embed_tokens.weight"].clone()
    adaptor, decoder = ADAPTOR["audio_adaptor_conf"], CTC["ctc_decoder_conf"]
    for name, conf in (("audio_adaptor", adaptor), ("ctc_decoder", decoder)):
        for key, shape in _transformer(
            conf["encoder_dim"], conf["ffn_dim"], conf["llm_dim"], conf["n_layer"]
        ):
            state[f"{name}.{key}"] = _drawn(key, shape, generator)
    for key, shape in _linear("ctc_lo", WIDTH, CTC_VOCAB):
        state[f"ctc.{key}"] = _drawn(key, shape, generator)
    return state


def _drawn(key: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if "norm" in key:
        return torch.ones(shape) if key.endswith("weight") else torch.zeros(shape)
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else 100
    return torch.randn(shape, generator=generator) / math.sqrt(fan_in)


def _linear(name: str, inputs: int, outputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _sanm() -> Iterator[tuple[str, tuple[int, ...]]]:
    layers = [("encoders0.0", 560), *((f"encoders.{n}", WIDTH) for n in range(SANM["num_blocks"] - 1))]
    layers += [(f"tp_encoders.{n}", WIDTH) for n in range(SANM["tp_blocks"])]
    for name, inputs in layers:
        yield from _linear(f"{name}.self_attn.linear_out", WIDTH, WIDTH)
        yield from _linear(f"{name}.self_attn.linear_q_k_v", inputs, 3 * WIDTH)
        yield f"{name}.self_attn.fsmn_block.weight", (WIDTH, 1, SANM["kernel_size"])
        yield from _linear(f"{name}.feed_forward.w_1", WIDTH, SANM["linear_units"])
        yield from _linear(f"{name}.feed_forward.w_2", SANM["linear_units"], WIDTH)
        yield from _norm(f"{name}.norm1", inputs)
        yield from _norm(f"{name}.norm2", WIDTH)
    yield from _norm("after_norm", WIDTH)
    yield from _norm("tp_norm", WIDTH)


def _transformer(inputs: int, hidden: int, width: int, layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _linear("linear1", inputs, hidden)
    yield from _linear("linear2", hidden, width)
    for n in range(layers):
        for part in ("linear_q", "linear_k", "linear_v", "linear_out"):
            yield from _linear(f"blocks.{n}.self_attn.{part}", width, width)
        yield from _linear(f"blocks.{n}.feed_forward.w_1", width, width // 4)
        yield from _linear(f"blocks.{n}.feed_forward.w_2", width // 4, width)
        yield from _norm(f"blocks.{n}.norm1", width)
        yield from _norm(f"blocks.{n}.norm2", width)


def _qwen() -> Iterator[tuple[str, tuple[int, ...]]]:
    queries, keys = QWEN["num_attention_heads"] * HEAD, QWEN["num_key_value_heads"] * HEAD
    yield "model.embed_tokens.weight", (LLM_VOCAB, LLM_WIDTH)
    for n in range(QWEN["num_hidden_layers"]):
        layer = f"model.layers.{n}"
        for part, outputs in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
            yield f"{layer}.self_attn.{part}.weight", (outputs, LLM_WIDTH)
        yield f"{layer}.self_attn.o_proj.weight", (LLM_WIDTH, queries)
        for part in ("q_norm", "k_norm"):
            yield f"{layer}.self_attn.{part}.weight", (HEAD,)
        for part in ("gate_proj", "up_proj"):
            yield f"{layer}.mlp.{part}.weight", (QWEN["intermediate_size"], LLM_WIDTH)
        yield f"{layer}.mlp.down_proj.weight", (LLM_WIDTH, QWEN["intermediate_size"])
        for part in ("input_layernorm", "post_attention_layernorm"):
            yield f"{layer}.{part}.weight", (LLM_WIDTH,)
    yield "model.norm.weight", (LLM_WIDTH,)


def _tokenizer() -> dict[str, Any]:
    """A byte-level tokenizer without merges: the id of a byte is its value."""
    printable = [n for n in range(256) if 33 <= n <= 126 or 161 <= n <= 172 or 174 <= n <= 255]
    others = [n for n in range(256) if n not in printable]
    shown = {n: chr(n) for n in printable} | {n: chr(256 + place) for place, n in enumerate(others)}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [
        {"id": 256 + n, "content": content, **flags, "special": n < 3} for n, content in enumerate(SPECIALS)
    ]
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {**model, "vocab": {shown[n]: n for n in range(256)}, "merges": []},
    }


def _spoken(letters: np.ndarray, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """int16 samples: per letter a tone with one overtone, faded in and out, and noise 40 dB below."""
    length = round(LETTER_S * sample_rate)
    time_s = np.arange(length) / sample_rate
    envelope = np.sin(np.pi * np.arange(length) / length)
    pitches = [200.0 * 1.13 ** int(letter) for letter in letters]
    tones = [np.sin(2 * np.pi * hz * time_s) + 0.3 * np.sin(4 * np.pi * hz * time_s) for hz in pitches]
    silence = np.zeros(round(0.05 * sample_rate))
    sound = np.concatenate([silence, *(envelope * tone for tone in tones), silence])
    noisy = 0.3 * sound + 0.002 * generator.standard_normal(len(sound))
    return np.round(noisy * 32767).astype("<i2")


SANM: dict[str, Any] = {
    "output_size": WIDTH,
    "attention_heads": 2,
    "linear_units": 32,
    "num_blocks": 2,
    "tp_blocks": 1,
    "dropout_rate": 0.1,
    "positional_dropout_rate": 0.1,
    "attention_dropout_rate": 0.1,
    "kernel_size": 11,
    "sanm_shfit": 0,
    "input_layer": "pe",
    "pos_enc_class": "SinusoidalPositionEncoder",
    "normalize_before": True,
    "selfattention_layer_type": "sanm",
    "feat_permute": True,
    "freeze": True,
    "freeze_layer_num": -1,
}
CONFORMER: dict[str, Any] = {
    "feat_in": 80,
    "n_layers": 2,
    "d_model": WIDTH,
    "n_heads": 2,
    "subsampling": "dw_striding",
    "subsampling_factor": 8,
    "subsampling_conv_channels": 8,
    "ff_expansion_factor": 2,
    "conv_kernel_size": 9,
}
MELS = {
    "sample_rate": 16000,
    "normalize": "per_feature",
    "window_size": 0.025,
    "window_stride": 0.01,
    "window": "hann",
    "features": 80,
    "n_fft": 512,
    "log": True,
    "frame_splicing": 1,
    "dither": 0.0,
    "pad_to": 0,
    "pad_value": 0.0,
}
LLM: dict[str, Any] = {
    "llm": "Qwen3-0.6b",
    "llm_conf": {
        "hub": "hf",
        "freeze": True,
        "llm_dtype": "fp32",
        "init_param_path": "Qwen3-0.6B",
        "use_lora": False,
        "lora_conf": {
            "freeze_lora": False,
            "task_type": "CAUSAL_LM",
            "r": 4,
            "lora_alpha": 8,
            "lora_dropout": 0.05,
            "target_modules": ["q_proj", "v_proj"],
        },
    },
}
ADAPTOR: dict[str, Any] = {
    "audio_adaptor": "Transformer",
    "audio_adaptor_conf": {
        "downsample_rate": 1,
        "use_low_frame_rate": True,
        "ffn_dim": 24,
        "n_layer": 1,
        "llm_dim": LLM_WIDTH,
        "encoder_dim": WIDTH,
        "freeze": True,
    },
}
CTC: dict[str, Any] = {
    "ctc_decoder": "Transformer",
    "detach_ctc_decoder": True,
    "ctc_decoder_conf": {
        "downsample_rate": 1,
        "ffn_dim": 24,
        "n_layer": 1,
        "llm_dim": WIDTH,
        "encoder_dim": WIDTH,
        "freeze": False,
    },
    "ctc_weight": 1.0,
    "ctc_vocab_size": CTC_VOCAB,
    "ctc_conf": {"dropout_rate": 0.0, "ctc_type": "builtin", "reduce": True, "ignore_nan_grad": True},
}
TRAINING: dict[str, Any] = {
    "train_conf": {
        "accum_grad": 1,
        "grad_clip": 5,
        "max_epoch": 2,
        "keep_nbest_models": 200,
        "log_interval": 100,
        "validate_interval": 2000,
        "save_checkpoint_interval": 2000,
        "avg_nbest_model": 100,
        "use_bf16": False,
        "use_deepspeed": False,
        "deepspeed_config": None,
        "effective_save_name_excludes": ["llm."],
    },
    "optim": "adamw",
    "optim_conf": {"lr": 5.0e-06, "weight_decay": 0.0},
    "scheduler": "warmuplr",
    "scheduler_conf": {"warmup_steps": 2500},
    "dataset": "FunASR",
    "dataset_conf": {
        "index_ds": "FunASR",
        "batch_sampler": "BatchSampler",
        "batch_type": "token",
        "batch_size": 6000,
        "max_token_length": 3500,
        "shuffle": True,
        "sort_size": 1024,
        "batch_size_scale_ratio_max": 2,
        "num_workers": 0,
        "audio_adaptor_downsample_rate": "${audio_adaptor_conf.downsample_rate}",
        "audio_encoder_downsample_rate": 6,
        "data_split_num": 1,
        "batch_size_sample_max": 10,
        "retry": 20,
        "batch_size_token_max": 6000,
        "max_source_length": 12000,
        "max_target_length": 2048,
        "min_source_length": 10,
        "ctc_tokenizer": "SenseVoiceTokenizer",
        "ctc_target_normalize": True,
        "ctc_tokenizer_conf": {"vocab_path": None, "is_multilingual": True, "num_languages": 8749},
        "use_dynamic_output_ratio": 0.0,
    },
    "tokenizer": "HuggingfaceTokenizer",
    "tokenizer_conf": {"init_param_path": "${llm_conf.init_param_path}"},
    "enable_tf32": True,
    "debug": False,
    "train_data_set_list": None,
    "valid_data_set_list": None,
    "init_param": None,
    "output_dir": None,
}
CONFIGURATION = {
    "framework": "pytorch",
    "task": "auto-speech-recognition",
    "model": {"type": "funasr"},
    "pipeline": {"type": "funasr-pipeline"},
    "model_name_in_hub": {"ms": "", "hf": ""},
    "file_path_metas": {
        "init_param": "model.pt",
        "config": "config.yaml",
        "llm_conf": {"init_param_path": "Qwen3-0.6B"},
        "tokenizer_conf": {"init_param_path": "Qwen3-0.6B"},
        "dataset_conf": {"ctc_tokenizer_conf": {"vocab_path": "multilingual.tiktoken"}},
    },
}
QWEN: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": ENDOFTEXT,
    "eos_token_id": IM_END,
    "head_dim": HEAD,
    "hidden_act": "silu",
    "hidden_size": LLM_WIDTH,
    "initializer_range": 0.02,
    "intermediate_size": 48,
    "max_position_embeddings": 1024,
    "max_window_layers": 28,
    "model_type": "qwen3",
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 1,
    "pad_token_id": None,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": LLM_VOCAB,
}
TOKENIZER_CONFIG = {
    "clean_up_tokenization_spaces": False,
    "eos_token": SPECIALS[2],
    "model_max_length": 131072,
    "pad_token": SPECIALS[0],
    "tokenizer_class": "Qwen2TokenizerFast",
}
