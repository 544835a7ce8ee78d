"""What cannot carry an adapter is refused in a line; one that is folded in computes the same."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from align.config import LoraSection
from align.messages.errors import ConfigError
from align.models import load as models
from align.models.adapters import base_of, check_targets, merged
from tests import architectures, tiny, tiny_roles

IDS = torch.arange(2, 20)[None]


def untied():
    config = tiny.llama().config
    return LlamaForCausalLM(LlamaConfig(**(config.to_dict() | {"tie_word_embeddings": False})))


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        (["q_proj", "lm_head"], r"ppo\.lora\.targets=.*lm_head shares its weight"),
        (".*lm_head", "lm_head shares its weight with the embeddings"),
        (["embed_tokens"], r"model\.embed_tokens is an embedding, expected linear layers"),
        (["query"], r"LlamaForCausalLM has no such layer; name some of down_proj, .*, v_proj, or"),
    ],
)
def test_targets_that_cannot_carry_an_adapter_are_refused(targets, told):
    with pytest.raises(ConfigError, match=told) as error:
        check_targets(tiny.llama(), LoraSection(targets=targets), key="ppo.lora")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"], r".*\.[qv]_proj"])
def test_linear_layers_may_be_named_in_every_way(targets):
    check_targets(tiny.llama(), LoraSection(targets=targets), key="ppo.lora")


def test_a_head_of_its_own_carries_an_adapter_and_is_published_as_it_was_trained():
    model, lora = untied(), LoraSection(targets=["lm_head"])
    check_targets(model, lora, key="ppo.lora")
    adapted = models.add_lora(model, lora, task="causal")
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    ids = torch.tensor([[5, 9, 40]])
    with torch.no_grad():
        expected = adapted(ids).logits
        torch.testing.assert_close(models.merge(adapted)(ids).logits, expected)


def test_the_remedy_names_the_layers_of_the_architecture():
    with pytest.raises(ConfigError, match="name some of c_attn, c_fc, c_proj, or use all-linear"):
        check_targets(tiny.gpt2(), LoraSection(targets=["q_proj"]), key="dpo.lora")


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen3_moe", "qwen3_5"])
def test_the_folded_policy_is_the_policy_and_is_taken_out_again(kind):
    """Experts too, which are one parameter of three dimensions in a module without `weight`."""
    model = get_peft_model(architectures.build(kind), tiny_roles.lora()).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        base = model(input_ids=IDS).logits
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.05, generator=generator)
        beside = model(input_ids=IDS).logits
        with merged(model):
            folded = base_of(model)(input_ids=IDS).logits
        with model.disable_adapter():
            after = model(input_ids=IDS).logits
    change = (beside - base).abs().max()
    assert change > 1
    assert (folded - beside).abs().max() < 1e-4 * change  # Qwen3.5 rounds most: 3e-5 of it
    torch.testing.assert_close(after, base, rtol=0, atol=1e-5)
