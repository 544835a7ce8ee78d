"""DPO ends at step 1 where its reference is not the policy, and trains with every loss of TRL."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from stages.support import preferences
from tests.stages.world import World


def moe() -> Qwen3MoeForCausalLM:
    """A mixture of four experts whose router's loss is added to every other one."""
    torch.manual_seed(1)
    config = Qwen3MoeConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        moe_intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=256,
        output_router_logits=True,
        router_aux_loss_coef=0.1,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    return Qwen3MoeForCausalLM(config).eval()


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    assert world.run("sft") == 0
    return world


@pytest.mark.parametrize(
    "items",
    [
        ["trainer.use_weighting=true"],
        ["trainer.loss_type=[sigmoid, sft]", "trainer.loss_weights=[1.0, 0.5]"],
        ["trainer.loss_type=[ipo]"],
    ],
)
def test_dpo_trains_with_losses_that_do_not_start_at_ln_2(world, items):
    assert world.run("dpo", *items) == 0
    assert abs(world.curve("dpo")[0]["dpo/rewards/margins"]) < 1e-4


def test_the_first_step_is_logged_whatever_the_recipe_says(world):
    assert world.run("dpo", "trainer.logging_first_step=false", "trainer.logging_steps=100") == 0
    assert [row["step"] for row in world.curve("dpo")] == [1, 2]


def test_dpo_trains_a_mixture_of_experts_whose_router_has_a_loss(tmp_path):
    world = World(tmp_path, model=moe())
    assert world.run("sft") == world.run("dpo") == 0
    first = world.curve("dpo")[0]
    assert first["dpo/train/loss"] > 0.7  # ln 2 and the router's
    assert first["dpo/rewards/chosen"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("name", ["dpo", "kto"])
def test_a_reference_that_is_not_the_policys_start_ends_the_stage_at_step_1(
    world, name, capsys, monkeypatch
):
    load, seeds = preferences.TrainingSetup.load, iter((0, 1))

    def shifted(self):
        """The reference comes second: its weights are moved a little."""
        model = load(self)
        with torch.no_grad():
            model.get_input_embeddings().weight.add_(0.05 * next(seeds))
        return model

    monkeypatch.setattr(preferences.TrainingSetup, "load", shifted)
    assert world.run(name, "trainer.max_steps=9") == 2
    told = capsys.readouterr()
    assert f"error: {name}: rewards/" in told.err and "at step 1, where the policy" in told.err
    assert told.err.count("\n") == 1
    assert "9/9" not in told.out
    assert not world.out(name).exists()
