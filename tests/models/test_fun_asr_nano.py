"""FunASRNano: geometry, placeholders, dtypes, prompts, what its configuration may say."""

import sys

import pytest
import torch

from nest_ssl.models.fun_asr_embeds import placed, placeholder_count
from nest_ssl.models.fun_asr_loading import dtype_name
from nest_ssl.models.fun_asr_nano import FunASRNano
from nest_ssl.text.chat import inference_prompt
from tests.fun_asr_tiny import make_model_dir, model_config
from tests.models.fun_asr_small import batch, trainable

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model_dir(tmp_path_factory.mktemp("model") / "sanm")


@pytest.fixture(scope="module")
def conformer(tmp_path_factory):
    return make_model_dir(tmp_path_factory.mktemp("model") / "conformer", encoder="conformer")


@pytest.fixture(scope="module")
def model(folder):
    return FunASRNano.from_pretrained(folder)


def tensors(model, **options):
    """A batch with FunASR's keys."""
    keys = (
        "input_ids",
        "attention_mask",
        "labels_ids",
        "fbank_beg",
        "fake_token_len",
        "speech",
        "speech_lengths",
    )
    found = batch(model, **options).tensors
    return {key: found[key] for key in keys}


def built(folder, **sections):
    config = model_config()
    for key, value in sections.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    return FunASRNano(config, folder)


# ---------------------------------------------------------------- geometry


def test_placeholders_are_three_halvings_rounded_up():
    frames = torch.arange(1, 600)
    halved = frames
    for _ in range(3):
        halved = (halved + 1) // 2
    assert torch.equal(placeholder_count(frames), halved)


def test_the_geometry_is_the_encoders(model, conformer):
    assert model.frame_s == pytest.approx(0.06)
    assert model.llm_tokens_of(torch.tensor([1, 8, 9, 40])).tolist() == [1, 1, 2, 5]
    nest = FunASRNano.from_pretrained(conformer)
    assert nest.frame_s == pytest.approx(0.08)
    lengths = torch.tensor([100, 9])  # mel frames of 10 ms
    assert nest.frames_of(lengths).tolist() == [13, 2]
    assert nest.llm_tokens_of(lengths).tolist() == [2, 1]
    out, out_lengths = nest.encode(torch.randn(1, 100, 80), torch.tensor([100]))
    assert out.shape[1] == 13 == int(out_lengths[0])
    assert nest.audio_adaptor.encoder_dim == out.shape[2] == nest.audio_encoder.output_size()


def test_without_the_low_frame_rate_inference_has_all_frames(folder):
    full = built(folder, audio_adaptor_conf={"use_low_frame_rate": False, "downsample_rate": 2})
    lengths = torch.tensor([40])
    assert full.llm_tokens_of(lengths).tolist() == [5]  # FunASR's dataset knows the low rate alone
    assert full.llm_tokens_of(lengths, training=False).tolist() == [40]


def test_a_nest_encoder_without_the_low_frame_rate_gives_what_the_adaptor_gives(conformer):
    overrides = {"audio_adaptor_conf.use_low_frame_rate": False, "audio_adaptor_conf.downsample_rate": 2}
    config = FunASRNano.from_pretrained(conformer).config
    section = {**config["audio_adaptor_conf"], **{k.split(".")[1]: v for k, v in overrides.items()}}
    nest = FunASRNano({**config, "audio_adaptor_conf": section}, conformer)
    for training in (True, False):
        assert nest.llm_tokens_of(torch.tensor([100]), training=training).tolist() == [7]


# ---------------------------------------------------------------- placeholders


