"""One step per minibatch, exact whatever the micro-batches, clipped, and never on NaN."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from align.config import PPOConfig
from align.maths.advantages import explained_variance
from align.maths.timeline import Rollout
from align.messages.errors import DivergedError
from align.ppo import train as ppo
from align.ppo.optimiser import Optimisers
from align.ppo.train import update
from tests import tiny_roles
from tests.tiny_ppo import collect, generator, moved, weights, with_sgd
from tests.tiny_roles import PROMPTS, Log


def test_one_optimiser_step_per_minibatch_in_every_iteration(monkeypatch):
    """P24: 3 iterations × 2 epochs × 3 minibatches = 18; micro-batches add none, nor the end."""
    counts: list[int] = []
    plain = torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam, "step", lambda self: (counts.append(id(self)), plain(self))
    )
    config = tiny_roles.config(iterations=3, epochs=2, minibatches=3, micro_batch_size=1)
    per_iteration: list[int] = []
    log = SimpleNamespace(log=lambda *_, **__: per_iteration.append(len(counts)))
    ppo.train(tiny_roles.separate(), PROMPTS, config, tracker=log, seed=0)
    assert per_iteration == [12, 24, 36]  # policy and critic, 6 each
    assert sorted(counts.count(each) for each in set(counts)) == [18, 18]


CUTS = [{"micro_batch_size": 1}, {"micro_batch_size": 2}, {"micro_batch_size": 3}]
CUTS += [{"micro_batch_tokens": 20}, {"micro_batch_tokens": 1000}]


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_the_step_does_not_depend_on_the_micro_batches(cut):
    """P25: gradients of 8 ragged episodes as 1 × 8, 4 × 2, 8 × 1 or unevenly agree to 1e-6."""
    gradients, readings = [], []
    for limits in ({"micro_batch_size": 8}, cut):
        roles = tiny_roles.separate(stop_ids=range(1, 80))
        config = tiny_roles.config(minibatches=1, epochs=1, **limits)
        prompts = (PROMPTS * 2)[:8]
        rollout = collect(roles, tiny_roles.config(micro_batch_size=8), prompts=prompts).rollout
        assert len(set(rollout.response_mask.sum(-1).tolist())) > 3
        optimisers = with_sgd(roles, config, lr=0.0)
        (step,) = update(roles, rollout, optimisers, config, generator=generator())
        readings.append(step)
        parameters = [*roles.policy_parameters, *roles.value_parameters]
        gradients.append(torch.cat([p.grad.flatten() for p in parameters]))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)
    assert readings[1] == pytest.approx(readings[0], rel=1e-4, abs=1e-5)


def test_gradients_of_one_step_do_not_reach_the_next():
    """Two steps at rate 0 on the same rollout have the same gradient, not once and twice of it."""
    roles, config = tiny_roles.separate(), tiny_roles.config(minibatches=1, epochs=2)
    rollout = collect(roles, config).rollout
    optimisers = with_sgd(roles, config, lr=0.0)
    first, second = update(roles, rollout, optimisers, config, generator=generator())
    for role in ("policy", "value"):
        norm = f"ppo/{role}/grad_norm"
        assert second[norm] == pytest.approx(first[norm], rel=1e-4)


def test_a_role_with_nothing_to_train_is_refused():
    """P29: an optimiser without parameters would run, and train nothing."""
    roles = tiny_roles.separate()
    roles.policy_parameters = []
    with pytest.raises(ValueError, match="the policy has no trainable parameter"):
        Optimisers.of(roles, tiny_roles.config())


def test_the_gradient_is_clipped_and_its_norm_before_clipping_reported():
    """P26: with plain descent at rate .1 a step is .1 · max_norm long, whatever the gradient."""
    roles, config = tiny_roles.separate(), tiny_roles.config(minibatches=1, epochs=1)
    rollout = collect(roles, config).rollout
    norms = {}
    for limit in (1e9, 0.01):
        config = tiny_roles.config(minibatches=1, epochs=1, max_grad_norm=limit)
        twin = tiny_roles.separate()
        before = weights(twin.policy_parameters)
        optimisers = with_sgd(twin, config, lr=0.1)
        (step,) = update(twin, rollout, optimisers, config, generator=generator())
        norms[limit] = (step["ppo/policy/grad_norm"], moved(twin.policy_parameters, before))
    (free_norm, free_way), (norm, way) = norms[1e9], norms[0.01]
    assert norm == pytest.approx(free_norm, rel=1e-5)
    assert free_norm > 0.05
    assert free_way == pytest.approx(0.1 * free_norm, rel=1e-3)
    assert way == pytest.approx(0.1 * 0.01, rel=1e-2)


def test_adam_takes_the_rate_and_epsilon_of_the_recipe():
    """P27: 1e-5 unless the recipe says otherwise, where torch's own default is 1e-8."""
    assert PPOConfig().adam_eps == 1e-5
    config = tiny_roles.config(adam_eps=1e-3, learning_rate=2e-4, value_learning_rate=5e-4)
    policy, value = Optimisers.of(tiny_roles.separate(), config)
    assert (policy.adam.defaults["eps"], value.adam.defaults["eps"]) == (1e-3, 1e-3)
    assert (policy.adam.defaults["lr"], value.adam.defaults["lr"]) == (2e-4, 5e-4)


def test_the_critic_learns_a_linear_value():
    """P22: returns linear in the state are explained to more than .9 after 60 epochs."""
    roles = tiny_roles.separate(critic="zero")
    config = tiny_roles.config(
        minibatches=1, epochs=60, value_learning_rate=3e-3, micro_batch_size=12
    )
    rollout = collect(roles, config).rollout
    teacher = nn.Linear(32, 1)
    with torch.no_grad():
        own, roles.value_head = roles.value_head, teacher
        returns = 3 * roles.values(rollout.sequences) * rollout.response_mask
        roles.value_head = own
    rollout = Rollout(
        rollout.sequences, rollout.old_logprobs, rollout.old_values, rollout.advantages, returns
    )
    update(
        roles,
        rollout,
        Optimisers.of(roles, config),
        config,
        generator=generator(),
        train_policy=False,
    )
    with torch.no_grad():
        values = roles.values(rollout.sequences)
    explained = explained_variance(values, returns, rollout.response_mask)
    assert explained.item() > 0.9


def test_a_score_that_is_not_a_number_stops_the_run_before_any_step():
    """P32."""
    roles = tiny_roles.separate()
    before = weights([*roles.policy_parameters, *roles.value_parameters])
    raw = roles.scores
    roles.scores = lambda sequences: raw(sequences) / 0 * 0
    with pytest.raises(DivergedError, match="score that is not finite"):
        ppo.train(roles, PROMPTS, tiny_roles.config(), tracker=Log(), seed=0)
    assert moved([*roles.policy_parameters, *roles.value_parameters], before) == 0


@pytest.mark.parametrize(("field", "role"), [("advantages", "policy"), ("returns", "value")])
def test_a_loss_that_is_not_a_number_is_stopped_before_its_step(field, role):
    """One NaN among the tokens of one role; the weights of both are as they were."""
    roles, config = tiny_roles.separate(), tiny_roles.config(minibatches=1, epochs=1)
    rollout = collect(roles, config).rollout
    getattr(rollout, field)[3, 0] = float("nan")
    both = [*roles.policy_parameters, *roles.value_parameters]
    before = weights(both)
    with pytest.raises(DivergedError, match=f"{role} loss=nan"):
        update(roles, rollout, Optimisers.of(roles, config), config, generator=generator())
    assert moved(both, before) == 0
