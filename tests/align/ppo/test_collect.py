"""Steps 1 to 5 of PPO: every number stays with its episode, token and model."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import GenerationConfig

from align.data import EncodedPrompt
from align.ppo import train as ppo
from align.ppo.train import estimate_advantages, measure, score, shape_rewards
from align.sampling.sampler import Sample, collate
from tests import tiny_roles
from tests.oracles import maths as oracle
from tests.tabular import TabularRoles
from tests.tiny_ppo import collect, generator
from tests.tiny_roles import IDS, PROMPTS, Log

EOS, CUSTOM = 1, 2
NEXT = {3: 5, 4: 6, 7: 8, 5: EOS, 6: CUSTOM, EOS: 9, CUSTOM: 9}
"""What follows each token; 8 otherwise. Prompts that end in 3, 4 or 7 go 5 EOS, 6 CUSTOM, 8 8 …"""
SCRIPT = torch.full((10, 10), -1e4)
for token in range(10):
    SCRIPT[token, NEXT.get(token, 8)] = 1e4


@pytest.mark.parametrize(
    ("stop_ids", "finished"),
    [
        ([EOS], [True, False, False, False]),
        ([CUSTOM], [False, True, False, False]),
        ([EOS, CUSTOM], [True, True, False, False]),
        ([], [False, False, False, False]),
    ],
    ids=["eos", "custom", "both", "none"],
)
def test_the_stop_tokens_configured_decide_who_is_punished(stop_ids, finished):
    """P8: answers with eos, with a custom stop, with none, and eos in the prompt only: 4 × 4."""
    roles = TabularRoles(
        SCRIPT, SCRIPT, lambda batch: torch.full((len(batch),), 3.0), stop_ids=stop_ids
    )
    config = tiny_roles.config(max_new_tokens=4, missing_eos_penalty=-1.0)
    prompts = [EncodedPrompt(ids) for ids in ([3], [4], [7], [EOS, EOS, 7])]
    found = collect(roles, config, prompts=prompts)
    assert [sample.finished for sample in found.samples] == finished
    assert found.scores.tolist() == [3.0 if each else -1.0 for each in finished]
    lengths = found.sequences.response_mask.sum(-1).tolist()
    assert lengths == [2 if each else 4 for each in finished]


def test_a_finished_response_is_scored_at_the_stop_token_of_the_reward_model():
    """R1: whichever stop token was sampled; what is unfinished is scored as far as it goes."""
    roles = tiny_roles.separate(stop_ids=[1, 2], reward_stop_id=1)
    config = tiny_roles.config(micro_batch_size=2)
    words, prompt = [40, 41, 42], IDS[0]
    samples = [
        Sample([*words, 1], True, []),
        Sample([*words, 2], True, []),
        Sample(words, False, []),
    ]
    batch = collate([prompt] * 3, samples, pad_id=0)
    before = batch.input_ids.clone()
    _, scores = score(roles, samples, batch, config)
    plain = roles.scores(batch)
    assert scores[1].item() == pytest.approx(plain[0].item(), abs=1e-5)
    assert scores[[0, 2]].tolist() == pytest.approx(plain[[0, 2]].tolist(), abs=1e-5)
    assert abs(plain[0] - plain[1]) > 0.1
    assert torch.equal(batch.input_ids, before)  # what the policy learns from is what it sampled


def test_scores_stay_with_their_episodes():
    """Scored in groups of like length, and given back in the order of the prompts."""
    roles = tiny_roles.separate()
    roles.scores = lambda batch: batch.response_ids[:, 0].float()
    samples = [Sample([40 + n] * length, True, []) for n, length in enumerate([2, 5, 1, 4, 3])]
    sequences = collate(IDS[:5], samples, pad_id=0)
    _, raw_scores = score(roles, samples, sequences, tiny_roles.config(micro_batch_size=2))
    assert raw_scores.tolist() == [40, 41, 42, 43, 44]


def test_micro_batches_do_not_change_what_is_collected():
    """P17: advantages are whitened over the rollout, whether measured 12, 5 or 1 at a time."""
    cuts = [{"micro_batch_size": size} for size in (12, 5, 1)] + [{"micro_batch_tokens": 30}]
    whole, *parts = (
        collect(tiny_roles.separate(), tiny_roles.config(**cut)).rollout for cut in cuts
    )
    for part in parts:
        torch.testing.assert_close(part.advantages, whole.advantages, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(part.returns, whole.returns, rtol=1e-4, atol=1e-5)


def test_tokens_weigh_as_likely_as_the_sampler_had_made_them_up_to_the_cap():
    """P3: π / π_sampler = e^.4 on half the rows, e^−.4 on the others, capped at 1.2."""
    roles, config = tiny_roles.separate(), tiny_roles.config()
    found = collect(roles, config)
    shift = torch.where(torch.arange(12) % 2 == 0, 0.4, -0.4)[:, None]
    measured = found.measured._replace(sampled=found.measured.logprobs - shift)
    weighted = tiny_roles.config(importance_cap=1.2)
    rewards = torch.zeros_like(measured.logprobs)
    plain, other = (
        estimate_advantages(rewards, measured, found.sequences, c) for c in (config, weighted)
    )
    weights = torch.where(shift > 0, 1.2, math.exp(-0.4))
    torch.testing.assert_close(other.advantages, plain.advantages * weights, rtol=1e-5, atol=1e-6)
    assert torch.equal(other.returns, plain.returns)


def test_a_hostile_generation_config_leaves_sampler_and_trainer_in_agreement():
    """P1, P2: top-k 20 and a penalty in the model's config; T = .7; log π to 1e-4."""
    roles = tiny_roles.separate()
    roles.policy.generation_config = GenerationConfig(top_k=20, repetition_penalty=1.1)
    config = tiny_roles.config(temperature=0.7)
    found = collect(roles, config)
    sampled = torch.tensor([x for each in found.samples for x in each.logprobs])
    measured = found.measured.logprobs[found.sequences.response_mask]
    torch.testing.assert_close(sampled, measured, rtol=0, atol=1e-4)
    untempered = measure(roles, found.samples, found.sequences, tiny_roles.config()).logprobs
    assert (untempered[found.sequences.response_mask] - sampled).abs().mean() > 0.1


