"""On every architecture sampling records what a plain forward pass computes, and repeats itself."""

from __future__ import annotations

import functools

import pytest
import torch

from align.sampling.decoding import StaticDecoding, full_attention
from align.sampling.sampler import ModelSampler
from tests import architectures

PROMPTS = [[5, 9, 40], [7], [8, 200, 31, 4, 90, 3], list(range(60, 73))]
STOPS = range(1, 40)  # an eighth of the vocabulary
KINDS = [
    *("llama", "qwen3", "qwen3_moe", "qwen3_5", "gemma2", "gemma3", "mistral", "phi3", "gpt2"),
    *("olmo2", "mamba2"),
    *("bamba", "falcon", "falcon_h1", "gemma3_text", "granitemoehybrid", "jamba", "lfm2"),
    *("llama4_text", "mamba", "mixtral", "qwen3_next", "starcoder2"),
]
build = functools.cache(architectures.build)


def draw(model, decoding=None, **settings):
    settings = {"stop_ids": STOPS, "max_new_tokens": 12} | settings
    sampler = ModelSampler(model, pad_id=0, **settings)
    if decoding is not None:
        sampler.decoding = decoding
    generator = torch.Generator().manual_seed(0)
    return sampler.sample(PROMPTS, generator=generator, responses_per_prompt=2)


def recomputed(model, prompt, response):
    """Log-probabilities by one pass without padding, mask or cache."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + response]), use_cache=False).logits
    logprobs = logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return logprobs[torch.arange(len(response)), torch.tensor(response)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_recorded_is_what_a_plain_pass_computes(kind):
    """Prompts of 1 to 13 tokens, two rows of each, windows of 8: at most 1e-4 apart."""
    model = build(kind)
    samples = draw(model)
    lengths = {len(sample.response) for sample in samples}
    assert 12 in lengths  # past the window
    assert len(lengths) > 2  # rows were dropped on the way
    for row, sample in enumerate(samples):
        expected = recomputed(model, PROMPTS[row // 2], sample.response)
        torch.testing.assert_close(torch.tensor(sample.logprobs), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["mistral", "qwen3_5", "falcon_h1", "mamba", "gemma3"])
def test_batch_size_changes_speed_only(kind):
    """Rows repeated, bucketed and dropped give what each prompt gives alone."""
    model = build(kind)
    for one, other in zip(draw(model), draw(model, batch_size=1), strict=True):
        assert one.response == other.response
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if full_attention(build(kind))])
def test_where_all_of_the_past_is_seen_fixed_shapes_give_the_same(kind):
    model = build(kind)
    for one, other in zip(draw(model), draw(model, StaticDecoding), strict=True):
        assert one.response == other.response
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
