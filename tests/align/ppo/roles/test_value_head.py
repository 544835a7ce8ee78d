"""critic=head: V from a zero head on the policy's states, which it reads and does not move."""

from __future__ import annotations

import pytest
import torch

from align.ppo.optimiser import Optimisers
from align.ppo.roles import SharedRoles
from align.ppo.train import measure, sample, update
from tests import tiny_roles
from tests.align.ppo.roles.test_roles import LAYOUTS, make, train_a_little
from tests.tiny_ppo import collect, generator, weights, with_sgd


@pytest.fixture(params=LAYOUTS)
def roles(request, tmp_path):
    return make(request.param, tmp_path, critic="head")


def test_the_critic_is_a_head_that_says_zero(roles):
    """P23: d + 1 numbers, V ≡ 0, and what it learns is the share that is missing."""
    batch = tiny_roles.sequences()
    assert [tuple(each.shape) for each in roles.value_parameters] == [(1, 32), (1,)]
    assert not roles.values(batch).any()
    (roles.values(batch)[batch.response_mask] - 1).square().mean().backward()
    assert roles.value_head.bias.grad.item() == pytest.approx(-2)


def test_it_reads_the_policy_of_now_and_does_not_move_it(roles):
    """V is head · state of the policy as trained so far, and no gradient reaches that."""
    batch = tiny_roles.sequences()
    train_a_little(roles)
    torch.nn.init.normal_(roles.value_head.weight)
    for parameter in roles.policy_parameters:
        parameter.grad = None
    states = roles.policy_outputs(batch).states
    head = roles.value_head
    expected = batch.scatter_to_padded((states @ head.weight.T).squeeze(-1) + head.bias)
    for values in (roles.values(batch, states), roles.values(batch)):
        torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-5)
        values.square().sum().backward()
    assert all(parameter.grad is None for parameter in roles.policy_parameters)
    assert head.weight.grad.abs().min() > 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_policy_learns_as_with_a_critic_of_its_own(layout, tmp_path):
    """The same rollout and one step of plain descent: the policy's weights agree to the bit."""
    config = tiny_roles.config(minibatches=1, epochs=1)
    ends = []
    for critic in ("zero", "head"):
        torch.manual_seed(0)
        roles = make(layout, tmp_path, critic=critic)
        rollout = collect(roles, config).rollout
        update(roles, rollout, with_sgd(roles, config, lr=0.1), config, generator=generator())
        ends.append(weights(roles.policy_parameters))
    assert all(torch.equal(*pair) for pair in zip(*ends, strict=True))


@pytest.mark.parametrize("train_policy", [True, False])
def test_an_update_passes_through_one_model_only(roles, train_policy):
    """2 epochs × 3 micro-batches; a critic of its own would pass as often again."""
    config = tiny_roles.config(epochs=2, minibatches=1, micro_batch_size=4)
    rollout = collect(roles, config).rollout
    seen = []
    trunk = roles.trunk if isinstance(roles, SharedRoles) else roles.policy.model
    trunk.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    optimisers = Optimisers.of(roles, config)
    update(roles, rollout, optimisers, config, generator=generator(), train_policy=train_policy)
    assert seen == [train_policy] * 6


def test_it_learns_a_linear_value(roles):
    """P22: returns linear in the policy's states are explained to more than .9."""
    config = tiny_roles.config(epochs=200, minibatches=1, value_learning_rate=3e-2)
    rollout = collect(roles, config).rollout
    states = roles.policy_outputs(rollout.sequences).states
    torch.manual_seed(0)
    returns = rollout.sequences.scatter_to_padded(states @ torch.randn(32))
    rollout.returns.copy_(returns)
    optimisers = Optimisers.of(roles, config)
    update(roles, rollout, optimisers, config, generator=generator(), train_policy=False)
    mask = rollout.response_mask
    left = (returns - roles.values(rollout.sequences))[mask].var() / returns[mask].var()
    assert left.item() < 0.1


def test_values_are_recorded_while_sampling(roles):
    """P3: V of every token as a pass over the whole sequence gives it, to 1e-5; ragged, 3 each."""
    torch.nn.init.normal_(roles.value_head.weight)
    config = tiny_roles.config(responses_per_prompt=3, rollout_batch_size=18)
    samples, sequences = sample(roles, tiny_roles.PROMPTS, config, generator=generator())
    assert len({len(each.response) for each in samples}) > 3
    numbers = torch.tensor([value for each in samples for value in each.values])
    expected = roles.values(sequences)[sequences.response_mask]
    torch.testing.assert_close(numbers, expected, rtol=1e-4, atol=1e-5)


def test_recorded_values_spare_the_critic_its_pass_unless_they_are_wrong(roles):
    """P3: one group of four is computed, and all of them where that one is .01 off."""
    torch.nn.init.normal_(roles.value_head.weight)
    config = tiny_roles.config(micro_batch_size=3)
    samples, sequences = sample(roles, tiny_roles.PROMPTS * 2, config, generator=generator())
    passes, plain = [], roles.values
    roles.values = lambda *args: (passes.append(1), plain(*args))[1]
    expected = measure(roles, samples, sequences, config).values
    assert len(passes) == 1
    wrong = [each._replace(values=[v + 0.01 for v in each.values]) for each in samples]
    afresh = measure(roles, wrong, sequences, config).values
    assert len(passes) == 1 + 4
    torch.testing.assert_close(afresh, expected, rtol=1e-4, atol=1e-5)
