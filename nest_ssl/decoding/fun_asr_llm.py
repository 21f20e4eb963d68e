"""What the language model writes after a prompt: greedy and beam search in one pass, scores of given texts.

transformers' generate() spends most of its time on bookkeeping when the model is small, copies the whole
cache at every beam step, and gives the greedy text only in a second run.  Here the prompt's part of the cache
stays where it is, finished utterances leave the batch, and the greedy text comes with the beam.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

GROWTH = 64  # tokens by which the cache grows when it is full
HOPELESS_NATS = 20.0  # a beam so far below the best finished text is given up
LARGEST_LOGITS = 1 << 26  # numbers in one tensor of logits


@dataclass(frozen=True)
class Continuation:
    """Tokens after the prompt, without the end token; log_prob: nats, the end token's included if it came."""

    tokens: tuple[int, ...]
    log_prob: float
    ended: bool


@dataclass
class Written:
    """What one prompt led to: the greedy continuation, and those of the beam, best first."""

    greedy: Continuation
    beam: list[Continuation] = field(default_factory=list)


class _Cache:
    """Keys and values of all layers, (N, heads, length, head width), with room for the tokens to come.

    It has what transformers' attention layers call: update, and get_seq_length.
    """

    is_compileable = False

    def __init__(self) -> None:
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.used = 0

    def get_seq_length(self, layer: int = 0) -> int:
        return self.used

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        if layer == len(self.keys):
            self.keys.append(keys)
            self.values.append(values)
            return keys, values
        end = self.used + keys.shape[2]
        for stored, new in ((self.keys, keys), (self.values, values)):
            if end > stored[layer].shape[2]:
                room = new.new_empty(*new.shape[:2], max(GROWTH, end - stored[layer].shape[2]), new.shape[3])
                stored[layer] = torch.cat([stored[layer], room], dim=2)
            stored[layer][:, :, self.used : end] = new
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def selected(self, rows: Tensor) -> _Cache:
        """Give a cache of its own for some rows, which may come several times."""
        found = _Cache()
        found.keys = [x[:, :, : self.used].index_select(0, rows) for x in self.keys]
        found.values = [x[:, :, : self.used].index_select(0, rows) for x in self.values]
        found.used = self.used
        return found

    def follow(self, parents: Tensor, start: int) -> None:
        """Let every row take over what its parent has from position `start` on."""
        for stored in (*self.keys, *self.values):
            stored[:, :, start : self.used] = stored[:, :, start : self.used].index_select(0, parents)


