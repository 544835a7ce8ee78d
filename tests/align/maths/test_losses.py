"""Losses: tables worked by hand, float64 oracles, gradient signs, exact accumulation."""

from __future__ import annotations

import math

import pytest
import torch

from align.maths.losses import (
    bradley_terry_loss,
    dpo_loss,
    ppo_policy_loss,
    ppo_value_loss,
    sft_loss,
)
from tests import ragged
from tests.oracles import maths as oracle

LN2 = math.log(2)


def one(value: float, *, grad: bool = False) -> torch.Tensor:
    return torch.tensor([[value]], requires_grad=grad)


@pytest.mark.parametrize(
    ("advantage", "ratio", "dual_clip", "loss", "slope"),
    [
        (1.0, 1.5, None, -1.2, 0.0),  # the gain stops at 1.2
        (1.0, 0.5, None, -0.5, -0.5),  # a loss of probability is always repaired
        (-1.0, 1.5, None, 1.5, 1.5),  # a bad token grown likely is always pushed down
        (-1.0, 0.5, None, 0.8, 0.0),
        (1.0, 1.1, None, -1.1, -1.1),  # inside the clip: −A ρ, slope −A ρ
        (-1.0, 0.9, None, 0.9, 0.9),
        (-1.0, 5.0, 3.0, 3.0, 0.0),  # dual clip c = 3
        (-1.0, 2.0, 3.0, 2.0, 2.0),
        (1.0, 5.0, 3.0, -1.2, 0.0),  # and it leaves A > 0 alone
    ],
)
def test_clip_truth_table(advantage, ratio, dual_clip, loss, slope):
    """P21, ε = .2: value of the loss and its slope in log π."""
    logprobs = one(math.log(ratio), grad=True)
    output = ppo_policy_loss(
        logprobs,
        one(0.0),
        one(advantage),
        one(1.0).bool(),
        clip_range=0.2,
        dual_clip=dual_clip,
    )
    output.loss.backward()
    assert output.loss.item() == pytest.approx(loss, abs=1e-6)
    assert logprobs.grad.item() == pytest.approx(slope, abs=1e-6)
    assert output.metrics["clip_fraction"].item() == float(slope == 0)
    assert output.metrics["ratio_max"].item() == pytest.approx(ratio, rel=1e-6)
    assert output.metrics["kl_old_new"].item() == pytest.approx(
        ratio - 1 - math.log(ratio), abs=1e-6
    )


@pytest.mark.parametrize(
    ("value", "clip", "loss", "slope"),
    [
        (3.0, None, 2.0, 2.0),  # ½ (3 − 1)²
        (0.6, 0.2, 0.32, 0.0),  # moved +.6 towards R = 1 from 0: held at .2, ½ · .8²
        (0.1, 0.2, 0.405, -0.9),  # inside the clip: ½ · .9²
        (-0.6, 0.2, 1.28, -1.6),  # moved away from R: the plain error is the worse one
        (1.9, 0.2, 0.405, 0.9),  # overshot: plain ½ · .9² = .405 beats ½ · .8²
    ],
)
def test_value_clip_truth_table(value, clip, loss, slope):
    """P22: old value 0, return 1; the clip is absolute, and None means none."""
    values = one(value, grad=True)
    output = ppo_value_loss(values, one(0.0), one(1.0), one(1.0).bool(), value_clip_range=clip)
    output.loss.backward()
    assert output.loss.item() == pytest.approx(loss, abs=1e-6)
    assert values.grad.item() == pytest.approx(slope, abs=1e-6)
    assert output.metrics["clip_fraction"].item() == float(slope == 0)


