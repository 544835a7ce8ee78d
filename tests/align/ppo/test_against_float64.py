"""The weights of our PPO against those of a reference in float64 that was written apart from it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from align.maths.timeline import Sequences
from align.models.adapters import POLICY, REWARD, VALUE
from align.ppo import train as ppo
from align.ppo.roles import SeparateRoles, SharedRoles
from tests import tiny, tiny_roles
from tests.oracles.models64 import Adapter, LanguageModel, Trunk
from tests.oracles.ppo import Episode, Models, ReferencePPO, Round, Settings
from tests.tiny_roles import PROMPTS, Log

CLOSE = 1e-5  # the largest difference of a weight
SIZES = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
}


def qwen3() -> PreTrainedModel:
    """Norms of queries and keys, and a head apart from the embedding."""
    torch.manual_seed(0)
    return Qwen3ForCausalLM(Qwen3Config(**SIZES, tie_word_embeddings=False)).eval()


def gemma2() -> PreTrainedModel:
    """Caps on attention and logits, and on every other layer a window shorter than the rows."""
    torch.manual_seed(0)
    caps = {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 5.0}
    config = Gemma2Config(**SIZES, **caps, sliding_window=4, query_pre_attn_scalar=8)
    return Gemma2ForCausalLM(config).eval()


ARCHITECTURES = {"llama": tiny.llama, "gpt2": tiny.gpt2, "qwen3": qwen3, "gemma2": gemma2}
CRITICS = ("reward", "zero", "head")
VARIANTS = [
    {},
    {"epochs": 2, "value_clip_range": 0.001, "clip_range": 0.001},
    {"epochs": 2, "dual_clip": 1.003, "clip_range": 0.002, "max_grad_norm": 0.1},
    {"kl_target": 0.1, "kl_horizon": 40, "temperature": 0.7, "whiten_advantages": False},
    {"missing_eos": "subtract", "missing_eos_penalty": 0.5, "reward_clip": 0.4, "gae_lambda": 1.0},
    {"temperature": 1.3, "whiten_rewards": True, "gamma": 0.97, "lr_schedule": "constant"},
]
OTHER_STOPS = {4: {"pad_id": 1}}  # by variant: a stop token that is the padding too
CASES = [
    pytest.param(name, layout, critic, (2 * a + 3 * i + j) % 6, id=f"{name}-{layout}-{critic}")
    for a, name in enumerate(ARCHITECTURES)
    for i, layout in enumerate(("shared", "separate"))
    for j, critic in enumerate(CRITICS)
]


@pytest.mark.parametrize(("architecture", "layout", "critic", "variant"), CASES)
def test_after_three_iterations_the_weights_are_those_of_the_float64_reference(
    architecture, layout, critic, variant, tmp_path, monkeypatch
):
    build, settings = ARCHITECTURES[architecture], {"iterations": 3, "epochs": 1, "kl_coef": 0.3}
    settings |= VARIANTS[variant]
    moments = {"reward_mean": 0.3, "reward_std": 1.7}
    roles_settings = {"critic": critic, **moments, **OTHER_STOPS.get(variant, {})}
    if layout == "shared":
        roles = tiny_roles.shared(tmp_path, build, **roles_settings)
        models = of_shared(roles, build, **moments)
    else:
        roles = tiny_roles.separate(build, **roles_settings)
        models = of_separate(roles, build, **moments)
    config = tiny_roles.config(rollout_batch_size=8, minibatches=2, micro_batch_size=3, **settings)
    reference = ReferencePPO(models, Settings(**fields_of(config, Settings)))
    rounds = recorded(roles, config, monkeypatch)
    for given in rounds:
        reference.iterate(given)
    ours = learnt(roles, layout)
    theirs = {f"policy.{n}": w for n, w in models.policy.learning().items()}
    if models.value is not None:
        theirs |= {f"value.{n}": w for n, w in models.value.learning().items()}
    theirs |= {"value head": models.value_weight[None], "value bias": models.value_bias[None]}
    assert ours.keys() == theirs.keys()
    furthest = {n: (ours[n].double() - w.detach()).abs().max().item() for n, w in theirs.items()}
    worst = max(furthest, key=furthest.__getitem__)
    print(f"largest difference {furthest[worst]:.1e} at {worst}; {dict(reference.bound)}")
    assert furthest[worst] < CLOSE
    assert_the_settings_were_felt(config, reference.bound, rounds)


def assert_the_settings_were_felt(config, bound: Counter[str], rounds: list[Round]) -> None:
    """Lengths differ, and each clip decided some token's loss: else the case shows nothing."""
    episodes = [episode for given in rounds for episode in given.episodes]
    assert len({len(e.response) for e in episodes}) >= 3
    assert {e.finished for e in episodes} == {True, False}
    assert all(len(given.minibatches) == config.epochs * config.minibatches for given in rounds)
    assert config.dual_clip is None or bound["dual"]
    assert config.value_clip_range is None or bound["value"]
    assert config.epochs == 1 or bound["ratio"]


