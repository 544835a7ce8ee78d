"""The sampler draws from the policy's whole distribution and reports exactly that distribution."""

from __future__ import annotations

import pytest
import torch
from transformers import GenerationConfig

from align.sampling.sampler import ModelSampler, buckets
from tests import tiny

PROMPTS = [[5, 9, 40], [7], [8, 200, 31, 4, 90, 3], [11, 12], [60, 61, 62, 63, 64]]
MODELS = [tiny.llama, tiny.gpt2]


def sampler(model, **settings):
    defaults = {"pad_id": 0, "stop_ids": [1], "max_new_tokens": 12, "temperature": 1.0}
    return ModelSampler(model, **(defaults | settings))


def draw(model, prompts=PROMPTS, seed=0, **settings):
    generator = torch.Generator().manual_seed(seed)
    return sampler(model, **settings).sample(prompts, generator=generator)


def recomputed(model, prompt, response, temperature):
    """Log-probabilities of one response by one plain forward pass without padding or cache."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
    logprobs = (logits / temperature).log_softmax(-1)
    return logprobs[torch.arange(len(response)), torch.tensor(response)]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_recorded_logprobs_are_those_of_a_plain_forward_pass(model, temperature):
    """P2: also at T = .7, at most 1e-4 apart, where forgetting T is .16 on average."""
    model = model()
    for prompt, sample in zip(PROMPTS, draw(model, temperature=temperature), strict=True):
        expected = recomputed(model, prompt, sample.response, temperature)
        got = torch.tensor(sample.logprobs)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_greedy_is_the_argmax_of_a_plain_forward_pass(model):
    model = model()
    for prompt, sample in zip(PROMPTS, draw(model, temperature=0), strict=True):
        for step, token in enumerate(sample.response):
            logits = model(torch.tensor([prompt + sample.response[:step]])).logits[0, -1]
            assert token == logits.argmax().item()


def test_a_hostile_generation_config_changes_nothing():
    """P1: top-k 20, top-p, penalties and minimum length in the model's config do not take part."""
    model = tiny.llama()
    plain = draw(model)
    model.generation_config = GenerationConfig(
        top_k=20, top_p=0.5, temperature=0.1, repetition_penalty=1.1, min_length=12, do_sample=False
    )
    assert draw(model) == plain


def hostile(model):
    model.generation_config = GenerationConfig(
        top_k=20, repetition_penalty=1.1, suppress_tokens=[7], pad_token_id=0
    )
    return model


def test_what_a_hostile_generation_config_does_to_generate():
    """P1: `generate` keeps 20 of 300 tokens; the other scores are −∞ and no longer logits / T."""
    found = hostile(tiny.llama()).generate(
        torch.tensor([[5, 9, 40]]),
        do_sample=True,
        temperature=0.7,
        max_new_tokens=4,
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
    )
    for scores, logits in zip(found.scores, found.logits, strict=True):
        assert logits.isfinite().all()
        assert scores.isfinite().sum() <= 20


def test_samples_follow_the_full_softmax():
    """P1: 20,000 first tokens: total variation from softmax(logits / T) at the level of chance.

    The fifty likeliest of 300 tokens hold .44 of the mass here, so top-k 50 would be .56 off.
    """
    model, temperature = hostile(tiny.llama(hidden_size=8)), 0.7
    samples = draw(
        model, [[5, 9]] * 20_000, max_new_tokens=1, temperature=temperature, batch_size=2000
    )
    counts = torch.zeros(300)
    for sample in samples:
        counts[sample.response[0]] += 1
    with torch.no_grad():
        exact = (model(torch.tensor([[5, 9]])).logits[0, -1] / temperature).softmax(-1)
    by_chance = (2 / torch.pi * exact * (1 - exact) / 20_000).sqrt().sum().item() / 2
    distance = (counts / 20_000 - exact).abs().sum().item() / 2
    assert distance < 1.25 * by_chance < 0.06
    assert exact.topk(50).values.sum() < 0.45


def test_batch_size_and_order_change_speed_only():
    """A prompt's sample is the same among 20 or 3, though rows are sorted and dropped."""
    model, prompts = tiny.llama(), PROMPTS * 4
    stops = list(range(1, 60))
    together = draw(model, prompts, stop_ids=stops, batch_size=64)
    apart = draw(model, prompts, stop_ids=stops, batch_size=3)
    assert [s.response for s in together] == [s.response for s in apart]
    lengths = {len(sample.response) for sample in together}
    assert len(lengths) > 3
    for sample, other in zip(together, apart, strict=True):
        assert sample.logprobs == pytest.approx(other.logprobs, abs=1e-5)


