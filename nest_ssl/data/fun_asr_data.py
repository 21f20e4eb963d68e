"""Training and validation data of Fun-ASR-Nano for the trainer's loop."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nest_ssl.data.fun_asr_augment import spec_augment_from_config, speed_from_config
from nest_ssl.data.fun_asr_config import dataset_options
from nest_ssl.data.fun_asr_corpus import MessagesCorpus, data_files
from nest_ssl.data.fun_asr_dataset import MessagesDataset, limits_left_out
from nest_ssl.data.fun_asr_features import AudioFeatures
from nest_ssl.data.fun_asr_plan import FunASRPlan, TokenPlan
from nest_ssl.data.fun_asr_prompt import MultiContextPrompt
from nest_ssl.data.fun_asr_sample import Encoder, SampleBuilder, SampleSettings
from nest_ssl.data.length_limits import LengthLimits
from nest_ssl.data.loader import SSLDataLoader
from nest_ssl.data.prompts import PromptSettings
from nest_ssl.data.selections import Listed
from nest_ssl.data.telephone_channel import telephone_from_config
from nest_ssl.text.normalization import TextNormalizer

SETS = {"train": "train_data_set_list", "valid": "valid_data_set_list"}
SHOWN_IDS = 20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataFacts:
    """What the data need to know of a model; picklable.

    tokenizer: of the language model.  ctc_tokenizer: None where the checkpoint has no CTC branch.  frontend:
    as modules.wav_frontend.WavFrontend.  frames_of, llm_tokens_of: (N,) lengths of features to the (N,)
    encoder frames, and to the LLM tokens that the audio takes.
    """

    tokenizer: Encoder
    ctc_tokenizer: Encoder | None
    frontend: Any
    frames_of: Callable[[Tensor], Any]
    llm_tokens_of: Callable[[Tensor], Any]


class FunASRData(SSLDataLoader):
    """The batches (FunASRBatch) of a MessagesDataset, under the same promises as SSLDataLoader's."""

    dataset: MessagesDataset  # type: ignore[assignment]
    plan: TokenPlan | FunASRPlan  # type: ignore[assignment]

    def describe(self) -> dict[str, Any]:
        """Facts for the log: rows, hours, what was left out and why, tokens, batches of epoch 0."""
        corpus, plan = self.dataset.corpus, self._epoch_plan(0)
        audio_s, padded_s = self.plan.seconds(plan)
        tokens = corpus.sequence_lengths[plan.order]
        longest = np.maximum.reduceat(tokens, plan.bounds[:-1]) * np.diff(plan.bounds)
        return {
            "files": ",".join(map(str, corpus.files)),
            "rows": corpus.num_rows,
            "utterances": len(np.unique(plan.order)),
            "hours": round(audio_s / 3600, 3),
            "dropped": {reason: len(ids) for reason, ids in corpus.left_out.items()},
            "llm_tokens": int(tokens.sum()),
            "batches": len(plan),
            "utterances_per_batch": round(len(plan.order) / len(padded_s), 2),
            "padded_seconds_per_batch": round(float(padded_s.mean()), 2),
            "largest_batch_seconds": round(float(padded_s.max()), 2),
            "largest_batch_tokens": int(longest.max()),
            "padding_share": round(1.0 - audio_s / max(1e-9, float(padded_s.sum())), 4),
            "repeated_batches": plan.repeated_batches,
        }

    def fingerprint(self) -> str:
        """Give a text that changes when the order or content of the batches would."""
        dataset = self.dataset
        facts = {
            "rows": dataset.corpus.fingerprint(),
            "left_out": {reason: len(ids) for reason, ids in dataset.corpus.left_out.items()},
            "content": dataset.facts(),
            "plan": self.plan.facts(),
            "seed": dataset.seed,
        }
        return hashlib.blake2b(json.dumps(facts, default=str).encode(), digest_size=16).hexdigest()


