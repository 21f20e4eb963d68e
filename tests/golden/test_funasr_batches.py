"""Samples, batches, filters and CTC targets against what FunASR 1.4.16 made of the same rows."""

import numpy as np
import pytest
import torch

from nest_ssl.data.fun_asr_batch import collate
from nest_ssl.data.fun_asr_data import FunASRData, fun_asr_data
from nest_ssl.data.fun_asr_features import resampled
from nest_ssl.data.ssl_dataset import BatchKey
from nest_ssl.files.audio import read_audio
from tests.golden.funasr_set import CONF, ROOT, facts, needs_goldens, results, rows_file, streams, tensors

pytest.importorskip("tokenizers")
pytest.importorskip("tiktoken")
pytest.importorskip("torchaudio")
pytestmark = needs_goldens

FEATURES = {"rtol": 0.0, "atol": 5e-4}  # the tolerance of the set
CONTEXT = {
    "prompt_classes": "MultiContextPrompt",
    "prompt_conf": {"max_neg_hotwords_num": 0, "use_hist": False},
}
WITH_HISTORY = {"prompt_classes": "MultiContextPrompt", "prompt_conf": {"use_asr_hotwords": False}}
# Name -> rows, what differs in dataset_conf, the seed of `random` and numpy.
CASES = {
    "train_all": ("train", None, {}, 0),
    "train_0_1": ("train", ["u0", "u1"], {}, 0),
    "variants": ("variants", None, {}, 0),
    "variants_no_think": ("variants", ["en", "noitn"], {"do_think": False}, 0),
    "variants_no_sys": ("variants", ["en", "noitn"], {"sys_prompt": False}, 0),
    "dyn_output_ratio1": (
        "train",
        ["u0", "u1", "u2"],
        {"use_dynamic_output_ratio": 1.0, "min_non_mask_token_len": 2},
        7,
    ),
    "context_prompt": ("variants", ["en", "hot", "lang"], CONTEXT, 3),
    "context_prompt_hist": ("variants", ["hot"], WITH_HISTORY, 4),
}


def data(name, keys, conf, folder, **frontend) -> FunASRData:
    config = {"train_data_set_list": str(rows_file(name, folder, keys)), "dataset_conf": CONF | conf}
    return fun_asr_data(config, facts(**frontend), "train")


def same(found: dict, case: str) -> None:
    expected = {
        k.removeprefix(f"{case}."): v for k, v in tensors("batches").items() if k.startswith(f"{case}.")
    }
    for name, tensor in expected.items():
        if name == "speech":
            torch.testing.assert_close(found[name], tensor, **FEATURES)
        else:
            assert found[name].dtype == tensor.dtype, name
            assert torch.equal(found[name], tensor), name
    shapes = results("results")["batches"][case]["shapes"]
    assert {k: [list(found[k].shape), str(found[k].dtype)] for k in shapes} == shapes


@pytest.mark.parametrize("case", CASES)
def test_batch_is_funasrs(case, tmp_path):
    name, keys, conf, seed = CASES[case]
    dataset = data(name, keys, conf, tmp_path).dataset
    shuffler, draws = streams(seed)  # one state for all samples, as in FunASR's process
    samples = []
    for i in range(len(dataset)):
        row = dataset.corpus[i]
        audio = [
            None if turn.audio is None else dataset.audio.of(row, i, k, 0).features
            for k, turn in enumerate(row.turns)
        ]
        samples.append(dataset.builder.sample(row, audio, shuffler, draws))
    batch = collate(samples)
    assert batch.utterance_ids == results("results")["batches"][case]["items"]
    same(batch.tensors, case)


def test_the_dataset_makes_the_batches_itself(tmp_path):
    dataset = data("variants", None, {}, tmp_path).dataset
    same(dataset.batch(BatchKey(0, 0, 0, np.arange(7, dtype=np.int32))).tensors, "variants")


