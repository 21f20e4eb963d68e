"""What the language model reads of a conversation: token ids, labels, and where the audio goes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from nest_ssl.data.fun_asr_prompt import MultiContextPrompt
from nest_ssl.data.fun_asr_rows import Conversation
from nest_ssl.data.messages import PLACEHOLDER
from nest_ssl.data.prompts import START, TURN_END

IGNORED = -100  # the label of what is not learnt
AUDIO_ID = 0  # stands where the audio's embeddings go
NO_THINKING = "<think>\n\n</think>\n\n"
PIECES_KEPT = 4096  # encoded pieces of prompts; prompts repeat, texts do not


class Encoder(Protocol):
    """A tokenizer; picklable."""

    def encode(self, text: str) -> list[int]: ...


@dataclass(frozen=True)
class SampleSettings:
    """FunASR's dataset_conf keys for a sample, by its names."""

    sys_prompt: bool = True
    do_think: bool = True
    multiturn_num_max: int = 5
    use_dynamic_output_ratio: float = 0.0
    min_mask_token_len: int = 1
    min_non_mask_token_len: int = 6


@dataclass
class Sample:
    """One conversation for the collator.

    input_ids, labels: (L,) int64, labels -100 where nothing is learnt.  fbank_beg, fake_token_len: one number
    per turn, -1 and 0 for a turn without audio.  speech: (T, D) float32 of each turn with audio, with
    ctc_targets (U,) int64 and ctc_texts beside it.  text: of the last turn.  seconds: of audio.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    fbank_beg: list[int]
    fake_token_len: list[int]
    speech: list[Tensor]
    ctc_targets: list[np.ndarray] = field(default_factory=list)
    ctc_texts: list[str] = field(default_factory=list)
    text: str = ""
    utterance_id: str = ""
    item: int = -1
    seconds: float = 0.0
    text_tokens: list[int] = field(default_factory=list)  # of each answer, <|im_end|> left out


class SampleBuilder:
    """Builds samples as FunASR 1.4.16 does: each piece of text around the audio is encoded by itself.

    llm_tokens_of: (N,) int64 lengths of features to the (N,) LLM tokens that their audio takes.
    context: what goes before the first prompt, None for nothing.  ctc_tokenizer None: no CTC targets.
    ctc_text: normalises a transcript for CTC.
    """

    def __init__(
        self,
        tokenizer: Encoder,
        llm_tokens_of: Callable[[Tensor], Any],
        settings: SampleSettings | None = None,
        context: MultiContextPrompt | None = None,
        ctc_tokenizer: Encoder | None = None,
        ctc_text: Callable[[str], str] | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.llm_tokens_of = llm_tokens_of
        self.settings = settings or SampleSettings()
        self.context = context
        self.ctc_tokenizer = ctc_tokenizer
        self.ctc_text = ctc_text
        self._pieces: dict[str, list[int]] = {}
        self._audio_tokens: dict[int, int] = {}

    def sample(
        self,
        conversation: Conversation,
        features: Sequence[Tensor | None],
        shuffler: random.Random,
        draws: np.random.RandomState,
    ) -> Sample:
        """Give the sample of a conversation; features: (T, D) float32 of each turn, None without audio."""
        ids: list[int] = []
        labels: list[int] = []
        sample = Sample(np.zeros(0), np.zeros(0), [], [], [], utterance_id=conversation.utterance_id)
        turns = conversation.turns[: self.settings.multiturn_num_max]
        for number, (turn, feature) in enumerate(zip(turns, features, strict=False)):
            context = ""
            if self.context is not None:  # drawn in every turn, though only the first one says it
                context = self.context.prompt(conversation.row, turn.user.split(START)[0], shuffler, draws)
            pieces = self.pieces(conversation, number, context)
            source = list(self._encoded(pieces[0]))
            begin, count = -1, 0
            if feature is not None:
                count = self.audio_tokens(len(feature))
                begin = len(ids) + len(source)
                source += [AUDIO_ID] * count + self._encoded(pieces[1])
                sample.speech.append(feature)
                if self.ctc_tokenizer is not None:
                    text = self.ctc_text(turn.transcript) if self.ctc_text else turn.transcript
                    sample.ctc_texts.append(text)
                    sample.ctc_targets.append(np.array(self.ctc_tokenizer.encode(text), np.int64))
            if turn.before is not None:
                source += self.tokenizer.encode(turn.before)
            target = self.tokenizer.encode(turn.text + TURN_END)
            ids += source + target
            labels += [IGNORED] * len(source) + self._learnt(target, draws)
            sample.fbank_beg.append(begin)
            sample.fake_token_len.append(count)
            sample.text_tokens.append(len(target) - 1)
            sample.text = turn.text
        sample.input_ids, sample.labels = np.array(ids, np.int64), np.array(labels, np.int64)
        return sample

    def pieces(self, conversation: Conversation, number: int, context: str = "") -> list[str]:
        """Give the text of turn `number` before the audio, and behind it where it has audio."""
        user = conversation.turns[number].user
        if number == 0:
            head = (
                f"<|im_start|>system\n{conversation.system}{TURN_END}\n" if self.settings.sys_prompt else ""
            )
            head += f"<|im_start|>user\n{context}"
        else:
            head = "<|im_start|>user\n"
        tail = f"{TURN_END}\n<|im_start|>assistant\n{'' if self.settings.do_think else NO_THINKING}"
        if conversation.turns[number].audio is None:
            return [head + user + tail]
        before, _, after = PLACEHOLDER.split(user)
        return [head + before, after + tail]

    def prompt_tokens(self, conversation: Conversation) -> int:
        """Give the LLM tokens of everything but audio and answers, <|im_end|> of the answers included.

        The context of MultiContextPrompt counts as without words drawn at random.
        """
        count = 0
        for number in range(min(len(conversation.turns), self.settings.multiturn_num_max)):
            context = ""
            if self.context is not None and number == 0:
                user = conversation.turns[0].user.split(START)[0]
                context = self.context.prompt(
                    conversation.row, user, random.Random(0), np.random.RandomState(0)
                )
            count += 1 + sum(
                len(self._encoded(piece)) for piece in self.pieces(conversation, number, context)
            )
        return count

    def audio_tokens(self, frames: int) -> int:
        """Give the LLM tokens of audio with so many feature frames."""
        if frames not in self._audio_tokens:
            found = torch.as_tensor(self.llm_tokens_of(torch.tensor([frames])))
            self._audio_tokens[frames] = int(found.reshape(-1)[0])
        return self._audio_tokens[frames]

    def _learnt(self, target: list[int], draws: np.random.RandomState) -> list[int]:
        """Give the labels of an answer, the first of them left out at use_dynamic_output_ratio."""
        settings = self.settings
        if draws.rand() >= settings.use_dynamic_output_ratio:
            return target
        count = len(target)
        least, kept = min(settings.min_mask_token_len, count), min(settings.min_non_mask_token_len, count)
        end = draws.randint(least, count - kept) if count - kept > least else count - kept
        return [IGNORED] * end + target[end:]

    def _encoded(self, piece: str) -> list[int]:
        found = self._pieces.get(piece)
        if found is None:
            found = self.tokenizer.encode(piece)
            if len(self._pieces) < PIECES_KEPT:
                self._pieces[piece] = found
        return found