def fun_asr_data(
    config: Mapping[str, Any],
    model_facts: DataFacts,
    split: str = "train",
    *,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> FunASRData:
    """Build the data that `train_data_set_list` or `valid_data_set_list` and `dataset_conf` describe.

    split: train or valid; validation has a fixed order, no augmentation, no dither, and its ranks may differ
    by one batch.  What limits leave out is counted by reason and named in the log.  ValueError and
    FileNotFoundError name key, file and line.  docs/training_data.md has the keys.
    """
    key = SETS[split]
    training = split == "train"
    options = dataset_options(config.get("dataset_conf"))
    facts = model_facts
    slices = data_files(config.get(key), options["data_split_num"] if training else 1, key)
    builder = SampleBuilder(
        facts.tokenizer,
        facts.llm_tokens_of,
        SampleSettings(
            **{name: options[name] for name in SampleSettings.__dataclass_fields__ if name in options}
            | ({} if training else {"use_dynamic_output_ratio": 0.0})
        ),
        context=MultiContextPrompt(options["prompt_conf"]) if options["prompt_classes"] else None,
        ctc_tokenizer=facts.ctc_tokenizer,
        ctc_text=TextNormalizer() if options["ctc_target_normalize"] else None,
    )
    corpus = MessagesCorpus(
        [file for part in slices for file in part],
        builder,
        facts.frontend,
        PromptSettings.from_config(options["prompt"], "dataset_conf.prompt"),
        options,
        slices=slices,
        bad_lines=options["max_corrupt"],
        name=key,
    )
    kept = _kept(corpus, options, facts, builder.ctc_text)
    if rank == 0:
        for reason, ids in corpus.left_out.items():
            more = f" and {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else ""
            log.warning("%s: %d left out, %s: %s%s", key, len(ids), reason, ", ".join(ids[:SHOWN_IDS]), more)
    if not kept.any():
        raise ValueError(f"{key}: of {corpus.num_rows} rows none is left: {corpus.reasons()}")
    audio = AudioFeatures(
        facts.frontend,
        speed=speed_from_config(options["speed"], "dataset_conf.speed"),
        telephone=telephone_from_config(
            options["telephone"], facts.frontend.fs, seed, ("audio",), "dataset_conf.telephone"
        )
        if training
        else None,
        spec_augment=spec_augment_from_config(options["spec_augment"], "dataset_conf.spec_augment"),
        cache_bytes=int(options["cache_mb"] * 1e6 / max(1, options["num_workers"])),
        seed=seed,
        training=training,
        channel=options["channel_selector"],
    )
    dataset = MessagesDataset(
        corpus,
        builder,
        audio,
        max_corrupt=options["max_corrupt"],
        check_lengths=options["check_lengths"],
        drop_above=options["batch_size_token_max"] if options["token_max"] == "drop" else None,
        retry=options["retry"],
        seed=seed,
    )
    return FunASRData(
        dataset,  # type: ignore[arg-type]
        _plan(corpus, kept, options, training, seed, rank, world_size),  # type: ignore[arg-type]
        num_workers=options["num_workers"],
        pin_memory=options["pin_memory"],
        prefetch_factor=options["prefetch_factor"],
        start_method=options["multiprocessing_context"],
    )


def _kept(
    corpus: MessagesCorpus, options: Mapping[str, Any], facts: DataFacts, normalize: Callable | None
) -> np.ndarray:
    """Give (N,) bool, the rows within FunASR's later limits and those of dataset_conf.length."""
    most = options["max_token_length"]
    kept = limits_left_out(
        corpus,
        {"source_len": most, "feature_frames": options["max_source_length"], "sequence_length": most},
        sampler=options["nest_ssl_sampler"] == "plan",
    )
    limits = LengthLimits.from_config(options["length"], "dataset_conf.length")
    if not limits.limits:
        return kept
    lengths = {
        "seconds": corpus.seconds.astype(np.float64),
        "speech_length": corpus.speech_lengths,
        "lfr_frames": corpus.feature_frames,
        "text_length": corpus.text_lengths,
        "sampler_length": corpus.source_lens,
        "sequence_length": corpus.sequence_lengths,
    }
    if "ctc_slack" in limits.units():
        lengths["ctc_slack"] = _ctc_slack(corpus, facts, normalize)
    limits = limits.resolve(lengths)
    for limit in limits.limits:
        removed = kept & limit.removes(lengths)
        for i in np.flatnonzero(removed).tolist():
            corpus.leave_out(
                i, f"{limit.unit} {'above' if limit.side == 'max' else 'below'} {limit.fixed():g}"
            )
        kept &= ~removed
    return kept


def _ctc_slack(corpus: MessagesCorpus, facts: DataFacts, normalize: Callable | None) -> np.ndarray:
    """Give (N,) float64: the encoder frames that CTC has to spare, as data.lengths counts them."""
    if facts.ctc_tokenizer is None:
        raise ValueError("dataset_conf.length.ctc_slack: the model has no CTC branch")
    frames = torch.as_tensor(facts.frames_of(torch.from_numpy(corpus.feature_frames))).numpy()
    slack = frames.astype(np.float64)
    for i in range(len(corpus)):
        heard = [turn.transcript for turn in corpus[i].turns if turn.audio is not None]
        targets = [facts.ctc_tokenizer.encode(normalize(text) if normalize else text) for text in heard]
        slack[i] -= max((len(t) + sum(a == b for a, b in pairwise(t)) for t in targets), default=0)
    return slack


def _plan(
    corpus: MessagesCorpus,
    kept: np.ndarray,
    options: Mapping[str, Any],
    training: bool,
    seed: int,
    rank: int,
    world_size: int,
) -> TokenPlan | FunASRPlan:
    ranks: dict[str, Any] = {
        "training": training,
        "seed": seed,
        "rank": rank,
        "world_size": world_size,
        "name": "dataset_conf",
    }
    if options["nest_ssl_sampler"] == "funasr":
        return FunASRPlan(
            corpus.source_lens,
            corpus.seconds,
            corpus.sequence_lengths,
            options,
            allowed=kept,
            slices=corpus.slices,
            token_max=options["batch_size_token_max"],
            drop=options["token_max"] == "drop",
            **ranks,
        )
    by_seconds = options["batch_duration"] is not None
    by_count = not by_seconds and options["batch_type"] == "example"
    return TokenPlan(
        corpus.seconds if by_seconds or by_count else corpus.source_lens.astype(np.float32),
        corpus.seconds,
        corpus.sequence_lengths,
        options["batch_size_token_max"] if options["token_max"] == "split" else None,
        batch_size=options["batch_size"] if by_count else options["batch_size_sample_max"],
        batch_duration=None if by_count else options["batch_duration"] or options["batch_size"],
        shuffle=options["shuffle"] and training,
        duration_jitter=options["duration_jitter"],
        drop_last=options["drop_last"],
        selection=None if kept.all() else Listed(np.flatnonzero(kept)),
        **ranks,
    )