def test_missing_eos_table():
    """P8: both rules on scores of any size; by the sampler's word, not by ids."""
    roles = tiny_roles.separate(stop_ids=[1, 2])
    samples = [
        Sample([50, 1], True, [0.0] * 2),
        Sample([50, 2], True, [0.0] * 2),
        Sample([50, 51], False, [0.0] * 2),
        Sample([52, 53], False, [0.0] * 2),
    ]
    sequences = collate([[5], [5], [5], [1, 5, 1]], samples, pad_id=0)
    replace = tiny_roles.config(missing_eos="replace", missing_eos_penalty=-1.0)
    subtract = tiny_roles.config(missing_eos="subtract", missing_eos_penalty=1.0)
    replaced, raw = score(roles, samples, sequences, replace)
    subtracted, _ = score(roles, samples, sequences, subtract)
    assert torch.equal(replaced, torch.tensor([raw[0], raw[1], -1.0, -1.0]))
    assert torch.equal(subtracted, torch.tensor([raw[0], raw[1], raw[2] - 1, raw[3] - 1]))


def test_scores_are_normalised_and_clipped_before_the_missing_eos_rule():
    roles = tiny_roles.separate(reward_mean=1.0, reward_std=0.1)
    found = collect(roles, tiny_roles.config(reward_clip=2.0, missing_eos_penalty=-7.0))
    finished = torch.tensor([each.finished for each in found.samples])
    expected = ((found.raw_scores - 1.0) / 0.1).clamp(-2, 2)
    assert finished.any()
    assert not finished.all()
    torch.testing.assert_close(found.scores[finished], expected[finished])
    assert (found.scores[finished.logical_not()] == -7).all()


def test_an_affine_reward_model_gives_the_same_advantages_once_normalised():
    """P16: r → 3 r + 2 with its own mean and standard deviation."""
    config = tiny_roles.config()
    plain = tiny_roles.separate(reward_mean=0.2, reward_std=0.5)
    affine = tiny_roles.separate(reward_mean=0.2 * 3 + 2, reward_std=0.5 * 3)
    raw = affine.scores
    affine.scores = lambda sequences: 3 * raw(sequences) + 2
    affine.value_head = plain.value_head  # each critic had copied its own reward head
    found = [collect(roles, config).rollout.advantages for roles in (plain, affine)]
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


