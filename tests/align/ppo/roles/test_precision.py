"""What is trained is float32, whatever the type of the arithmetic and of the frozen weights."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model

from align.models.forward import policy_forward, trunk_of
from align.ppo import train as ppo
from align.ppo.optimiser import Optimisers
from align.ppo.roles import SeparateRoles
from align.ppo.train import update
from tests import tiny, tiny_roles
from tests.tiny_ppo import collect, generator, weights
from tests.tiny_roles import PROMPTS, Log

BF16 = torch.bfloat16
BUILDS = [tiny.llama, tiny.gpt2]


@pytest.mark.parametrize("build", BUILDS)
def test_a_step_of_a_millionth_is_not_lost_in_bfloat16_arithmetic(build):
    """One step of Adam moves each weight by the learning rate: 1e-7 on weights of .2.

    In bfloat16 the nearest neighbour of .2 is 8e-4 away; in float32, 1.5e-8.
    """
    roles = tiny_roles.separate(build, compute_dtype=BF16)
    config = tiny_roles.config(minibatches=1, epochs=1, learning_rate=1e-7, adam_eps=1e-12)
    rollout = collect(roles, config).rollout
    assert roles.policy_outputs(rollout.sequences).logits.dtype == BF16
    before = weights(roles.policy_parameters)
    update(roles, rollout, Optimisers.of(roles, config), config, generator=generator())
    for old, new in zip(before, roles.policy_parameters, strict=True):
        assert new.dtype == torch.float32
        large = (old.abs() > 0.1) & (new.grad.abs() > 1e-9)
        step = (new - old)[large].abs()
        assert (step > 0).all()
        to_neighbour = (old.abs().nextafter(torch.tensor(torch.inf)) - old.abs())[large]
        assert ((step - 1e-7).abs() <= to_neighbour / 2 + 1e-9).all()


def test_models_that_come_in_bfloat16_are_trained_in_float32():
    """Policy and critic in full; the reference goes along, so that it is the policy's start."""
    models = (tiny.llama(), tiny.llama(), tiny_roles.reward_model())
    roles = SeparateRoles(
        *(model.to(BF16) for model in models), pad_id=0, stop_ids=[1], compute_dtype=BF16
    )
    trained = [*roles.policy_parameters, *roles.value_parameters]
    assert {parameter.dtype for parameter in trained} == {torch.float32}
    batch = tiny_roles.sequences()
    assert torch.equal(roles.policy_outputs(batch).logits, roles.reference_logits(batch))


def test_adapters_on_a_bfloat16_base_are_float32(tmp_path):
    base = get_peft_model(tiny.llama().to(BF16), tiny_roles.lora())
    models = (base, tiny.llama().to(BF16), tiny_roles.reward_model().to(BF16))
    apart = SeparateRoles(*models, pad_id=0, stop_ids=[1], value_lora=tiny_roles.lora())
    together = tiny_roles.shared(tmp_path, lambda: tiny.llama().to(BF16))
    for roles in (apart, together):
        trained = [*roles.policy_parameters, *roles.value_parameters]
        assert {parameter.dtype for parameter in trained} == {torch.float32}
        assert roles.policy_outputs(tiny_roles.sequences()).logits.dtype == BF16


def test_the_critic_starts_as_the_reward_model_in_bfloat16_arithmetic_too():
    """P23: V at the last token is the normalised score; the heads compute in float32 (R9)."""
    settings = {"reward_mean": 0.2, "reward_std": 1.5, "compute_dtype": BF16}
    roles, batch = tiny_roles.separate(**settings), tiny_roles.sequences()
    at_the_end = tiny_roles.values_at_the_end(roles, batch)
    expected = (roles.scores(batch) - 0.2) / 1.5
    torch.testing.assert_close(at_the_end, expected, rtol=1e-5, atol=1e-5)
    assert not torch.equal(expected, expected.to(BF16).float())
    assert trunk_of(roles.reward_model).dtype == torch.float32


def test_ppo_in_bfloat16_arithmetic_starts_at_its_reference():
    """P3, P29: KL 0 exactly at the start; sampler and trainer differ by rounding only."""
    roles, log = tiny_roles.separate(compute_dtype=BF16), Log()
    ppo.train(roles, PROMPTS, tiny_roles.config(minibatches=1), tracker=log, seed=0)
    first = log.rows[0]
    assert first["ppo/kl/sequence"] == 0
    assert first["ppo/sampler/gap_mean"] < 0.05
    assert first["ppo/start/clip_fraction"] == 0
    with roles.sampling() as model:
        assert policy_forward(model, tiny_roles.sequences()).logits.dtype == BF16


@pytest.mark.filterwarnings("error")
def test_float32_arithmetic_is_that_of_the_weights():
    plain, named = tiny_roles.separate(), tiny_roles.separate(compute_dtype=torch.float32)
    batch = tiny_roles.sequences()
    assert torch.equal(named.policy_outputs(batch).logits, plain.policy_outputs(batch).logits)
    assert torch.equal(named.scores(batch), plain.scores(batch))
