"""Text of audio by Fun-ASR-Nano: the CTC branch, the language model, the two together; in batches."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nest_ssl.data.prompts import DEFAULT_SYSTEM
from nest_ssl.decoding.fun_asr_alignment import timestamps
from nest_ssl.decoding.fun_asr_ctc import ctc_best, ctc_candidates, ctc_log_likelihoods, ctc_text
from nest_ssl.decoding.fun_asr_gate import GATES, Gate, gate
from nest_ssl.decoding.fun_asr_joint import MODES, Candidate, JointWeights
from nest_ssl.decoding.fun_asr_llm import Prompts, Written
from nest_ssl.models.fun_asr_nano import FunASRNano
from nest_ssl.text.normalization import TextNormalizer

TOKENS_PER_FRAME, LEAST_TOKENS = 1.5, 8  # a beam may write so much: CTC says no more than its frames


@dataclass(frozen=True)
class Options:
    """How to decode.

    beam_size: of the language model, or of the prefixes of CTC in mode ctc; 1 is greedy.  joint takes as many
    candidates of CTC.
    max_length: new tokens at most.  gate: auto is CTC where the model has it and the level, level the
    level alone, off none.
    """

    mode: str = "joint"
    beam_size: int = 8
    weights: JointWeights = field(default_factory=JointWeights)
    max_length: int = 512
    gate: str = "auto"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode is one of {', '.join(MODES)}, not {self.mode!r}")
        if self.gate not in GATES:
            raise ValueError(f"gate is one of {', '.join(GATES)}, not {self.gate!r}")
        if self.beam_size < 1 or self.max_length < 1:
            raise ValueError(f"beam {self.beam_size} and max_length {self.max_length} must be at least 1")


@dataclass(frozen=True)
class Segment:
    """Audio to recognise: float32 (T,) at the front end's rate, and what goes with it into the prompt."""

    samples: np.ndarray
    prompt: str
    system: str = DEFAULT_SYSTEM
    prev_text: str | None = None


@dataclass
class Recognized:
    """What a segment says; texts are None where the mode does not make them.

    text: that of the mode, `raw` the same before FunASR's cleaning.  times: seconds within the segment.
    """

    gate: Gate | None
    text: str = ""
    raw: str = ""
    text_llm: str | None = None
    text_ctc: str | None = None
    text_joint: str | None = None
    candidates: list[Candidate] = field(default_factory=list)
    score: dict[str, Any] = field(default_factory=dict)
    times: list[dict[str, Any]] = field(default_factory=list)
    ctc_times: list[dict[str, Any]] = field(default_factory=list)
    llm_times: list[dict[str, Any]] = field(default_factory=list)