def test_a_response_ends_with_the_first_of_several_stop_tokens_or_is_unfinished():
    """P7: the response holds one stop token, its last; one that hit the limit holds none."""
    stops = list(range(1, 60))
    samples = draw(tiny.llama(), PROMPTS * 8, stop_ids=stops)
    assert {sample.finished for sample in samples} == {True, False}
    for sample in samples:
        assert len(sample.logprobs) == len(sample.response)
        assert not set(sample.response[:-1]) & set(stops)
        assert (sample.response[-1] in stops) == sample.finished
        assert sample.finished or len(sample.response) == 12


def test_stop_tokens_in_the_prompt_stop_nothing():
    """P8: only what was sampled can finish a response."""
    (sample,) = draw(tiny.llama(), [[1, 5, 1]], stop_ids=[1], max_new_tokens=2)
    assert len(sample.response) == 2
    assert not sample.finished


def test_the_model_is_left_in_the_mode_it_was_in_and_dropout_is_off_meanwhile():
    """P9: a training model with dropout .1 samples as its evaluating self, then trains on."""
    model = tiny.gpt2()
    quiet = draw(model)
    model.train()
    model.transformer.h[0].eval()
    before = [module.training for module in model.modules()]
    assert draw(model) == quiet
    assert [module.training for module in model.modules()] == before


def test_the_generator_decides():
    model = tiny.llama()
    assert draw(model, seed=1) == draw(model, seed=1)
    assert draw(model, seed=1) != draw(model, seed=2)


def test_buckets_hold_like_lengths_and_every_index_once():
    groups = buckets([3, 9, 1, 8, 2], 2)
    assert groups == [[1, 3], [0, 4], [2]]


def test_errors_name_the_prompt_and_the_remedy():
    with pytest.raises(ValueError, match="prompt 1 has no tokens"):
        draw(tiny.llama(), [[5], []])
    with pytest.raises(ValueError, match=r"prompt 0 has 250 tokens.*256 positions; shorten"):
        draw(tiny.llama(), [[5] * 250])
    with pytest.raises(ValueError, match="max_new_tokens=0"):
        draw(tiny.llama(), max_new_tokens=0)


def fed_tokens(model) -> list[int]:
    """Tokens, padding included, of each pass of the model, as they come."""
    passes: list[int] = []
    model.get_input_embeddings().register_forward_hook(
        lambda _, inputs, output: passes.append(inputs[0].numel())
    )
    return passes


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("batch_size", [64, 8, 3])
def test_responses_to_one_prompt_are_those_of_the_prompt_repeated(model, batch_size):
    """Four each, in the order of the prompts, whether they fit into a batch or not."""
    model, stops = model(), list(range(1, 60))
    repeated = draw(model, [prompt for prompt in PROMPTS for _ in range(4)], stop_ids=stops)
    generator = torch.Generator().manual_seed(0)
    together = sampler(model, stop_ids=stops, batch_size=batch_size).sample(
        PROMPTS, generator=generator, responses_per_prompt=4
    )
    assert [s.response for s in together] == [s.response for s in repeated]
    assert len({tuple(s.response) for s in together[:4]}) > 1
    for one, other in zip(together, repeated, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


def test_responses_to_one_prompt_share_its_pass():
    """5 prompts, padded to 6 tokens, feed 30 and not 120; then one token per row and step."""
    model = tiny.llama()
    passes = fed_tokens(model)
    generator = torch.Generator().manual_seed(0)
    sampler(model, stop_ids=[299], max_new_tokens=3).sample(
        PROMPTS, generator=generator, responses_per_prompt=4
    )
    assert passes == [30, 20, 20]


def test_finished_rows_are_no_longer_fed():
    """Rows that stopped are dropped from an eighth of the batch on; the last stop is the end."""
    model = tiny.llama()
    passes = fed_tokens(model)
    samples = draw(model, PROMPTS * 8, stop_ids=range(1, 150))
    lengths = [len(sample.response) for sample in samples]
    assert len(passes) == max(lengths) < 12
    for step, fed in enumerate(passes[1:], 1):
        going = sum(length > step for length in lengths)
        assert going <= fed <= going * 8 / 7