def test_funasrs_collator_drops_the_last_samples_on_request(tmp_path):
    conf = {"batch_size_token_max": 230, "token_max": "drop"}
    batch = data("train", None, conf, tmp_path).dataset.batch(BatchKey(0, 0, 0, np.arange(6, dtype=np.int32)))
    assert batch.utterance_ids == results("results")["batches"]["token_max_drop"]["items"]
    same(batch.tensors, "token_max_drop")
    assert batch.notes == [f"dropped by FunASR's collator: {key}" for key in ("u4", "u5")]


@pytest.mark.parametrize("sampler", ["plan", "funasr"])
def test_by_default_no_sample_is_dropped(sampler, tmp_path):
    made = data("train", None, {"batch_size_token_max": 230, "nest_ssl_sampler": sampler}, tmp_path)
    batches = list(made.batches(0))
    assert sorted(key for batch in batches for key in batch.utterance_ids) == [f"u{k}" for k in range(6)]
    assert len(batches) > 1
    assert all(batch.tensors["input_ids"].numel() <= 230 for batch in batches)


def test_rows_are_filtered_as_funasrs_index_does_and_counted_by_reason(tmp_path):
    corpus = data("filtering", None, {"max_corrupt": 1, "max_token_length": None}, tmp_path).dataset.corpus
    reference = results("results")
    assert [corpus[i].utterance_id for i in range(len(corpus))] == reference["filtering_kept"]
    assert corpus.source_lens.tolist() == reference["filtering_source_len"]
    by_index = {reason: ids for reason, ids in corpus.left_out.items() if "(dataset)" not in reason}
    assert by_index == {
        "not a JSON object": [f"{corpus.files[0]}:2"],
        "speech_length above max_source_length 12000 (10-ms frames)": ["too_long"],
        "speech_length below min_source_length 10 (10-ms frames)": ["too_short"],
        "text_length below 1, or none": ["no_text", "no_text_length"],
        "text_length above max_target_length 2048 (LLM tokens)": ["text_too_long"],
        "without speech_length": ["no_speech_length"],
    }


@pytest.mark.parametrize("pair", ["fwd_train", "fwd_pair"])
def test_ctc_targets_are_the_ids_of_the_text(pair, tmp_path):
    keys = None if pair == "fwd_train" else ["u0", "u2"]
    dataset = data("train", keys, {}, tmp_path).dataset
    batch = dataset.batch(BatchKey(0, 0, 0, np.arange(len(dataset), dtype=np.int32)))
    reference = tensors("forward")
    found, expected = (
        batch.tensors["ctc_targets"],
        reference[f"{pair}.ctc_targets"],
    )  # one wider than it needs be
    assert torch.equal(found, expected[:, : found.shape[1]])
    assert torch.equal(batch.tensors["ctc_target_lengths"], reference[f"{pair}.ctc_target_lens"])


def test_lengths_are_those_that_the_rows_state(tmp_path):
    dataset = data("train", None, {"check_lengths": "error"}, tmp_path).dataset
    batch = dataset.batch(BatchKey(0, 0, 0, np.arange(6, dtype=np.int32)))
    assert batch.notes == []
    ids = batch.tensors["input_ids"]
    assert dataset.corpus.sequence_lengths.tolist() == (ids >= 0).sum(dim=1).tolist()


@pytest.mark.parametrize("utterance", ["u1", "u3"])
def test_narrowband_files_are_resampled_as_funasr_does(utterance):
    samples, rate = read_audio(ROOT / "wav" / f"{utterance}_8k.wav", None, channel="average")
    wave = torch.from_numpy(resampled(samples, rate, 16000).copy())
    reference = tensors("frontend")
    torch.testing.assert_close(wave, reference[f"{utterance}.wave16k"], rtol=0.0, atol=1e-6)
    features = facts().frontend.features(wave)
    torch.testing.assert_close(features, reference[f"{utterance}.feat_fs16k"], **FEATURES)
