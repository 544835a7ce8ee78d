"""A model that the program would be wrong on is refused in one line before anything is trained."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import DynamicCache

from align.config import Recipe
from align.messages.errors import ConfigError
from align.models.load import load_tokenizer
from align.sampling.self_check import BOUND, check_fit, check_sampler, positions, sampler_gap
from tests import architectures, tiny

EVERY = ("sft", "reward", "dpo", "ppo", "evaluate")
GOOD = ["llama", "qwen3", "qwen3_moe", "qwen3_5", "gemma2", "gemma3", "mistral", "phi3", "gpt2"]
GOOD += ["olmo2", "mamba2", "mamba", "jamba", "qwen3_next", "falcon_h1", "lfm2"]
build = architectures.build


def refusal(check, *args, **kwargs) -> str:
    with pytest.raises(ConfigError) as caught:
        check(*args, **kwargs)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("kind", GOOD)
def test_a_model_that_is_sampled_rightly_passes_in_float32_and_bfloat16(kind):
    """Largest gap here 1e-5 nats (Qwen3.5); the bound is the same for both, and is not vacuous."""
    model = build(kind)
    with torch.inference_mode():
        assert sampler_gap(model) < BOUND / 5
    check_sampler(model)
    check_sampler(model.bfloat16())
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("kind", ["rwkv", "recurrent_gemma"])
def test_a_state_beside_the_cache_is_refused(kind):
    """RWKV reads no mask, RecurrentGemma keeps a state in the module: 2 to 8 nats off."""
    line = refusal(check_sampler, build(kind))
    assert "samples from other distributions than its forward pass" in line
    assert "choose another base model" in line


def test_a_model_with_a_cache_of_its_own_is_refused():
    line = refusal(check_sampler, build("minimax"))
    assert line.startswith("MiniMaxForCausalLM cannot be sampled from with a cache")


def test_a_cache_that_loses_its_rows_order_is_refused(monkeypatch):
    monkeypatch.setattr(DynamicCache, "reorder_cache", lambda self, rows: None)
    assert "cannot be sampled from" in refusal(check_sampler, build("llama"))


def test_a_model_that_reads_no_mask_is_refused():
    """Right where prompts are of one length, and far off where they are padded."""
    model = build("llama")
    plain = model.forward

    def forward(input_ids, past_key_values=None, attention_mask=None, position_ids=None, **given):
        return plain(input_ids=input_ids, past_key_values=past_key_values, **given)

    model.forward = forward
    assert "samples from other distributions" in refusal(check_sampler, model)


def test_training_mode_and_random_state_are_left_as_they_were():
    model = tiny.gpt2()
    model.train()
    before = torch.get_rng_state()
    check_sampler(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in model.modules())


@pytest.fixture
def folder(tmp_path):
    """A base model's folder without its weights."""

    def made(config=None, template=None):
        (config or architectures.config("llama")).save_pretrained(tmp_path)
        tokenizer = copy.deepcopy(tiny.tokenizer())
        tokenizer.chat_template = template or tokenizer.chat_template
        tokenizer.save_pretrained(tmp_path)
        return tmp_path

    return made


def fit(path, stages=EVERY, *, prompts=None, **sections):
    settings = {"max_length": 128}
    recipe = {
        "name": "check",
        "model": {"path": str(path)},
        "data": {"preferences": "pairs.jsonl"},
        **{name: dict(settings) for name in ("sft", "reward", "dpo")},
    }
    recipe |= {name: recipe.get(name, {}) | given for name, given in sections.items()}
    check_fit(load_tokenizer(path), Recipe.model_validate(recipe), stages, prompts=prompts)


def test_a_fitting_model_passes(folder):
    fit(folder(), prompts={"prompts": [[{"role": "user", "content": "2 + 3"}]]})


@pytest.mark.parametrize("kind", ["mamba2", "mamba", "granitemoehybrid", "lfm2", "rwkv"])
def test_an_architecture_without_a_reward_model_is_refused_where_one_is_to_be_trained(folder, kind):
    path = folder(architectures.config(kind))
    line = refusal(fit, path)
    assert f"transformers has no {kind} model with a scalar head `score`" in line
    assert "ppo.reward_model" in line
    fit(path, ("sft", "dpo"))


@pytest.mark.parametrize("name", ["sft", "reward", "dpo"])
def test_rows_longer_than_the_models_positions_are_refused(folder, name):
    line = refusal(fit, folder(), **{name: {"max_length": 300}})
    assert line.startswith(f"{name}.max_length=300 is more than the 256 positions of ")
    assert line.endswith(f"set {name}.max_length=256")


def test_only_the_stages_of_the_run_are_asked(folder):
    fit(folder(), ("sft",), dpo={"max_length": 300}, ppo={"max_new_tokens": 500})


def test_positions_that_are_rescaled_end_at_the_original_limit():
    """LongRoPE and dynamic NTK turn with the longest row of a batch: cache and pass would part."""
    config = architectures.config("phi3", max_position_embeddings=4096)
    config.original_max_position_embeddings = 128
    assert positions(config) == 4096
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    config.rope_parameters |= {"rope_type": "longrope", **factors}
    assert positions(config) == 128
    assert positions(architectures.config("gpt2")) == 256
    assert positions(architectures.config("mamba2", max_position_embeddings=None)) is None


@pytest.mark.parametrize(
    ("section", "name", "limit"), [("ppo", "prompts", 128), ("evaluate", "evaluation", 256)]
)
def test_an_answer_that_leaves_no_room_for_the_shortest_prompt_is_refused(
    folder, section, name, limit
):
    prompts = {name: [[{"role": "user", "content": "a" * n}] for n in (90, 40, 60)]}
    fit(folder(), prompts=prompts, **{section: {"max_new_tokens": limit - 80}})
    line = refusal(fit, folder(), prompts=prompts, **{section: {"max_new_tokens": limit - 20}})
    assert line.startswith(f"{section}.max_new_tokens={limit - 20} leaves 20 of {limit} tokens")


def test_a_template_that_rewrites_its_prompt_is_refused(folder):
    template = (
        "{% for m in messages %}{{ loop.length }}{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    assert "template" in refusal(fit, folder(template=template))