def test_the_reference_loads_nothing_of_ours():
    program = (
        "import sys, tests.oracles.ppo; "
        "sys.exit(any(name.split('.')[0] in ('align', 'stages', 'peft', 'trl') "
        "for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def fields_of(config, kind: type) -> dict:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(kind)}


def recorded(roles, config, monkeypatch) -> list[Round]:
    """Run PPO; tell what it sampled, and how it dealt that out to its optimiser steps."""
    rounds: list[Round] = []
    sample, accumulate = ppo.sample, ppo.accumulate

    def after_sampling(*args, **settings):
        samples, sequences = sample(*args, **settings)
        finished = [one.finished for one in samples]
        episodes = [
            Episode(*texts, end) for texts, end in zip(texts_of(sequences), finished, strict=True)
        ]
        rounds.append(Round(episodes, []))
        return samples, sequences

    def before_a_step(roles, minibatch, *args, **settings):
        left = [(e.prompt, e.response) for e in rounds[-1].episodes]
        rows = []
        for texts in texts_of(minibatch.sequences):
            rows.append(left.index(texts))  # equal episodes are one as good as the other
            left[rows[-1]] = None
        rounds[-1].minibatches.append(rows)
        return accumulate(roles, minibatch, *args, **settings)

    monkeypatch.setattr(ppo, "sample", after_sampling)
    monkeypatch.setattr(ppo, "accumulate", before_a_step)
    ppo.train(roles, PROMPTS, config, tracker=Log(), seed=0)
    return rounds


def texts_of(sequences: Sequences) -> list[tuple[list[int], list[int]]]:
    """Prompt and response of each row, without padding."""
    texts = []
    for ids, seen, mask in zip(
        sequences.input_ids, sequences.attention_mask, sequences.response_mask, strict=True
    ):
        tokens, length = ids[seen].tolist(), int(mask.sum())
        texts.append((tokens[:-length], tokens[-length:]))
    return texts


# The same start in the reference's own terms ------------------------------------------------------


def of_separate(roles: SeparateRoles, build: Callable, **moments: float) -> Models:
    scorer = tiny_roles.reward_model(build)
    value = None
    if roles.value_trunk is not None:
        source = scorer if roles.value_head.weight.any() else build()
        value = Trunk.of(source, learns=True)
    return Models(
        policy=LanguageModel.of(build(), learns=True),
        reference=LanguageModel.of(build()),
        reward=Trunk.of(scorer),
        reward_head=scorer.score.weight.detach().double()[0],
        value=value,
        **value_head(roles, scorer.score.weight, **moments),
        **moments,
    )


def of_shared(roles: SharedRoles, build: Callable, **moments: float) -> Models:
    value = adapters(roles, VALUE)
    return Models(
        policy=LanguageModel.of(build(), adapters=adapters(roles, POLICY), learns=True),
        reference=LanguageModel.of(build()),
        reward=Trunk.of(build(), adapters=adapters(roles, REWARD)),
        reward_head=roles.reward_head.weight.detach().double()[0],
        value=Trunk.of(build(), adapters=value, learns=True) if value else None,
        **value_head(roles, roles.reward_head.weight, **moments),
        **moments,
    )


def value_head(roles, of_reward: Tensor, *, reward_mean: float, reward_std: float) -> dict:
    """Zero, or what gives the normalised score."""
    copied = bool(roles.value_head.weight.any())
    weight = of_reward.detach().double()[0] / reward_std if copied else torch.zeros(32).double()
    bias = torch.tensor(-reward_mean / reward_std if copied else 0.0, dtype=torch.float64)
    return {"value_weight": weight.requires_grad_(), "value_bias": bias.requires_grad_()}


def adapters(roles: SharedRoles, adapter: str) -> dict[str, Adapter]:
    """The adapter's matrices by the weight that each is on, named as in a plain trunk."""
    found = {}
    for name, layer in roles.trunk.named_modules():
        if adapter in getattr(layer, "lora_A", {}):
            a, b = (getattr(layer, part)[adapter].weight for part in ("lora_A", "lora_B"))
            found[f"{name}.weight"] = Adapter(a, b, scale=2.0)  # LoraConfig: alpha 8 over rank 4
    return found


def learnt(roles, layout: str) -> dict[str, Tensor]:
    """Our trained weights under the reference's names."""
    found = {"value head": roles.value_head.weight, "value bias": roles.value_head.bias}
    if layout == "shared":
        for role, name in (("policy", POLICY), ("value", VALUE)):
            for weight, adapter in adapters(roles, name).items():
                found |= {f"{role}.{weight}.A": adapter.a, f"{role}.{weight}.B": adapter.b}
        return found
    policy: nn.Module = roles.policy
    trunk, head = policy.base_model, policy.get_output_embeddings().weight
    found |= {f"policy.{name}": weight for name, weight in trunk.named_parameters()}
    if head is not policy.get_input_embeddings().weight:
        found["policy.head"] = head
    if roles.value_trunk is not None:
        found |= {f"value.{name}": w for name, w in roles.value_trunk.named_parameters()}
    return found
