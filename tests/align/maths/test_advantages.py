"""Rewards and advantages: the checklist's literals, float64 oracles, and ragged batches."""

from __future__ import annotations

import pytest
import torch

from align.maths.advantages import explained_variance, gae, kl_shaped_rewards, missing_eos
from align.maths.masks import masked_whiten
from tests import ragged
from tests.oracles import maths as oracle

REWARDS = torch.tensor([[-0.1, -0.1, 1.9]])
VALUES = torch.tensor([[0.5, 0.6, 0.7]])


def test_missing_eos_replaces_or_subtracts():
    """P8: only the unfinished are touched, by −1 in place of the score or by −1 added."""
    scores, finished = torch.tensor([2.0, 2.0, -3.0]), torch.tensor([True, False, False])
    replaced = missing_eos(scores, finished, rule="replace", penalty=-1.0)
    subtracted = missing_eos(scores, finished, rule="subtract", penalty=1.0)
    assert replaced.tolist() == [2.0, -1.0, -1.0]
    assert subtracted.tolist() == [2.0, 1.0, -4.0]


def test_score_lands_on_the_last_token_and_not_on_the_padding():
    """P11: −.1 per token at kl_coef .1 and log-ratio 1; score 2 on the stop token: 2 − .1 = 1.9."""
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    ref_logprobs = torch.full((2, 4), -2.0)
    scores = torch.tensor([2.0, 5.0])
    rewards = kl_shaped_rewards(scores, ref_logprobs + 1, ref_logprobs, mask, kl_coef=0.1)
    expected = torch.tensor([[-0.1, -0.1, 1.9, 0.0], [4.9, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(rewards, expected, rtol=0, atol=1e-6)


def test_gae_literal_at_lambda_95():
    """P11: δ = [0, 0, 1.2]; A₂ = 1.2, A₁ = .95·1.2 = 1.14, A₀ = .95·1.14 = 1.083; R = A + V.

    The score one slot later, on the padding with its V = .8, would give A₀ = .95² · 1.14 = 1.0288.
    """
    mask = torch.ones(1, 3, dtype=torch.bool)
    advantages, returns = gae(REWARDS, VALUES, mask, gamma=1.0, gae_lambda=0.95)
    torch.testing.assert_close(advantages, torch.tensor([[1.083, 1.14, 1.2]]), rtol=0, atol=1e-6)
    torch.testing.assert_close(returns, torch.tensor([[1.583, 1.74, 1.9]]), rtol=0, atol=1e-6)
    late, phantom = torch.tensor([[-0.1, -0.1, -0.1, 2.0]]), ragged.widen(VALUES, 1, 0.8)
    wrong, _ = gae(late, phantom, ragged.mask([4]), gamma=1.0, gae_lambda=0.95)
    assert wrong[0, 0].item() == pytest.approx(1.0288, abs=1e-4)


@pytest.mark.parametrize("padding", [(7.0, 99.0), (float("nan"), float("inf"))])
def test_padding_with_any_reward_and_value_changes_nothing(padding):
    """P11: three columns of padding with r = 7 and V = 99 leave every number as it was."""
    mask = ragged.widen(torch.ones(1, 3, dtype=torch.bool), 3, False)
    rewards = ragged.widen(REWARDS, 3, padding[0])
    values = ragged.widen(VALUES, 3, padding[1])
    advantages, returns = gae(rewards, values, mask, gamma=1.0, gae_lambda=0.95)
    torch.testing.assert_close(
        advantages, torch.tensor([[1.083, 1.14, 1.2, 0, 0, 0]]), rtol=0, atol=1e-6
    )
    torch.testing.assert_close(
        returns, torch.tensor([[1.583, 1.74, 1.9, 0, 0, 0]]), rtol=0, atol=1e-6
    )


def test_lambda_one_is_the_future_reward_minus_the_value_and_lambda_zero_the_td_error():
    """P18's literals: λ = 1 gives [1.2, 1.2, 1.2]; λ = 0 gives δ = [0, 0, 1.2]."""
    mask = torch.ones(1, 3, dtype=torch.bool)
    whole, _ = gae(REWARDS, VALUES, mask, gamma=1.0, gae_lambda=1.0)
    one_step, _ = gae(REWARDS, VALUES, mask, gamma=1.0, gae_lambda=0.0)
    torch.testing.assert_close(whole, torch.tensor([[1.2, 1.2, 1.2]]), rtol=0, atol=1e-6)
    torch.testing.assert_close(one_step, torch.tensor([[0.0, 0.0, 1.2]]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("gamma", "gae_lambda"), [(1.0, 0.95), (0.9, 0.7), (1.0, 1.0), (0.99, 0)])
def test_gae_and_rewards_equal_the_oracle_on_ragged_rows(gamma, gae_lambda):
    mask, values = ragged.mask(), ragged.numbers(0)
    logprobs, ref_logprobs = ragged.numbers(1), ragged.numbers(2)
    scores = torch.tensor([1.0, -2.0, 0.5, 3.0])
    rewards = kl_shaped_rewards(scores, logprobs, ref_logprobs, mask, kl_coef=0.3)
    advantages, returns = gae(rewards, values, mask, gamma=gamma, gae_lambda=gae_lambda)
    as_lists = [x.double().tolist() for x in (logprobs, ref_logprobs, values)]
    shaped = oracle.kl_shaped_rewards(
        scores.tolist(), as_lists[0], as_lists[1], ragged.LENGTHS, 0.3
    )
    expected = oracle.gae(shaped, as_lists[2], ragged.LENGTHS, gamma, gae_lambda)
    torch.testing.assert_close(rewards, torch.tensor(shaped), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(advantages, torch.tensor(expected[0]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(returns, torch.tensor(expected[1]), rtol=1e-5, atol=1e-5)


def test_a_short_capped_response_beside_a_longer_finished_one_ends_where_it_ends():
    """P12: V after the end is 0 for both; the row's own length decides, not the batch's width."""
    mask = ragged.mask([2, 4])
    rewards = torch.tensor([[0.0, 1.0, 50.0, 50.0], [0.0, 0.0, 0.0, 1.0]])
    values = torch.tensor([[0.2, 0.3, 50.0, 50.0], [0.0, 0.0, 0.0, 0.0]])
    advantages, _ = gae(rewards, values, mask, gamma=1.0, gae_lambda=1.0)
    expected = torch.tensor([[0.8, 0.7, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    torch.testing.assert_close(advantages, expected, rtol=0, atol=1e-6)


def test_returns_come_from_unwhitened_advantages_and_carry_no_gradient():
    """P19: R = A + V before whitening; whitening A later leaves R alone; both are detached."""
    values = ragged.numbers(3).requires_grad_()
    mask = ragged.mask()
    advantages, returns = gae(ragged.numbers(4), values, mask, gamma=1.0, gae_lambda=0.95)
    before = returns.clone()
    whitened = masked_whiten(advantages, mask)
    assert not advantages.requires_grad
    assert not returns.requires_grad
    assert torch.equal(returns, before)
    expected = torch.where(mask, advantages + values, 0)
    torch.testing.assert_close(returns, expected.detach(), rtol=1e-6, atol=1e-6)
    wrong = torch.where(mask, whitened + values, 0).detach()
    assert (returns - wrong)[mask].abs().max() > 0.1


def test_explained_variance_is_one_for_the_truth_zero_for_a_constant_and_negative_for_worse():
    """R = [1, 2, 3], Var 2/3; V = [1.5, 2, 2.5] leaves errors of variance 1/6: 1 − 1/4 = .75."""
    returns, mask = torch.tensor([[1.0, 2.0, 3.0, 99.0]]), ragged.mask([3], width=4)
    readings = [
        explained_variance(torch.tensor([values]), returns, mask).item()
        for values in ([1.0, 2, 3, 0], [1.5, 2, 2.5, 7], [5.0, 5, 5, 7], [3.0, 2, 1, 7])
    ]
    assert readings == pytest.approx([1.0, 0.75, 0.0, -3.0], abs=1e-6)
