"""Fun-ASR-Nano against FunASR 1.4.16 on the whole reference set, where there is a copy of it."""

import json
import os
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.nn.utils.rnn import pad_sequence

from nest_ssl.models.fun_asr_nano import FunASRNano
from nest_ssl.modules.wav_frontend import WavFrontend, stack
from nest_ssl.text.chat import inference_prompt
from nest_ssl.text.ctc_tokenizer import SenseVoiceTokenizer

pytest.importorskip("transformers")
ROOT = Path(__file__).resolve().parents[2]
SET = Path(os.environ.get("NEST_GOLDENS") or ROOT.parent / "shared" / "goldens") / "funasr"
if not (SET / "forward.safetensors").is_file():
    pytest.skip(f"no reference set of FunASR in {SET}", allow_module_level=True)

CASES = ("fwd_pair", "fwd_train", "fwd_variants")
ENCODER, LOGITS, LOSS = ({"rtol": 0.0, "atol": atol} for atol in (2e-5, 1e-4, 1e-5))
LFR = {"lfr_m": 7, "lfr_n": 6}
FEATURES = {
    "feat_fs16k": ({**LFR}, "wave16k"),
    "feat_fs8k_on_8k_wave": ({**LFR, "fs": 8000}, "wave8k"),
    "feat_fs8k_on_16k_wave_WRONG": ({**LFR, "fs": 8000}, "wave16k"),
    "feat_fs16k_cmvn": ({**LFR, "cmvn_file": SET / "am.mvn"}, "wave16k"),
    "feat_fs16k_snip_edges_false": ({**LFR, "snip_edges": False}, "wave16k"),
    "fbank80_fs16k": ({}, "wave16k"),
}


@pytest.fixture(scope="module")
def forward():
    return load_file(SET / "forward.safetensors")


@pytest.fixture(scope="module")
def waves():
    return load_file(SET / "frontend.safetensors")


@pytest.fixture(scope="module")
def model():
    return FunASRNano.from_pretrained(SET / "model")


def given(forward, case):
    prefix = f"{case}.in."
    return {name.removeprefix(prefix): t.clone() for name, t in forward.items() if name.startswith(prefix)}


@pytest.mark.parametrize("name", FEATURES)
def test_features(name, waves):
    options, wave = FEATURES[name]
    frontend = WavFrontend(**options)
    utterances = [key.split(".")[0] for key in waves if key.endswith(f".{name}")]
    assert len(utterances) >= 3
    for utterance in utterances:
        samples = waves[f"{utterance}.{wave}"]
        features = frontend.features(samples)
        assert len(features) == frontend.frames_of(len(samples))
        torch.testing.assert_close(features, waves[f"{utterance}.{name}"], rtol=0.0, atol=1e-5)


def test_features_of_less_than_a_window_and_of_a_padded_pair(waves):
    frontend = WavFrontend(**LFR)
    short = frontend.features(waves["short20ms.wave16k"])
    torch.testing.assert_close(short, waves["short20ms.feat_fs16k"], rtol=0.0, atol=1e-5)
    pair = [waves["u0.wave16k"], waves["u1.wave16k"]]
    features, lengths = frontend(pad_sequence(pair, batch_first=True), [len(wave) for wave in pair])
    torch.testing.assert_close(features, waves["batch01.feat"], rtol=0.0, atol=1e-5)
    assert lengths.tolist() == waves["batch01.len"].tolist()


def test_stacking_takes_the_frames_that_funasr_takes():
    facts = json.loads((SET / "frontend.json").read_text())["lfr_7_6"]
    for fact in facts:
        frames = torch.arange(fact["T"], dtype=torch.float32)[:, None]
        assert stack(frames, 7, 6).long().tolist() == fact["frame_index"]
    assert len(facts) == 45


