"""Both layouts of the roles: who is frozen, who is trained, and that switching leaves no trace."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model

from align.messages.errors import ConfigError
from align.models import load as models
from align.models import publish
from align.models.forward import policy_forward
from align.ppo.roles import SeparateRoles, SharedRoles
from align.sampling.sampler import ModelSampler
from tests import tiny, tiny_roles

BUILDS = [tiny.llama, tiny.gpt2]
LAYOUTS = ["separate", "shared"]


def make(layout, tmp_path, build=tiny.llama, **settings):
    if layout == "separate":
        return tiny_roles.separate(build, **settings)
    return tiny_roles.shared(tmp_path, build, **settings)


def train_a_little(roles):
    """Push policy and critic far enough for any leak to show."""
    batch = tiny_roles.sequences()
    policy = torch.optim.SGD(roles.policy_parameters, lr=0.5)
    value = torch.optim.SGD(roles.value_parameters, lr=0.05)
    for _ in range(3):
        roles.policy_outputs(batch).logits[..., 50].mean().neg().backward()
        policy.step(), policy.zero_grad()
        roles.values(batch).square().mean().backward()
        value.step(), value.zero_grad()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("build", BUILDS)
def test_training_moves_policy_and_critic_and_leaves_reference_and_reward_bit_identical(
    layout, build, tmp_path
):
    """P29: log π == log π_ref bit for bit at the start; later the frozen two are as before."""
    roles, batch = make(layout, tmp_path, build), tiny_roles.sequences()
    with torch.no_grad():
        policy, reference = roles.policy_outputs(batch).logits, roles.reference_logits(batch)
        values, scores = roles.values(batch), roles.scores(batch)
    assert torch.equal(policy, reference)
    train_a_little(roles)
    with torch.no_grad():
        assert (roles.policy_outputs(batch).logits - policy).abs().max() > 0.01
        assert (roles.values(batch) - values).abs().max() > 0.001
        assert torch.equal(roles.reference_logits(batch), reference)
        assert torch.equal(roles.scores(batch), scores)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_role_sends_gradient_to_its_own_parameters_only(layout, tmp_path):
    roles, batch = make(layout, tmp_path), tiny_roles.sequences()
    roles.policy_outputs(batch).logits.square().mean().backward()
    assert sum(p.grad is not None and bool(p.grad.any()) for p in roles.policy_parameters) > 0
    assert all(p.grad is None for p in roles.value_parameters)
    for parameter in roles.policy_parameters:
        parameter.grad = None
    roles.values(batch).square().mean().backward()
    assert all(p.grad is None for p in roles.policy_parameters)
    assert all(p.grad is not None for p in roles.value_parameters[-2:])
    assert not roles.scores(batch).requires_grad
    assert not roles.reference_logits(batch).requires_grad


def test_switching_roles_before_the_backward_pass_loses_no_gradient(tmp_path):
    """PEFT marks an adapter it leaves as frozen; a graph built before must still reach it."""
    roles, batch = tiny_roles.shared(tmp_path), tiny_roles.sequences()
    logits, values = roles.policy_outputs(batch).logits, roles.values(batch)
    roles.scores(batch)
    (logits.square().mean() + values.square().mean()).backward()
    assert all(p.grad is not None for p in (*roles.policy_parameters, *roles.value_parameters))


def test_separate_roles_may_carry_adapters_on_policy_and_critic():
    """Only adapters and the critic's head train; the sampler sees the trained policy."""
    policy = get_peft_model(tiny.llama(), tiny_roles.lora())
    roles = SeparateRoles(
        policy,
        tiny.llama(),
        tiny_roles.reward_model(),
        pad_id=0,
        stop_ids=[1],
        value_lora=tiny_roles.lora(),
    )
    assert (len(roles.policy_parameters), len(roles.value_parameters)) == (2 * 14, 2 * 14 + 2)
    batch = tiny_roles.sequences()
    before = roles.policy_outputs(batch).logits.detach()
    train_a_little(roles)
    after = roles.policy_outputs(batch).logits.detach()
    assert (after - before).abs().max() > 0.01
    assert torch.equal(roles.reference_logits(batch), before)
    with roles.sampling() as model, torch.no_grad():
        inside = policy_forward(model, batch).logits
    torch.testing.assert_close(inside, after, rtol=1e-4, atol=1e-4)
    roles.policy_outputs(batch).logits.square().mean().backward()
    assert all(p.grad is not None for p in roles.policy_parameters)


def test_shared_roles_hold_one_base_and_train_adapters_only(tmp_path):
    roles = tiny_roles.shared(tmp_path)
    base = {id(p) for n, p in roles.model.named_parameters() if "lora_" not in n}
    trained = {id(p) for p in (*roles.policy_parameters, *roles.value_parameters)}
    assert not base & trained
    assert len(roles.policy_parameters) == 2 * 14  # A and B of 7 linear layers in 2 blocks
    assert len(roles.value_parameters) == 2 * 14 + 2  # and the head with its bias
    count = sum(p.numel() for n, p in roles.model.named_parameters() if "lora_" not in n)
    assert count == sum(p.numel() for p in tiny.llama().parameters())