@pytest.mark.parametrize("dual_clip", [None, 1.5])
@pytest.mark.parametrize("value_clip", [None, 0.3])
def test_ppo_losses_equal_the_oracle_on_ragged_rows(dual_clip, value_clip):
    new, old, advantages, returns = (ragged.numbers(seed) for seed in range(4))
    mask = ragged.mask()
    lists = [x.double().tolist() for x in (new, old, advantages, returns)]
    policy = ppo_policy_loss(new, old, advantages, mask, clip_range=0.2, dual_clip=dual_clip)
    expected = oracle.ppo_policy_loss(*lists[:3], ragged.LENGTHS, 0.2, dual_clip)
    assert policy.loss.item() == pytest.approx(expected, rel=1e-5)
    value = ppo_value_loss(new, old, returns, mask, value_clip_range=value_clip)
    expected = oracle.ppo_value_loss(lists[0], lists[1], lists[3], ragged.LENGTHS, value_clip)
    assert value.loss.item() == pytest.approx(expected, rel=1e-5)


def all_token_losses(x, old, advantages, returns, mask, denominator=None):
    return [
        sft_loss(x, mask, denominator=denominator),
        ppo_policy_loss(x, old, advantages, mask, clip_range=0.2, denominator=denominator),
        ppo_value_loss(x, old, returns, mask, value_clip_range=0.3, denominator=denominator),
    ]


def test_padding_changes_no_loss_no_gradient_and_no_metric():
    """P28: two more columns of hostile padding, and every number is bit-identical."""
    tensors = [ragged.numbers(seed) for seed in range(4)]
    narrow, wide = tensors[0].clone(), ragged.widen(tensors[0], 2, 50.0)
    narrow.requires_grad_(), wide.requires_grad_()
    plain = all_token_losses(narrow, *tensors[1:], ragged.mask())
    rest = [ragged.widen(x, 2, -50.0) for x in tensors[1:]]  # a ratio of e^100, were it read
    padded = all_token_losses(wide, *rest, ragged.widen(ragged.mask(), 2, False))
    for a, b in zip(plain, padded, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=0)
        (gradient,) = torch.autograd.grad(a.loss, narrow)
        (padded_gradient,) = torch.autograd.grad(b.loss, wide)
        torch.testing.assert_close(padded_gradient[:, :5], gradient, rtol=1e-6, atol=0)
        assert not padded_gradient[ragged.widen(ragged.mask(), 2, False).logical_not()].any()


