"""Our search against transformers' generate()."""

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="the language model needs transformers")

from nest_ssl.decoding.fun_asr_llm import Prompts  # noqa: E402

VOCABULARY, END, WIDTH = 12, 11, 32
LIMITS = [15, 15, 15, 5]


@pytest.fixture(scope="module")
def llm():
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, bos_token_id=None, eos_token_id=END,
        pad_token_id=END,
    )  # fmt: skip
    model = transformers.Qwen3ForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)  # far from uniform, so that greedy and beam differ
    return model


@pytest.fixture(scope="module")
def embeds():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, WIDTH, generator=generator) * 0.5 for length in (5, 9, 7, 12)]


def generate(llm, embed, limit, **options):
    mask = torch.ones(1, len(embed), dtype=torch.long)
    return llm.generate(
        inputs_embeds=embed[None], attention_mask=mask, max_new_tokens=limit, do_sample=False, **options
    )


def before_end(tokens):
    return tuple(tokens[: tokens.index(END)] if END in tokens else tokens)


def test_greedy_text_is_that_of_generate(llm, embeds):
    written = Prompts(llm, embeds).write(LIMITS, 1, [END])
    for embed, limit, one in zip(embeds, LIMITS, written, strict=True):
        assert one.greedy.tokens == before_end(generate(llm, embed, limit)[0].tolist())
        assert one.greedy.ended == (len(one.greedy.tokens) < limit)


def test_greedy_text_comes_with_the_beam_unchanged(llm, embeds):
    prompts = Prompts(llm, embeds)
    alone, beside = prompts.write(LIMITS, 1, [END]), prompts.write(LIMITS, 4, [END])
    assert [one.greedy.tokens for one in alone] == [one.greedy.tokens for one in beside]


def plain_beam_search(llm, embed, limit, size):
    """The definition: every beam is read anew from its beginning, one token longer each time."""
    live, ended = [((), 0.0)], []
    for _ in range(limit):
        longer = []
        for tokens, score in live:
            ids = torch.tensor(tokens, dtype=torch.long)
            inputs = torch.cat([embed, llm.get_input_embeddings()(ids)])[None]
            log_probs = llm(inputs_embeds=inputs).logits[0, -1].log_softmax(-1)
            longer += [((*tokens, i), score + value) for i, value in enumerate(log_probs.tolist())]
        longer.sort(key=lambda one: -one[1])
        ended += [one for one in longer[: 2 * size] if one[0][-1] == END]
        live = [one for one in longer[: 2 * size] if one[0][-1] != END][:size]
    return sorted([(tokens[:-1], score) for tokens, score in ended] + live, key=lambda one: -one[1])[:size]


@pytest.mark.parametrize("row", [0, 1])
def test_beam_is_that_of_the_plain_search(llm, embeds, row):
    with torch.no_grad():
        expected = plain_beam_search(llm, embeds[row], 6, 4)
    found = Prompts(llm, embeds).write([6] * 4, 4, [END])[row].beam
    assert [one.tokens for one in found] == [tokens for tokens, _ in expected]
    assert [one.log_prob for one in found] == pytest.approx([score for _, score in expected], abs=1e-4)


def test_beam_finds_what_generate_finds_or_better(llm, embeds):
    found = Prompts(llm, embeds[:1]).write([15], 4, [END])[0].beam
    expected = generate(
        llm, embeds[0], 15, num_beams=4, num_return_sequences=4, length_penalty=0.0, output_scores=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    assert found[0].tokens == before_end(expected.sequences[0].tolist())
    pairs = zip(found, expected.sequences_scores.tolist(), strict=True)
    assert all(one.log_prob >= score - 1e-4 for one, score in pairs)


def test_batch_gives_what_single_prompts_give(llm, embeds):
    together = Prompts(llm, embeds).write(LIMITS, 4, [END])
    for embed, limit, one in zip(embeds, LIMITS, together, strict=True):
        alone = Prompts(llm, [embed]).write([limit], 4, [END])[0]
        assert [text.tokens for text in one.beam] == [text.tokens for text in alone.beam]
        assert one.greedy.tokens == alone.greedy.tokens


def test_scores_are_those_of_the_search(llm, embeds):
    prompts = Prompts(llm, embeds)
    written = prompts.write(LIMITS, 4, [END])
    given = [[[*text.tokens, *[END] * text.ended] for text in one.beam] for one in written]
    for one, scores in zip(written, prompts.score(given), strict=True):
        assert scores == pytest.approx([text.log_prob for text in one.beam], abs=1e-3)


def test_scores_are_those_of_the_whole_sequence(llm, embeds):
    tokens = [3, 1, 4, END]
    whole = torch.cat([embeds[1], llm.get_input_embeddings()(torch.tensor(tokens))])[None]
    logits = llm(inputs_embeds=whole).logits[0].log_softmax(-1)
    expected = sum(logits[len(embeds[1]) - 1 + i, token].item() for i, token in enumerate(tokens))
    found = Prompts(llm, embeds).score([[[1]], [tokens, [3]], [], [[]]])
    assert found[1][0] == pytest.approx(expected, abs=1e-3)
    assert len(found[1]) == 2 and found[2] == [] and found[3] == [0.0]


def test_limits_end_every_text(llm, embeds):
    for one, limit in zip(Prompts(llm, embeds).write([0, 1, 2, 3], 4, [END]), [0, 1, 2, 3], strict=True):
        assert all(len(text.tokens) <= limit for text in [one.greedy, *one.beam])


def test_an_empty_prompt_is_refused(llm):
    with pytest.raises(ValueError, match="empty"):
        Prompts(llm, [torch.zeros(0, WIDTH)])