@pytest.mark.parametrize("build", BUILDS)
def test_the_shared_reward_role_scores_as_the_reward_model_it_was_loaded_from(build, tmp_path):
    """R1: ids in PPO and in the reward stage give one score; the critic starts from it."""
    adapter = tiny_roles.reward_adapter(tmp_path, build)
    roles = SharedRoles(
        build(),
        tiny_roles.lora(),
        reward_adapter=tmp_path,
        pad_id=0,
        stop_ids=[1],
        reward_mean=0.2,
        reward_std=1.5,
    )
    batch = tiny_roles.sequences()
    rows = [ids[mask].tolist() for ids, mask in zip(batch.input_ids, batch.attention_mask)]  # noqa: B905
    expected = torch.tensor(models.reward_scores(adapter, rows, pad_id=0))
    torch.testing.assert_close(roles.scores(batch), expected, rtol=1e-5, atol=1e-5)
    at_the_end = tiny_roles.values_at_the_end(roles, batch)
    torch.testing.assert_close(at_the_end, (expected - 0.2) / 1.5, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_zero_critic_says_zero(layout, tmp_path):
    """P23: V ≡ 0 at the start, and it can learn."""
    roles, batch = make(layout, tmp_path, critic="zero"), tiny_roles.sequences()
    assert not roles.values(batch).any()
    (roles.values(batch)[batch.response_mask] - 1).square().mean().backward()
    assert roles.value_head.bias.grad.item() == pytest.approx(-2)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dropout_is_off_in_every_role_even_in_training_mode(layout, tmp_path):
    """P9: GPT-2's three rates, Llama's attention_dropout and LoRA's own: two passes are equal."""
    if layout == "separate":
        roles = tiny_roles.separate(tiny.gpt2)
        parts = [roles.policy, roles.reference, roles.reward_model, roles.value_trunk]
    else:
        policy_lora = tiny_roles.lora(lora_dropout=0.3)
        roles = tiny_roles.shared(tmp_path, llama_with_dropout, policy_lora=policy_lora)
        parts = [roles.model]
        torch.nn.init.normal_(roles.policy_parameters[1])
    for part in parts:
        part.train()
    batch = tiny_roles.sequences()
    again = tiny_roles.answers(roles, batch)
    for role, answer in tiny_roles.answers(roles, batch).items():
        assert torch.equal(answer, again[role])


def llama_with_dropout():
    model = tiny.llama()
    model.config.attention_dropout = 0.1
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.1
    return model


def test_sampling_merges_the_adapter_and_restores_the_very_same_base(tmp_path):
    """The sampler sees the trained policy (log π to 1e-4); the base is bit-identical afterwards."""
    roles, batch = tiny_roles.shared(tmp_path), tiny_roles.sequences()
    train_a_little(roles)
    before = {n: p.clone() for n, p in roles.model.named_parameters()}
    with torch.no_grad():
        policy = roles.policy_outputs(batch).logits
    with roles.sampling() as model, torch.no_grad():
        inside = model(
            input_ids=batch.input_ids[:, :-1],
            attention_mask=batch.attention_mask[:, :-1].long(),
            position_ids=batch.position_ids[:, :-1],
        ).logits[:, -batch.response_width :][batch.response_mask]
    torch.testing.assert_close(inside, policy, rtol=1e-4, atol=1e-4)
    for name, parameter in roles.model.named_parameters():
        assert torch.equal(parameter, before[name]), name
    with torch.no_grad():
        assert torch.equal(roles.policy_outputs(batch).logits, policy)


def test_an_error_while_sampling_restores_the_base_too(tmp_path):
    roles, batch = tiny_roles.shared(tmp_path), tiny_roles.sequences()
    train_a_little(roles)
    with torch.no_grad():
        reference = roles.reference_logits(batch)
    with pytest.raises(KeyboardInterrupt), roles.sampling():
        raise KeyboardInterrupt
    with torch.no_grad():
        assert torch.equal(roles.reference_logits(batch), reference)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_saved_policy_is_the_trained_policy(layout, tmp_path):
    """P30: written by publish.save, read by plain transformers, the same greedy tokens."""
    roles = make(layout, tmp_path / "reward")
    train_a_little(roles)
    generator = torch.Generator().manual_seed(0)

    def greedy(model):
        sampler = ModelSampler(model, pad_id=0, stop_ids=[1], max_new_tokens=12, temperature=0)
        return [s.response for s in sampler.sample(tiny_roles.IDS, generator=generator)]

    with roles.sampling() as model:
        expected = greedy(model)
    assert expected != greedy(tiny.llama())
    publish.save(
        roles.trained_policy(), tiny.tokenizer(), tmp_path / "out", base=publish.Base("base")
    )
    loaded = models.load_causal_lm(tmp_path / "out" / "model", device=torch.device("cpu"))
    assert greedy(loaded) == expected


def test_a_reward_adapter_of_another_base_is_refused(tmp_path):
    tiny_roles.reward_adapter(tmp_path, tiny.gpt2)
    with pytest.raises(ConfigError, match=r"no adapter of this base.*train the reward model on"):
        SharedRoles(
            tiny.llama(), tiny_roles.lora(), reward_adapter=tmp_path, pad_id=0, stop_ids=[1]
        )


def test_an_adapter_without_a_reward_head_is_refused(tmp_path):
    get_peft_model(tiny.llama(), tiny_roles.lora()).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="0 reward heads"):
        SharedRoles(
            tiny.llama(), tiny_roles.lora(), reward_adapter=tmp_path, pad_id=0, stop_ids=[1]
        )


def test_a_reward_without_spread_cannot_be_normalised():
    with pytest.raises(ConfigError, match=r"reward_std=0\.0"):
        tiny_roles.separate(reward_std=0.0)
