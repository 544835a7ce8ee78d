"""The roles over a whole run: what they hold in memory, what moves, and what an error leaves."""

from __future__ import annotations

import gc
import hashlib

import pytest
import torch

from align.messages.errors import DivergedError
from align.ppo import train as ppo
from align.ppo.roles import SharedRoles
from tests import tiny, tiny_roles
from tests.align.ppo.roles.test_roles import LAYOUTS, make, train_a_little


def live_storages():
    """Bytes of every storage that a tensor of this process holds, by its address."""
    gc.collect()
    tensors = [each for each in gc.get_objects() if issubclass(type(each), torch.Tensor)]
    return {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors}


def test_the_base_weights_are_in_memory_once(tmp_path):
    """What the shared layout adds to a base, byte for byte: three adapters and two heads."""
    tiny_roles.reward_adapter(tmp_path)
    base = tiny.llama()
    before = live_storages()
    roles = SharedRoles(base, tiny_roles.lora(), reward_adapter=tmp_path, pad_id=0, stop_ids=[1])
    after = live_storages()
    shapes = [layer.weight.shape for layer in base.modules() if hasattr(layer, "get_base_layer")]
    adapter = sum(4 * (out + into) for out, into in shapes)  # B and A of rank 4
    heads = 32 + (32 + 1)  # the value head has a bias
    assert sum(after.values()) - sum(before.values()) == 4 * (3 * adapter + heads)
    with roles.sampling():
        pass
    assert live_storages() == after


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ppo_trains_policy_and_critic_and_neither_reference_nor_reward(layout, tmp_path):
    """P29, P23: by hashes of the outputs, after a warm-up iteration and after a whole run."""
    roles, batch = make(layout, tmp_path), tiny_roles.sequences()

    def seen():
        found = tiny_roles.answers(roles, batch)
        outputs = [found[role] for role in ("reference", "reward model", "policy", "critic")]
        return [hashlib.sha256(each.numpy().tobytes()).hexdigest() for each in outputs]

    assert min(len(roles.policy_parameters), len(roles.value_parameters)) > 0
    reference, score, policy, value = seen()
    log, at = tiny_roles.Log(), []
    rows, log.log = log.log, lambda *args, **rest: (at.append(seen()), rows(*args, **rest))
    config = tiny_roles.config(iterations=3, critic_warmup=1)
    ppo.train(roles, tiny_roles.PROMPTS, config, tracker=log, seed=0)
    assert [each[:2] for each in at] == [[reference, score]] * 3
    assert at[0][2] == policy
    assert len({policy, at[1][2], at[2][2]}) == 3
    assert len({value, *(each[3] for each in at)}) == 4
    assert all("ppo/value/explained_variance" in row for row in log.rows)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_run_that_breaks_off_leaves_every_role_in_place(layout, tmp_path):
    """P29: an error in the middle of a run; each role then answers as it did before."""
    roles, batch = make(layout, tmp_path), tiny_roles.sequences()
    train_a_little(roles)
    before = tiny_roles.answers(roles, batch)
    scores, roles.scores = roles.scores, lambda sequences: scores(sequences) * float("nan")
    with pytest.raises(DivergedError):
        ppo.train(roles, tiny_roles.PROMPTS, tiny_roles.config(), tracker=tiny_roles.Log(), seed=0)
    roles.scores = scores
    for role, answer in tiny_roles.answers(roles, batch).items():
        assert torch.equal(answer, before[role])
    roles.policy_outputs(batch).logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in roles.policy_parameters)