def test_advantages_are_whitened_over_the_whole_rollout_and_returns_are_not():
    """P17, P19: one shift and one scale for all tokens; returns do not notice the flag."""
    roles = tiny_roles.separate()
    white = collect(roles, tiny_roles.config()).rollout
    plain = collect(roles, tiny_roles.config(whiten_advantages=False)).rollout
    tokens, raw = (each.advantages[white.response_mask] for each in (white, plain))
    torch.testing.assert_close(
        tokens, (raw - raw.mean()) / raw.std(correction=0), rtol=1e-4, atol=1e-5
    )
    assert tokens.mean().item() == pytest.approx(0, abs=1e-5)
    assert tokens.var(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert torch.equal(white.returns, plain.returns)
    assert not white.returns.requires_grad
    torch.testing.assert_close(
        plain.returns,
        plain.advantages + plain.old_values * (plain.response_mask),
        rtol=1e-5,
        atol=1e-6,
    )


def test_the_kl_price_is_in_the_reward():
    """P13: rewards fall by kl_coef · (log π − log π_ref) per token, of either sign."""
    roles, config = tiny_roles.separate(), tiny_roles.config()
    with torch.no_grad():
        for parameter in roles.policy_parameters:
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator()))
    found = collect(roles, config)
    mask = found.sequences.response_mask
    free, priced = (
        shape_rewards(found.scores, found.measured, mask, config, kl_coef=k) for k in (0, 0.5)
    )
    log_ratio = found.measured.logprobs - found.measured.ref_logprobs
    torch.testing.assert_close((free - priced)[mask], 0.5 * log_ratio[mask], rtol=1e-4, atol=1e-6)
    assert log_ratio[mask].min() < 0 < log_ratio[mask].max()


def test_rewards_are_whitened_about_their_mean_if_asked():
    """P17: variance 1, and the mean stays where it was."""
    roles = tiny_roles.separate()
    found = collect(roles, tiny_roles.config())
    mask, arguments = found.sequences.response_mask, (found.scores, found.measured)
    plain = shape_rewards(*arguments, mask, tiny_roles.config(), kl_coef=0.1)[mask]
    white = shape_rewards(*arguments, mask, tiny_roles.config(whiten_rewards=True), kl_coef=0.1)[
        mask
    ]
    assert white.mean().item() == pytest.approx(plain.mean().item(), abs=1e-5)
    assert white.var(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert plain.var().item() < 0.9


def test_gamma_and_lambda_reach_the_returns():
    roles = tiny_roles.separate()
    config = tiny_roles.config(gamma=0.5, gae_lambda=0.7, whiten_advantages=False)
    found = collect(roles, config)
    rewards = shape_rewards(
        found.scores, found.measured, found.sequences.response_mask, config, kl_coef=0.1
    )
    lengths = [len(each.response) for each in found.samples]
    arguments = (rewards.tolist(), found.measured.values.tolist(), lengths)
    advantages, returns = oracle.gae(*arguments, 0.5, 0.7)
    torch.testing.assert_close(
        found.rollout.advantages, torch.tensor(advantages), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(found.rollout.returns, torch.tensor(returns), rtol=1e-4, atol=1e-5)


def test_responses_to_one_prompt_stand_side_by_side_and_are_scored_with_it():
    """Three each of four prompts: ids, scores and readings belong to their own prompt."""
    roles, config = tiny_roles.separate(), tiny_roles.config(responses_per_prompt=3)
    samples, sequences = ppo.sample(roles, PROMPTS[:4], config, generator=generator())
    assert len(samples) == len(sequences) == 12
    for row, ids in enumerate(sequences.input_ids):
        expected = IDS[row // 3] + samples[row].response
        assert ids[sequences.attention_mask[row]].tolist() == expected
    assert len({tuple(each.response) for each in samples}) > 9
    measured = measure(roles, samples, sequences, config)
    torch.testing.assert_close(measured.logprobs, measured.sampled, rtol=0, atol=1e-5)


def test_an_iteration_asks_each_of_its_prompts_for_the_same_number_of_responses(monkeypatch):
    """12 episodes at 4 a prompt are 3 prompts; two iterations use all six, each once."""
    asked, plain = [], ppo.sample

    def sample(roles, prompts, *rest, **settings):
        asked.append(prompts)
        return plain(roles, prompts, *rest, **settings)

    monkeypatch.setattr(ppo, "sample", sample)
    config = tiny_roles.config(responses_per_prompt=4)
    ppo.train(tiny_roles.separate(), PROMPTS, config, tracker=Log(), seed=0)
    assert [len(prompts) for prompts in asked] == [3, 3]
    assert sorted(asked[0] + asked[1]) == sorted(PROMPTS)