def test_ratio_max_is_that_of_a_token_even_when_all_ratios_are_below_one():
    """P28: padding has log-ratio 0; its ratio of 1 must not show."""
    new, old = torch.tensor([[-1.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    mask = torch.tensor([[True, False]])
    metrics = ppo_policy_loss(new, old, torch.ones(1, 2), mask, clip_range=0.2).metrics
    assert metrics["ratio_max"].item() == pytest.approx(math.exp(-1), rel=1e-6)
    assert metrics["ratio_gap_max"].item() == pytest.approx(1 - math.exp(-1), rel=1e-6)


@pytest.mark.parametrize("cut", [1, 2])
def test_micro_batches_with_the_global_denominator_add_up_to_the_minibatch(cut):
    """P25: losses, gradients and metrics of 4, 2×2 and 4×1 ragged rows agree to 1e-6."""
    tensors, mask = [ragged.numbers(seed) for seed in range(4)], ragged.mask()
    x = tensors[0].requires_grad_()
    whole = all_token_losses(x, *tensors[1:], mask)
    parts = [
        all_token_losses(
            x[rows], *(t[rows] for t in tensors[1:]), mask[rows], denominator=mask.sum()
        )
        for rows in torch.arange(4).split(cut)
    ]
    for index, expected in enumerate(whole):
        loss = sum(part[index].loss for part in parts)
        torch.testing.assert_close(loss, expected.loss, rtol=1e-6, atol=1e-6)
        (gradient,) = torch.autograd.grad(loss, x, retain_graph=True)
        (expected_gradient,) = torch.autograd.grad(expected.loss, x, retain_graph=True)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-6, atol=1e-7)
        for name, metric in expected.metrics.items():
            combine = max if name.endswith("_max") else sum
            total = combine(part[index].metrics[name] for part in parts)
            torch.testing.assert_close(total, metric, rtol=1e-6, atol=1e-7)


def test_at_ratio_one_the_policy_loss_is_minus_the_mean_advantage_with_reinforces_gradient():
    """P20: ρ ≡ 1 gives loss −mean A, clip fraction 0, and the gradient of −mean A log π."""
    logprobs = ragged.numbers(0).requires_grad_()
    advantages, mask = ragged.numbers(1), ragged.mask()
    output = ppo_policy_loss(logprobs, logprobs.detach(), advantages, mask, clip_range=0.2)
    reinforce = -torch.where(mask, advantages * logprobs, 0).sum() / mask.sum()
    (gradient,) = torch.autograd.grad(output.loss, logprobs)
    (expected,) = torch.autograd.grad(reinforce, logprobs)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-8)
    assert output.loss.item() == pytest.approx(-advantages[mask].mean().item(), abs=1e-6)
    assert output.metrics["clip_fraction"].item() == 0
    assert output.metrics["kl_old_new"].item() == 0


def test_bradley_terry_literals():
    """R5: ln 2 at a tie; Δ = 1 with margin 1 is a tie again; the slope at 0 is −½; accuracy ½."""
    chosen = torch.tensor([0.0], requires_grad=True)
    output = bradley_terry_loss(chosen, torch.tensor([0.0]))
    output.loss.backward()
    assert output.loss.item() == pytest.approx(LN2, abs=1e-6)
    assert chosen.grad.item() == pytest.approx(-0.5, abs=1e-6)
    assert output.metrics["accuracy"].item() == 0.5
    shifted = bradley_terry_loss(
        torch.tensor([1.0]), torch.tensor([0.0]), margin=torch.tensor([1.0])
    )
    assert shifted.loss.item() == pytest.approx(LN2, abs=1e-6)
    assert shifted.metrics == {"accuracy": 1.0, "margin": 1.0}


def test_bradley_terry_is_finite_at_extreme_scores():
    far = bradley_terry_loss(torch.tensor([-1e4]), torch.tensor([1e4]))
    assert far.loss.item() == pytest.approx(2e4)


def test_dpo_literals():
    """D7: β = .1, log-ratios +2 and −3: −log σ(.5) = .4741. Policy = reference: ln 2."""
    chosen, rejected = torch.tensor([-8.0]), torch.tensor([-13.0])
    ref_chosen, ref_rejected = torch.tensor([-10.0]), torch.tensor([-10.0])
    output = dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=0.1)
    assert output.loss.item() == pytest.approx(0.474077, abs=1e-5)
    assert output.metrics == pytest.approx(
        {"accuracy": 1.0, "margin": 0.5, "chosen_reward": 0.2, "rejected_reward": -0.3}
    )
    start = dpo_loss(ref_chosen, rejected, ref_chosen, rejected, beta=0.1)
    assert start.loss.item() == pytest.approx(LN2, abs=1e-6)


def test_pair_losses_equal_the_oracle():
    generator = torch.Generator().manual_seed(0)
    c, r, ref_c, ref_r, margin = (torch.randn(6, generator=generator) * 3 for _ in range(5))
    expected = oracle.bradley_terry_loss(c.tolist(), r.tolist(), margin.tolist())
    assert bradley_terry_loss(c, r, margin=margin).loss.item() == pytest.approx(expected, rel=1e-5)
    expected = oracle.dpo_loss(c.tolist(), r.tolist(), ref_c.tolist(), ref_r.tolist(), 0.3)
    assert dpo_loss(c, r, ref_c, ref_r, beta=0.3).loss.item() == pytest.approx(expected, rel=1e-5)


def test_sft_loss_is_the_token_mean_and_not_the_mean_of_rows():
    """Rows of 1 and 3 tokens at 4 and 1 nats: (4 + 3) / 4 = 1.75 (the mean of rows is 2.5)."""
    logprobs = torch.tensor([[-4.0, 99.0, 99.0], [-1.0, -1.0, -1.0]])
    output = sft_loss(logprobs, ragged.mask([1, 3]))
    assert output.loss.item() == 1.75
    assert output.metrics == {"nll": 1.75}


def test_shape_errors_name_the_tensors():
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"old\[2, 4\]"):
        ppo_policy_loss(x, torch.zeros(2, 4), x, x.bool(), clip_range=0.2)