def test_audio_is_placed_turn_by_turn_and_gradients_reach_it():
    tokens = torch.zeros(2, 6, 3)
    audio = torch.arange(3 * 4 * 3.0).view(3, 4, 3).requires_grad_()
    starts, counts = torch.tensor([[1, 4], [2, -1]]), torch.tensor([[2, 1], [3, -1]])
    out = placed(tokens, audio, torch.tensor([4, 4, 4]), starts, counts)
    expected = torch.zeros(2, 6, 3)
    expected[0, 1:3], expected[0, 4:5], expected[1, 2:5] = audio[0, :2], audio[1, :1], audio[2, :3]
    assert torch.equal(out, expected)
    assert not tokens.any()
    out.sum().backward()
    assert audio.grad.sum() == 6 * 3


def test_more_placeholders_than_frames_keep_their_embeddings():
    tokens, audio = torch.zeros(1, 8, 2), torch.ones(1, 3, 2)
    out = placed(tokens, audio, torch.tensor([2]), torch.tensor([[1]]), torch.tensor([[5]]))
    assert out[0, :, 0].tolist() == [0, 1, 1, 0, 0, 0, 0, 0]  # two frames are no padding


def test_the_only_frame_stands_for_all_placeholders_as_in_funasr():
    tokens, audio = torch.zeros(1, 6, 2), torch.ones(1, 1, 2)
    out = placed(tokens, audio, torch.tensor([1]), torch.tensor([[2]]), torch.tensor([[3]]))
    assert out[0, :, 0].tolist() == [0, 0, 1, 1, 1, 0]


def test_turns_that_do_not_fit_are_errors():
    tokens, audio, one = torch.zeros(1, 4, 2), torch.ones(1, 3, 2), torch.tensor([3])
    with pytest.raises(ValueError, match="1 rows of speech, and more turns"):
        placed(tokens, audio, one, torch.tensor([[1, 2]]), torch.tensor([[1, 1]]))
    with pytest.raises(ValueError, match="3 frames of audio from position 2 on do not fit into 4"):
        placed(tokens, audio, one, torch.tensor([[2]]), torch.tensor([[3]]))


# ---------------------------------------------------------------- forward


def test_texts_alone_have_a_loss(model):
    given = tensors(model)
    given = {**given, "fbank_beg": torch.full_like(given["fbank_beg"], -1)}
    del given["speech"], given["speech_lengths"], given["fake_token_len"]
    loss, stats, weight = model(**given)
    assert loss.isfinite().all()
    assert "batch_size_speech" not in stats
    assert int(stats["dialog_turns_max"]) == 0
    assert int(weight) == int((given["labels_ids"] > 1).sum())


def test_positional_arguments_are_in_funasrs_order(model):
    given = tensors(model)
    by_name = model(**given)[0]
    order = ("speech", "speech_lengths", "input_ids", "attention_mask", "labels_ids", "fbank_beg")
    by_place = model(*(given[key] for key in order), None, fake_token_len=given["fake_token_len"])[0]
    assert torch.equal(by_name, by_place)


@pytest.mark.parametrize("key", ["input_ids", "attention_mask", "labels_ids", "fbank_beg"])
def test_a_batch_without_a_needed_tensor_is_an_error_that_says_so(model, key):
    given = tensors(model)
    del given[key]
    with pytest.raises(ValueError, match=rf"a batch needs .*{key}"):
        model(**given)


def test_without_length_normalisation_the_weight_is_the_number_of_lines(folder, model):
    other = built(folder, model_conf={"length_normalized_loss": False})
    assert other(**tensors(model))[2].tolist() == [2]


def test_bf16_runs_the_language_model_in_bf16_and_nothing_else(folder, model):
    low = FunASRNano.from_pretrained(folder, dtype="bf16")
    assert {p.dtype for p in low.llm.parameters()} == {torch.bfloat16}
    assert {p.dtype for n, p in low.named_parameters() if not n.startswith("llm.")} == {torch.float32}
    given = tensors(model)
    seen = []
    low.llm.register_forward_hook(lambda m, i, k, o: seen.append(k["inputs_embeds"].dtype), with_kwargs=True)
    assert low(**given)[0].item() == pytest.approx(model(**given)[0].item(), rel=0.02)
    assert seen == [torch.bfloat16]