@pytest.mark.parametrize("case", CASES)
def test_activations_logits_and_loss(case, model, forward):
    seen = {}

    def keep(name):
        return lambda module, inputs, output: seen.update({name: output})

    def keep_inputs(module, inputs, keywords, output):
        names = {
            "inputs_embeds": "inputs_embeds",
            "labels": "labels_after",
            "attention_mask": "attention_mask_after",
        }
        seen.update({name: keywords[key] for key, name in names.items()}, logits=output.logits)

    parts = {
        "enc.embed": model.audio_encoder.embed,
        "enc.layer0": model.audio_encoder.encoders0[0],
        "enc.after_norm": model.audio_encoder.after_norm,
        "encoder_out": model.audio_encoder,
        "adaptor.linear2": model.audio_adaptor.linear2,
        "adaptor_out": model.audio_adaptor,
    }
    hooks = [part.register_forward_hook(keep(name)) for name, part in parts.items()]
    hooks.append(model.llm.register_forward_hook(keep_inputs, with_kwargs=True))
    batch = given(forward, case)
    with torch.no_grad():
        loss, stats, weight = model(**batch)
        encoded = seen["encoder_out"]
        log_probs = model.ctc_log_probs(*encoded)
    for hook in hooks:
        hook.remove()
    for name in ("encoder_out", "adaptor_out"):
        seen[name], lengths = seen[name]
        assert lengths.tolist() == forward[f"{case}.{name}_lens"].tolist()
    for name, output in seen.items():
        close = LOGITS if name == "logits" else ENCODER
        torch.testing.assert_close(
            output, forward[f"{case}.{name}"], **close, msg=lambda t, n=name: f"{n}: {t}"
        )
    torch.testing.assert_close(loss, forward[f"{case}.loss"], **LOSS)
    assert torch.equal(weight, forward[f"{case}.weight"])
    expected = json.loads((SET / "results.json").read_text())["forward"][case]["stats"]
    assert stats.keys() == expected.keys()
    for name, value in expected.items():
        assert stats[name].item() == pytest.approx(value, abs=1e-6), name
    if case == "fwd_pair":
        torch.testing.assert_close(log_probs, forward[f"{case}.ctc_log_probs"], **LOGITS)
    if case == "fwd_train":
        assert torch.equal(log_probs.argmax(-1), forward[f"{case}.ctc_log_probs"])
    if f"{case}.ctc_targets" in forward:
        losses = torch.nn.functional.ctc_loss(
            log_probs.transpose(0, 1),
            forward[f"{case}.ctc_targets"],
            encoded[1].long(),
            forward[f"{case}.ctc_target_lens"],
            blank=model.blank_id,
            reduction="none",
        )
        torch.testing.assert_close(losses, forward[f"{case}.ctc_loss_per_utt"], rtol=0.0, atol=1e-4)


def test_an_adaptor_of_half_the_frames(model, forward):
    expected = load_file(SET / "alt_downsample2.safetensors")
    section = {**model.config["audio_adaptor_conf"], "downsample_rate": 2}
    halved = FunASRNano({**model.config, "audio_adaptor_conf": section})
    state = {name: t for name, t in model.state_dict().items() if not name.startswith("audio_adaptor.")}
    halved.load_state_dict(state | {n: t for n, t in expected.items() if n.startswith("audio_adaptor.")})
    batch = given(forward, "fwd_pair")
    with torch.no_grad():
        encoded = halved.eval().encode(batch["speech"], batch["speech_lengths"])
        adapted, lengths = halved.adapt(*encoded)
        embeds = halved.embeds(batch["input_ids"], encoded, batch["fbank_beg"], batch["fake_token_len"])
        loss, _, _ = halved(**batch)
    torch.testing.assert_close(adapted, expected["out.adaptor_out"], **ENCODER)
    assert lengths.tolist() == expected["out.adaptor_out_lens"].tolist()
    torch.testing.assert_close(embeds, expected["out.inputs_embeds"], **ENCODER)
    torch.testing.assert_close(loss, expected["out.loss"], **LOSS)


def test_prompts_of_inference():
    for key, prompt in json.loads((SET / "decode.json").read_text())["prompts"].items():
        assert inference_prompt(*json.loads(key)) == prompt


@pytest.mark.parametrize(("mode", "limit"), [("default", 512), ("max_length4", 4)])
def test_a_batch_decoded_greedily_gives_funasrs_texts(mode, limit, model, waves):
    rows = json.loads((SET / "decode.json").read_text())["generate"][mode]
    features = [model.frontend.features(waves[f"{row['key'].split('_')[0]}.wave16k"]) for row in rows]
    lengths = torch.tensor([len(frames) for frames in features])
    with torch.no_grad():
        encoded = model.encode(pad_sequence(features, batch_first=True), lengths)
        prompts = model.prompt_embeds(*encoded, lengths, [inference_prompt()] * len(rows))
        found = model.generate(prompts, limit)
    assert [model.tokenizer.decode(ids, skip_special=True) for ids in found] == [row["text"] for row in rows]


def test_units_of_the_ctc_branch(model, forward):
    tokenizer = SenseVoiceTokenizer(SET / "model" / "multilingual.tiktoken")
    assert tokenizer.vocab_size == model.blank_id
    texts = [row["ref"] for row in json.loads((SET / "decode.json").read_text())["generate"]["default"]]
    targets, lengths = forward["fwd_train.ctc_targets"], forward["fwd_train.ctc_target_lens"]
    for text, row, length in zip(texts, targets.tolist(), lengths.tolist(), strict=True):
        assert tokenizer.encode(text) == row[:length]
        assert tokenizer.decode(row[:length]) == text


def test_names_and_shapes_of_the_released_model():
    path = SET.parent.parent / "spec" / "fun_asr_nano_2512_state_dict.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    folder = ROOT / "tests" / "golden" / "funasr" / "nano_2512"
    with torch.device("meta"):
        model = FunASRNano(yaml.safe_load((folder / "config.yaml").read_text()), folder)
    found = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert found == json.loads(path.read_text())