class Prompts:
    """A batch of prompts that the language model has read.

    llm: transformers' causal language model, such as Qwen3ForCausalLM, in evaluation mode.
    embeds: (L, H) per prompt, in the model's dtype and on its device.
    """

    def __init__(self, llm: Any, embeds: Sequence[Tensor]) -> None:
        if not embeds or any(not len(one) for one in embeds):
            raise ValueError("a prompt of the language model is empty; it has at least one token")
        self.llm, self.device = llm, embeds[0].device
        self.width = max(len(one) for one in embeds)
        padded = embeds[0].new_zeros(len(embeds), self.width, embeds[0].shape[1])
        self.present = torch.zeros(len(embeds), self.width, dtype=torch.bool, device=self.device)
        for row, one in enumerate(embeds):
            padded[row, self.width - len(one) :] = one
            self.present[row, self.width - len(one) :] = True
        self.lengths = self.present.sum(dim=1)
        self.cache = _Cache()
        positions = (self.present.long().cumsum(dim=1) - 1).clamp(min=0)
        square = torch.ones(self.width, self.width, dtype=torch.bool, device=self.device).tril()
        visible = square & self.present[:, None, None, :]
        logits = self._forward(padded, positions, visible, self.cache, last=True)
        self.first = logits[:, -1].float()  # (B, V): of the first token after the prompt

    @torch.inference_mode()
    def write(self, max_tokens: Sequence[int], beam_size: int = 1, end: Sequence[int] = ()) -> list[Written]:
        """Give what follows each prompt, at most `max_tokens` tokens of it; `end`: ids that end a text.

        beam_size 1 is greedy alone.  A beam keeps the `beam_size` most probable unfinished continuations
        after every token and gives as many finished ones, by the sum of log probabilities, no length
        normalised away; where the limit cut them, unfinished ones too.
        """
        return _Search(self, list(max_tokens), beam_size, set(end)).run()

    @torch.inference_mode()
    def score(self, texts: Sequence[Sequence[Sequence[int]]]) -> list[list[float]]:
        """Give ln P of token sequences after each prompt, in nats; an end token counts where it is given."""
        flat = [(row, list(tokens)) for row, given in enumerate(texts) for tokens in given]
        found = [0.0] * len(flat)
        order = sorted(range(len(flat)), key=lambda i: -len(flat[i][1]))
        at = 0
        while at < len(order) and flat[order[at]][1]:
            longest = len(flat[order[at]][1])
            count = max(1, LARGEST_LOGITS // (longest * self.first.shape[1]))
            part = [i for i in order[at : at + count] if flat[i][1]]
            for i, value in zip(part, self._scored([flat[i] for i in part]), strict=True):
                found[i] = value
            at += count
        values = iter(found)
        return [[next(values) for _ in given] for given in texts]

    def _scored(self, items: list[tuple[int, list[int]]]) -> list[float]:
        longest = max(len(tokens) for _, tokens in items)
        rows = torch.tensor([row for row, _ in items], device=self.device)
        ids = torch.zeros(len(items), longest, dtype=torch.long)
        for n, (_, tokens) in enumerate(items):
            ids[n, : len(tokens)] = torch.tensor(tokens)
        ids = ids.to(self.device)
        counted = torch.arange(longest, device=self.device) < torch.tensor(
            [[len(tokens)] for _, tokens in items], device=self.device
        )
        first = self.first[rows].unsqueeze(1)
        if longest > 1:
            steps = torch.arange(longest - 1, device=self.device)
            causal = torch.ones(longest - 1, longest - 1, dtype=torch.bool, device=self.device).tril()
            visible = torch.cat(
                [
                    self.present[rows][:, None, None, :].expand(-1, 1, longest - 1, -1),
                    causal.expand(len(items), 1, -1, -1),
                ],
                dim=3,
            )
            logits = self._forward(
                self.llm.get_input_embeddings()(ids[:, :-1]),
                self.lengths[rows].unsqueeze(1) + steps,
                visible,
                self.cache.selected(rows),
            )
            first = torch.cat([first, logits.float()], dim=1)
        log_probs = first.log_softmax(dim=-1).gather(2, ids.unsqueeze(2)).squeeze(2)
        return log_probs.double().masked_fill(~counted, 0.0).sum(dim=1).tolist()

    @torch.inference_mode()
    def _forward(
        self, embeds: Tensor, positions: Tensor, visible: Tensor, cache: _Cache, last: bool = False
    ) -> Tensor:
        """Give logits (N, L, V), or (N, 1, V) of the last position; visible: (N, 1, L, all), True = seen."""
        mask = torch.zeros(visible.shape, dtype=embeds.dtype, device=self.device)
        mask.masked_fill_(~visible, torch.finfo(embeds.dtype).min)
        logits: Tensor = self.llm(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1 if last else 0,
        ).logits
        cache.used += embeds.shape[1]
        return logits


class _Search:
    """Greedy and beam search over the utterances of a batch that are not finished yet.

    Each utterance has R rows of the batch: row 0 is the greedy one, the others are the beam's.
    """

    def __init__(self, prompts: Prompts, max_tokens: list[int], beam_size: int, end: set[int]) -> None:
        if beam_size < 1 or any(limit < 0 for limit in max_tokens):
            raise ValueError(f"beam_size {beam_size} must be at least 1, and max_tokens not negative")
        if len(max_tokens) != len(prompts.lengths):
            raise ValueError(f"{len(max_tokens)} limits for {len(prompts.lengths)} prompts")
        self.prompts, self.limits, self.end = prompts, max_tokens, end
        self.beam_size = beam_size if beam_size > 1 else 0
        self.rows = 1 + self.beam_size
        count = len(max_tokens)
        device = prompts.device
        self.active = list(range(count))
        self.found = [Written(Continuation((), 0.0, False)) for _ in range(count)]
        self.greedy_done = [False] * count
        self.beam_done = [not self.beam_size] * count
        self.scores = torch.full((count, self.beam_size), -torch.inf, device=device)
        if self.beam_size:
            self.scores[:, 0] = 0.0
        self.tokens = torch.zeros(count, self.rows, 0, dtype=torch.long, device=device)
        self.greedy_score = torch.zeros(count, dtype=torch.float64, device=device)
        vocabulary = prompts.first.shape[1]
        self.is_end = torch.zeros(vocabulary, dtype=torch.bool, device=device)
        self.is_end[[i for i in end if 0 <= i < vocabulary]] = True

    def run(self) -> list[Written]:
        prompts, rows = self.prompts, self.rows
        logits = prompts.first.repeat_interleave(rows, dim=0)
        every = torch.arange(len(self.active), device=prompts.device)
        cache = prompts.cache.selected(every.repeat_interleave(rows))
        visible = prompts.present.repeat_interleave(rows, dim=0)
        positions = prompts.lengths.repeat_interleave(rows)
        for step in range(max([0, *self.limits])):
            self._stop_at_limits(step)
            kept = self._leave_finished()
            if not self.active:
                break
            if kept is not None:
                picked = (kept.unsqueeze(1) * rows + torch.arange(rows, device=prompts.device)).flatten()
                cache, visible, positions = cache.selected(picked), visible[picked], positions[picked]
                logits = logits[picked]
            parents = self._advance(logits.log_softmax(dim=-1))
            if all(self.greedy_done[i] and self.beam_done[i] for i in self.active):
                break
            if self.beam_size and step:
                offsets = torch.arange(len(self.active), device=prompts.device).unsqueeze(1) * rows
                cache.follow((parents + offsets).flatten(), prompts.width)
            visible = torch.cat([visible, visible.new_ones(len(visible), 1)], dim=1)
            logits = prompts._forward(
                prompts.llm.get_input_embeddings()(self.tokens[:, :, -1].reshape(-1, 1)),
                positions.unsqueeze(1),
                visible[:, None, None, :],
                cache,
            )[:, -1].float()
            positions = positions + 1
        self._stop_at_limits(max([0, *self.limits]))
        for one in self.found:
            one.beam.sort(key=lambda text: -text.log_prob)
            del one.beam[max(1, self.beam_size) :]
        return self.found

    def _advance(self, log_probs: Tensor) -> Tensor:
        """Append a token to every row of (active * rows, V); gives the rows they continue, (active, rows)."""
        count, vocabulary = len(self.active), log_probs.shape[1]
        log_probs = log_probs.view(count, self.rows, vocabulary)
        best, token = log_probs[:, 0].max(dim=1)
        self.greedy_score += best.double()
        new_tokens = [token.unsqueeze(1)]
        parents = [torch.zeros(count, 1, dtype=torch.long, device=log_probs.device)]
        if self.beam_size:
            total = (self.scores.unsqueeze(2) + log_probs[:, 1:]).flatten(1)
            wanted = min((1 + len(self.end)) * self.beam_size, total.shape[1])
            values, numbers = total.topk(wanted, dim=1)
            ends = self.is_end[numbers % vocabulary]
            self._collect(values, numbers // vocabulary, ends)
            self.scores, places = (
                values.masked_fill(ends, -torch.inf).topk(self.beam_size, dim=1)
                if wanted >= self.beam_size
                else _padded(values.masked_fill(ends, -torch.inf), self.beam_size)
            )
            chosen = numbers.gather(1, places)
            new_tokens.append(chosen % vocabulary)
            parents.append(chosen // vocabulary + 1)
        parent = torch.cat(parents, dim=1)
        history = self.tokens.gather(1, parent.unsqueeze(2).expand(-1, -1, self.tokens.shape[2]))
        self.tokens = torch.cat([history, torch.cat(new_tokens, dim=1).unsqueeze(2)], dim=2)
        self._end_greedy(token)
        self._end_beams()
        return parent

    def _collect(self, values: Tensor, parents: Tensor, ends: Tensor) -> None:
        """Keep the continuations of the beam that end with this token; self.tokens is still without it."""
        if not bool(ends.any()):
            return
        for row, column in ends.nonzero().tolist():
            i = self.active[row]
            value = float(values[row, column])
            if value == -torch.inf or self.beam_done[i]:
                continue
            tokens = tuple(self.tokens[row, int(parents[row, column]) + 1].tolist())
            self.found[i].beam.append(Continuation(tokens, value, True))

    def _end_greedy(self, token: Tensor) -> None:
        for row in self.is_end[token].nonzero().flatten().tolist():
            i = self.active[row]
            if not self.greedy_done[i]:
                self.greedy_done[i] = True
                tokens = tuple(self.tokens[row, 0, :-1].tolist())
                self.found[i].greedy = Continuation(tokens, float(self.greedy_score[row]), True)

    def _end_beams(self) -> None:
        """Stop a beam whose unfinished texts can no longer be among the best: probabilities only fall."""
        if not self.beam_size:
            return
        best = self.scores.max(dim=1).values.tolist()
        for row, i in enumerate(self.active):
            if self.beam_done[i]:
                continue
            ended = sorted((text.log_prob for text in self.found[i].beam), reverse=True)
            enough = len(ended) >= self.beam_size and best[row] <= ended[self.beam_size - 1]
            if enough or (ended and best[row] < ended[0] - HOPELESS_NATS) or best[row] == -torch.inf:
                self.beam_done[i] = True

    def _stop_at_limits(self, length: int) -> None:
        """Finish the utterances that may not have more than `length` tokens."""
        for row, i in enumerate(self.active):
            if self.limits[i] > length:
                continue
            if not self.greedy_done[i]:
                self.greedy_done[i] = True
                tokens = tuple(self.tokens[row, 0].tolist())
                self.found[i].greedy = Continuation(tokens, float(self.greedy_score[row]), False)
            if not self.beam_done[i]:
                self.beam_done[i] = True
                for slot, value in enumerate(self.scores[row].tolist()):
                    if value > -torch.inf:
                        tokens = tuple(self.tokens[row, slot + 1].tolist())
                        self.found[i].beam.append(Continuation(tokens, value, False))

    def _leave_finished(self) -> Tensor | None:
        """Let finished utterances leave; gives the rows of `active` that stay, None where all do."""
        stay = [row for row, i in enumerate(self.active) if not (self.greedy_done[i] and self.beam_done[i])]
        if len(stay) == len(self.active):
            return None
        kept = torch.tensor(stay, dtype=torch.long, device=self.prompts.device)
        self.active = [self.active[row] for row in stay]
        self.scores, self.tokens = self.scores[kept], self.tokens[kept]
        self.greedy_score = self.greedy_score[kept]
        return kept


def _padded(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Give `count` columns and their places where there are fewer: the missing ones are impossible."""
    missing = count - values.shape[1]
    places = torch.arange(values.shape[1], device=values.device).expand(len(values), -1)
    return (
        torch.nn.functional.pad(values, (0, missing), value=-torch.inf),
        torch.nn.functional.pad(places, (0, missing)),
    )