def test_positions_keep_the_precision_that_the_configuration_names(folder):
    """FunASR casts the language model with its buffers to llm_dtype, and what it decodes in only then."""
    angles = {}
    for stored in ("fp32", "bf16"):
        found = FunASRNano.from_pretrained(folder, overrides={"llm_conf.llm_dtype": stored}, dtype="fp32")
        assert {p.dtype for p in found.llm.parameters()} == {torch.float32}
        assert (found.llm_dtype, found.config["llm_conf"]["llm_dtype"]) == ("fp32", stored)
        angles[stored] = found.llm.model.rotary_emb.inv_freq
    assert not torch.equal(angles["bf16"], angles["fp32"])
    assert torch.equal(angles["bf16"], angles["fp32"].bfloat16().float())


def test_fp32_turns_an_outer_autocast_off_for_the_language_model(model):
    given, seen = tensors(model), []
    hook = model.llm.register_forward_hook(lambda m, i, o: seen.append(o.logits.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(**given)
    hook.remove()
    assert seen == [torch.float32]


def test_checkpointed_gradients_are_the_same(tmp_path):
    gradients = []
    for recompute in (False, True):
        overrides = {
            f"{name}.freeze": False for name in ("audio_encoder_conf", "audio_adaptor_conf", "llm_conf")
        }
        for section in ("audio_encoder_conf", "audio_adaptor_conf", "llm_conf"):
            overrides[f"{section}.activation_checkpoint"] = recompute
        model = trainable(tmp_path, overrides)
        assert model.audio_encoder.gradient_checkpointing is recompute
        model.train()
        torch.manual_seed(4)
        model(**tensors(model))[0].backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert any(name.startswith("audio_encoder.") for name in gradients[0])
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=lambda t, n=name: f"{n}: {t}")


# ---------------------------------------------------------------- inference


def test_a_prompt_is_text_audio_text(model):
    lengths = torch.tensor([17, 9])
    speech = torch.randn(2, 17, model.frontend.output_size())
    with torch.no_grad():
        encoded = model.encode(speech, lengths)
        prompts = [inference_prompt(["ab"]), inference_prompt(language="English", itn=False)]
        found = model.prompt_embeds(*encoded, lengths, prompts, [None, "so"])
        adapted, _ = model.adapt(*encoded)
    head = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    tail = "<|im_end|>\n<|im_start|>assistant\n"
    for row, (count, rest) in enumerate([(3, tail), (2, tail + "so")]):
        before, after = model.tokenizer.encode(head + prompts[row]), model.tokenizer.encode(rest)
        table = model.llm.get_input_embeddings().weight
        expected = torch.cat([table[before], adapted[row, :count], table[after]])
        torch.testing.assert_close(found[row], expected)


def test_prompts_have_no_frames_that_the_batch_pads(folder):
    # 5 frames of the encoder are 3 of the adaptor, and 5 placeholders; the longer neighbour pads them to 20.
    torch.manual_seed(0)
    full = built(folder, audio_adaptor_conf={"use_low_frame_rate": False, "downsample_rate": 2}).eval()
    speech, lengths = torch.randn(2, 40, full.frontend.output_size()), torch.tensor([40, 5])
    prompts = [inference_prompt()] * 2
    with torch.no_grad():
        together = full.prompt_embeds(*full.encode(speech, lengths), lengths, prompts)
        alone = full.encode(speech[1:, :5], lengths[1:])
        torch.testing.assert_close(together[1], full.prompt_embeds(*alone, lengths[1:], prompts[1:])[0])


def test_a_batch_is_continued_as_its_prompts_are_one_by_one(model):
    width = model.llm.config.hidden_size
    prompts = [torch.randn(n, width, generator=torch.Generator().manual_seed(n)) for n in (3, 8, 5)]
    together = model.generate(prompts, 6)
    assert together == [model.generate([one], 6)[0] for one in prompts]
    assert all(len(ids) <= 6 and not set(ids) & set(model.end_ids) for ids in together)


def test_dataset_conf_says_whether_a_system_speaks_and_a_thought_is_closed(folder, model):
    changed = built(folder, dataset_conf={"do_think": False, "sys_prompt": False})
    lengths = torch.tensor([8])
    speech = torch.zeros(1, 8, model.frontend.output_size())
    with torch.no_grad():
        (found,) = changed.prompt_embeds(*changed.encode(speech, lengths), lengths, ["x"])
    text = "<|im_start|>user\nx" + "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert len(found) == len(model.tokenizer.encode(text)) + 1


# ---------------------------------------------------------------- configuration and weights


def test_a_checkpoint_without_ctc_gives_a_model_without_it(tmp_path):
    model = FunASRNano.from_pretrained(make_model_dir(tmp_path / "hf", ctc=False))
    assert (model.ctc, model.ctc_decoder, model.ctc_tokenizer, model.blank_id) == (None, None, None, None)
    assert model.load_account.absent == ("ctc",)
    with pytest.raises(ValueError, match="no CTC branch"):
        model.ctc_log_probs(torch.zeros(1, 3, 16), torch.tensor([3]))


def test_frozen_sections_have_no_gradients(folder):
    model = built(folder, audio_encoder_conf={"freeze": True}, ctc_conf={"freeze": True})
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert "audio_encoder" not in trained
    assert "ctc" not in trained
    assert "ctc_decoder" in trained


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"audio_encoder": "SANM"}, "audio_encoder: 'SANM' is not one of SenseVoiceEncoderSmall, Conformer"),
        ({"frontend": "Whisper"}, "frontend: 'Whisper' is not one of WavFrontend"),
        (
            {"audio_encoder_conf": {"kernel_sise": 3}},
            "audio_encoder_conf.kernel_sise.*did you mean kernel_size",
        ),
        ({"frontend_conf": {"lfr_mm": 7}}, "frontend_conf.lfr_mm.*did you mean lfr_m"),
        ({"audio_encoder_conf": {"attention_heads": 3}}, "audio_encoder_conf.output_size: 16 is no multiple"),
        ({"ctc_decoder_conf": {"llm_dim": 8}}, "ctc_decoder_conf.llm_dim: 8, but the CTC head takes"),
        ({"ctc_conf": {"blank_id": 0}}, "ctc_conf.blank_id: 0; the blank is the last"),
        ({"llm_conf": {"llm_dtype": "float32"}}, "llm_conf.llm_dtype: 'float32' is not one of fp32"),
        ({"llm_conf": {"init_param_path": None}}, "llm_conf.init_param_path is not set"),
    ],
)
def test_what_cannot_be_met_is_named(folder, sections, message):
    with pytest.raises(ValueError, match=message):
        built(folder, **sections)


def test_a_key_that_nothing_reads_is_told(folder, caplog):
    built(folder, audio_encoder_conf={"colour": "blue"})
    assert "audio_encoder_conf.colour: 'blue' is not read" in caplog.text


def test_dtypes_have_funasrs_names():
    assert [dtype_name(d) for d in ("fp32", "bfloat16", torch.float16)] == ["fp32", "bf16", "fp16"]
    with pytest.raises(ValueError, match="'int8' is not one of"):
        dtype_name("int8")


def test_without_transformers_it_is_said_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModuleNotFoundError, match=r'transformers: pip install -e "\.\[llm\]"'):
        built(folder)


def test_loading_draws_nothing_and_ties_the_output_layer(folder):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model = FunASRNano.from_pretrained(folder)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.llm.lm_head.weight is model.llm.get_input_embeddings().weight
    assert all(p.isfinite().all() for p in model.parameters())
    assert not model.training
