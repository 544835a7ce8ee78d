"""KL to the reference against enumeration in float64; answers in their order."""

from __future__ import annotations

import copy
import functools
import itertools

import numpy as np
import pytest
import torch

from align.evaluation import generations
from align.evaluation.generations import GenerationSettings, answer, kl_to_reference
from align.sampling.sampler import Sample
from tests import tiny

VOCABULARY, STOP = 6, 1
PROMPTS = [[2, 3], [4]]


def settings(**settings: int) -> GenerationSettings:
    chosen = {"pad_id": 0, "max_new_tokens": 3, "batch_size": 4, "seed": 0} | settings
    return GenerationSettings(stop_ids=[STOP], **chosen)


def logprobs(model: torch.nn.Module, ids: list[int], temperature: float = 1.0) -> torch.Tensor:
    """log π(· | ids), [v], float64."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, -1].double()
    return (logits / temperature).log_softmax(-1)


def all_responses(length: int) -> list[list[int]]:
    """Every response that ends with the stop token or at the length limit."""
    found = []
    for n in range(1, length + 1):
        for ids in itertools.product(range(VOCABULARY), repeat=n):
            if STOP not in ids[:-1] and (ids[-1] == STOP or n == length):
                found.append(list(ids))
    return found


@pytest.fixture(scope="module")
def models() -> tuple[torch.nn.Module, torch.nn.Module]:
    return tuple(tiny.llama(seed, vocab_size=VOCABULARY) for seed in (3, 4))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_mean_over_answers_is_the_kl_between_their_distributions(
    models: tuple[torch.nn.Module, torch.nn.Module], temperature: float
) -> None:
    """Σ_y π(y) · kl(y) == Σ_y π(y) (log π(y) − log π_ref(y)), over every answer there is."""
    policy, reference = models
    responses = all_responses(3)
    prompt = PROMPTS[0]
    sums = []
    for model in models:
        after = functools.cache(lambda *ids, m=model: logprobs(m, [*prompt, *ids], temperature))
        steps = [[after(*ids[:t])[token] for t, token in enumerate(ids)] for ids in responses]
        sums.append(torch.stack([torch.stack(step).sum() for step in steps]))
    pi, ratio = sums[0].exp(), sums[0] - sums[1]
    assert pi.sum() == pytest.approx(1.0, abs=1e-9)
    answers = [[Sample(response, response[-1] == STOP, []) for response in responses]]
    measured = kl_to_reference(
        policy, reference, [prompt], answers, settings(), temperature=temperature
    )
    exact = float((pi * ratio).sum())
    assert exact > 0.1
    assert float((pi * torch.tensor(measured[0]).double()).sum()) == pytest.approx(exact, rel=1e-5)


def test_kl_is_summed_over_the_answers_own_tokens(
    models: tuple[torch.nn.Module, torch.nn.Module],
) -> None:
    policy, reference = models
    answers = [[Sample([5, 2, 1], True, []), Sample([1], True, [])], [Sample([3, 3, 3], False, [])]]
    found = kl_to_reference(policy, reference, PROMPTS, answers, settings())
    for prompt, its, nats in zip(PROMPTS, answers, found, strict=True):
        for sample, measured in zip(its, nats, strict=True):
            exact = 0.0
            for t in range(len(sample.response)):
                ours, theirs = (logprobs(m, prompt + sample.response[:t]) for m in models)
                exact += float((ours.exp() * (ours - theirs)).sum())
            assert measured == pytest.approx(exact, rel=1e-4)


def test_kl_does_not_depend_on_how_much_is_computed_at_once(
    models: tuple[torch.nn.Module, torch.nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, reference = models
    answers = answer(policy, PROMPTS, settings(), temperature=1.0, samples=5)
    whole = kl_to_reference(policy, reference, PROMPTS, answers, settings())
    monkeypatch.setattr(generations, "LOGITS_AT_ONCE", 1)
    pieces = kl_to_reference(policy, reference, PROMPTS, answers, settings())
    assert np.array(pieces) == pytest.approx(np.array(whole), rel=1e-4)
    itself = kl_to_reference(policy, policy, PROMPTS, answers, settings())
    assert np.array(itself) == pytest.approx(np.zeros((2, 5)), abs=1e-6)


def test_kl_of_weights_in_bfloat16_is_that_of_the_same_weights_in_float32() -> None:
    """A nudge of 3e-4 is 4e-4 nats an answer; passes in bfloat16 would say 1.4e-3."""
    policy = tiny.llama(3).bfloat16()
    reference = copy.deepcopy(policy)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 3e-4 * torch.randn(weight.shape, generator=generator)
    in_full = [copy.deepcopy(model).float() for model in (policy, reference)]
    chosen = settings(max_new_tokens=12)
    answers = answer(in_full[0], PROMPTS, chosen, temperature=1.0, samples=5)
    expected = kl_to_reference(*in_full, PROMPTS, answers, chosen)
    measured = kl_to_reference(policy, reference, PROMPTS, answers, chosen)
    assert np.array(measured) == pytest.approx(np.array(expected), rel=1e-4)
    assert policy.dtype == reference.dtype == torch.bfloat16


def test_each_prompt_gets_its_samples_and_greedy_repeats_itself(
    models: tuple[torch.nn.Module, torch.nn.Module],
) -> None:
    policy = models[0]
    sampled = answer(policy, PROMPTS, settings(max_new_tokens=8), temperature=1.0, samples=6)
    assert [len(its) for its in sampled] == [6, 6]
    assert len({tuple(sample.response) for sample in sampled[0]}) > 1
    greedy = answer(policy, PROMPTS, settings(), temperature=0.0, samples=2)
    for prompt, its in zip(PROMPTS, greedy, strict=True):
        assert its[0] == its[1]
        assert its[0].response[0] == int(logprobs(policy, prompt).argmax())