class Recognizer:
    """Recognises batches of segments; ValueError where the mode needs a CTC branch and there is none."""

    def __init__(self, model: FunASRNano, options: Options, device: torch.device | None = None) -> None:
        self.model, self.options = model.eval(), options
        self.device = device or torch.device("cpu")
        self.tokenizer = model.ctc_tokenizer
        self.has_ctc = model.ctc is not None and self.tokenizer is not None
        self.blank = model.blank_id if model.blank_id is not None else -1
        self._normalize: Callable[[str], str] = TextNormalizer()
        if not self.has_ctc and options.mode != "llm":
            raise ValueError(
                f"mode {options.mode} needs the CTC branch, and the checkpoint has no weights of it; "
                f"take mode llm, or a checkpoint with CTC weights"
            )

    @property
    def sample_rate(self) -> int:
        return int(self.model.frontend.fs)

    @torch.inference_mode()
    def recognize(self, segments: Sequence[Segment]) -> list[Recognized]:
        """Give what each segment says; the result does not depend on what else is in the batch."""
        features = [self._features(segment.samples) for segment in segments]
        lengths = torch.tensor([len(one) for one in features], device=self.device)
        speech = torch.nn.utils.rnn.pad_sequence(features, batch_first=True).to(self.device)
        encoder_out, encoder_lens = self.model.encode(speech, lengths)
        frames = encoder_lens.tolist()
        log_probs: list[Tensor | None] = [None] * len(segments)
        if self.has_ctc:
            every = self.model.ctc_log_probs(encoder_out, encoder_lens).float()
            log_probs = [every[row, :count].cpu() for row, count in enumerate(frames)]
        found = [
            Recognized(self._gate(segment, scores))
            for segment, scores in zip(segments, log_probs, strict=True)
        ]
        spoken = [row for row, one in enumerate(found) if one.gate is None or one.gate.silent is None]
        for row in set(range(len(found))) - set(spoken):
            self._say_nothing(found[row])
        if self.has_ctc:
            for row in spoken:
                found[row].text_ctc = ctc_text(_array(log_probs[row]), self._ctc, self.blank)
        if spoken and self.options.mode != "ctc":
            kept = torch.tensor(spoken, device=self.device)
            prompts = self._prompts(encoder_out[kept], encoder_lens[kept], lengths[kept],
                                    [segments[row] for row in spoken])  # fmt: skip
            self._write(prompts, spoken, segments, frames, log_probs, found)
        for row in spoken:
            self._finish(found[row], log_probs[row])
        return found

    @property
    def _ctc(self) -> Any:
        assert self.tokenizer is not None
        return self.tokenizer

    def _features(self, samples: np.ndarray) -> Tensor:
        features: Tensor = self.model.frontend.features(torch.from_numpy(np.ascontiguousarray(samples)))
        return features

    def _gate(self, segment: Segment, log_probs: Tensor | None) -> Gate | None:
        if self.options.gate == "off":
            return None
        scores = _array(log_probs) if log_probs is not None and self.options.gate == "auto" else None
        return gate(segment.samples, self.sample_rate, scores, self.blank)

    def _say_nothing(self, found: Recognized) -> None:
        if self.has_ctc:
            found.text_ctc = ""
        if self.options.mode != "ctc":
            found.text_llm = ""
        if self.options.mode == "joint":
            found.text_joint = ""

    def _prompts(
        self, encoder_out: Tensor, encoder_lens: Tensor, lengths: Tensor, segments: Sequence[Segment]
    ) -> Prompts:
        """Let the language model read the prompts, embedded system message by system message."""
        embeds: list[Tensor | None] = [None] * len(segments)
        for system in dict.fromkeys(segment.system for segment in segments):
            rows = [row for row, segment in enumerate(segments) if segment.system == system]
            at = torch.tensor(rows, device=self.device)
            made = self.model.prompt_embeds(
                encoder_out[at],
                encoder_lens[at],
                lengths[at],
                [segments[row].prompt for row in rows],
                [segments[row].prev_text for row in rows],
                system=system,
            )
            for row, one in zip(rows, made, strict=True):
                embeds[row] = one
        with self.model.llm_autocast(self.device):
            return Prompts(self.model.llm, [one for one in embeds if one is not None])

    def _write(
        self,
        prompts: Prompts,
        spoken: Sequence[int],
        segments: Sequence[Segment],
        frames: Sequence[int],
        log_probs: Sequence[Tensor | None],
        found: list[Recognized],
    ) -> None:
        """Let the language model answer, and in joint mode score the candidates."""
        joint, longest = self.options.mode == "joint", self.options.max_length
        limits = [longest] * len(spoken)
        if joint:
            limits = [min(longest, LEAST_TOKENS + int(TOKENS_PER_FRAME * frames[row])) for row in spoken]
        with self.model.llm_autocast(self.device):
            written = prompts.write(limits, self.options.beam_size, self.model.end_ids)
        for row, one in zip(spoken, written, strict=True):
            before = segments[row].prev_text or ""
            best = one.greedy
            if not joint and one.beam:
                best = one.beam[0]
            found[row].raw = before + self._text(best.tokens)
            found[row].text_llm = clean(found[row].raw)
            found[row].score["logp_llm"] = round(best.log_prob, 4)
        if joint:
            befores = [segments[row].prev_text or "" for row in spoken]
            scores = [_present(log_probs[row]) for row in spoken]
            for row, candidates in zip(
                spoken, self._candidates(prompts, written, befores, scores), strict=True
            ):
                found[row].candidates = candidates

    def _candidates(
        self,
        prompts: Prompts,
        written: Sequence[Written],
        befores: Sequence[str],
        log_probs: Sequence[Tensor],
    ) -> list[list[Candidate]]:
        """Give the texts of beam, greedy path and CTC, each with both log probabilities."""
        named: list[dict[str, tuple[float | None, str]]] = []
        others: list[list[str]] = []
        for one, before, scores in zip(written, befores, log_probs, strict=True):
            texts: dict[str, tuple[float | None, str]] = {}
            ended = [text for text in (*one.beam, one.greedy) if text.ended]
            for continuation in ended or [one.greedy]:
                text = clean(before + self._text(continuation.tokens))
                known = texts.get(text)
                # One text may be written in several ways; its best one stands for it.
                if known is None or known[0] is None or known[0] < continuation.log_prob:
                    texts[text] = (continuation.log_prob, "greedy" if continuation is one.greedy else "llm")
            said = ctc_candidates(scores.numpy(), self._ctc, self.blank, self.options.beam_size)
            others.append([text for text in said if text not in texts])
            named.append(texts)
        tokens = [
            [self._answer(text, before) for text in said if text.startswith(before)]
            for said, before in zip(others, befores, strict=True)
        ]
        with self.model.llm_autocast(self.device):
            values = prompts.score(tokens)
        found = []
        for texts, said, before, scored, scores in zip(
            named, others, befores, values, log_probs, strict=True
        ):
            rest = iter(scored)
            for text in said:
                texts[text] = (next(rest) if text.startswith(before) else None, "ctc")
            found.append(self._scored(texts, scores))
        return found

    def _scored(self, texts: dict[str, tuple[float | None, str]], log_probs: Tensor) -> list[Candidate]:
        """Add what CTC thinks of each text, as written or normalised: a branch may be trained on either."""
        forms = [(text, form) for text in texts for form in dict.fromkeys((text, self._normalize(text)))]
        labels = [self._ctc.encode(form) for _, form in forms]
        likelihoods = ctc_log_likelihoods(log_probs, labels, self.blank)
        best: dict[str, tuple[float, int]] = {}
        for (text, _), value, ids in zip(forms, likelihoods, labels, strict=True):
            if text not in best or value > best[text][0]:
                best[text] = (value, len(ids))
        return [
            Candidate(text, log_prob, best[text][0], best[text][1], source)
            for text, (log_prob, source) in texts.items()
        ]

    def _finish(self, found: Recognized, log_probs: Tensor | None) -> None:
        """Choose the text of the mode and time it."""
        mode = self.options.mode
        if mode == "ctc":
            found.text = found.text_ctc or ""
            if self.options.beam_size > 1:
                found.text = ctc_best(_array(log_probs), self._ctc, self.blank, self.options.beam_size)
            found.raw = found.text
        elif mode == "llm":
            found.text = found.text_llm or ""
        else:
            best = self.options.weights.best(found.candidates)
            found.text = found.raw = found.text_joint = best.text
            found.score |= {"logp_llm": best.log_prob_llm, "logp_ctc": best.log_prob_ctc}
            found.score |= {"joint": self.options.weights.score(best)}
        if log_probs is not None:
            scores = log_probs.numpy()

            def timed(text: str | None) -> list[dict[str, Any]]:
                return timestamps(scores, text or "", self._ctc, self.blank, self.model.frame_s)

            found.ctc_times = timed(found.text_ctc)
            found.times = found.ctc_times if found.text == found.text_ctc else timed(found.text)
            if found.text_llm is not None:
                found.llm_times = found.times if found.text == found.text_llm else timed(found.text_llm)

    def _text(self, tokens: Sequence[int]) -> str:
        return self.model.tokenizer.decode(list(tokens), skip_special=True)

    def _answer(self, text: str, before: str) -> list[int]:
        """Give the tokens of a text as an answer after what is already said of it, the end token included."""
        return [*self.model.tokenizer.encode(text[len(before) :]), self.model.end_ids[0]]


def clean(text: str) -> str:
    """Give the text as FunASR returns it: /sil is a gap, and gaps are single spaces."""
    return re.sub(r"\s+", " ", text.replace("/sil", " "))


def text_tn(raw: str) -> str:
    """Give FunASR's text_tn: letters, digits, underscores and gaps alone."""
    return re.sub(r"[^\w\s\u3000\u4e00-\u9fff]+", "", raw)


def _array(log_probs: Tensor | None) -> np.ndarray:
    return _present(log_probs).numpy()


def _present(log_probs: Tensor | None) -> Tensor:
    assert log_probs is not None
    return log_probs
