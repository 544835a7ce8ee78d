"""The recipe for a real model: it parses, and every stage takes two steps with a tiny stand-in.

The stand-in has Qwen3's architecture and chat template (answers end `<|im_end|>\\n`, past
thoughts are dropped, no generation markers); the rows have the layout of the recipe's data sets.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
import trl
from transformers import Qwen3Config, Qwen3ForCausalLM

from align.config.recipe import load_recipe
from align.data import chat
from tests import tiny
from tests.stages.world import World, rows, seen_batches

RECIPE = Path(__file__).parents[2] / "stages" / "recipes" / "qwen3-0.6b.yaml"
TEMPLATE = Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja"
ITEMS = {
    "sft": ["trainer.max_steps=2"],
    "reward": ["trainer.max_steps=2"],
    "dpo": ["trainer.max_steps=2"],
    "ppo": ["iterations=2", "rollout_batch_size=4", "micro_batch_size=2", "max_new_tokens=6"],
    "evaluate": ["max_new_tokens=6", "bootstrap=20"],
}


def tokenizer():
    """Qwen3's special tokens and template on the byte-level vocabulary of the tests."""
    tokenizer = copy.deepcopy(tiny.tokenizer())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.pad_token, tokenizer.eos_token = special[0], special[2]
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = TEMPLATE.read_text("utf-8")
    return tokenizer


def model():
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        eos_token_id=302,
        pad_token_id=300,
        bos_token_id=None,
    )
    return Qwen3ForCausalLM(config)


def conversation(*contents):
    roles = ["user", "assistant"] * len(contents)
    return [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    recipe = load_recipe(RECIPE).model_dump(mode="json", exclude={"name"})
    world = World(
        tmp_path_factory.mktemp("qwen3"), model=model(), tokenizer=tokenizer(), recipe=recipe
    )
    ultrachat = [
        {
            "prompt": r["prompt"],
            "messages": conversation(r["prompt"], r["chosen"], "And?", "That is all."),
        }
        for r in rows()
    ]

    def ultrafeedback(some):
        return [
            {
                "prompt": r["prompt"],
                "chosen": conversation(r["prompt"], r["chosen"]),
                "rejected": conversation(r["prompt"], r["rejected"]),
                "messages": conversation(r["prompt"], r["chosen"]),
                "score_chosen": 8.0,
                "score_rejected": 4.0,
            }
            for r in some
        ]

    train = world.write("preferences.jsonl", ultrafeedback(rows(20)))
    test = world.write("heldout.jsonl", ultrafeedback(rows(40)[20:]))
    paths = {"instructions": world.write("chat.jsonl", ultrachat), "preferences": train}
    paths |= {"preferences_heldout": test, "prompts": train, "evaluation": test}
    for name, path in paths.items():
        recipe["data"][name] |= {"path": path, "revision": None}
    recipe["model"] = {"path": str(world.base), "device": "cpu", "threads": 1}
    recipe["tracking"] = {"wandb": "off"}
    return world


def test_the_recipe_parses_as_it_stands():
    recipe = load_recipe(RECIPE)
    assert recipe.model.path == "Qwen/Qwen3-0.6B"
    assert all(getattr(recipe, stage).lora for stage in ("sft", "reward", "dpo", "ppo"))
    sources = [getattr(recipe.data, name) for name in type(recipe.data).model_fields]
    assert all(source.revision for source in [recipe.model, *sources])


def test_two_steps_of_every_stage(world, monkeypatch):
    from trl import SFTTrainer

    answers = []

    def record(_, inputs):
        for ids, labels in zip(inputs["input_ids"], inputs["labels"], strict=True):
            answers.append(tokenizer().decode(ids[labels != -100]))

    seen_batches(monkeypatch, SFTTrainer, record)
    for stage, items in ITEMS.items():
        assert world.run(stage, *items) == 0, stage
    expected = {f"{text}<|im_end|>" for text in ["That is all.", *(r["chosen"] for r in rows())]}
    assert set(answers) <= expected
    assert [row["step"] for row in world.curve("dpo")] == [1, 2]
    assert world.curve("dpo")[0]["dpo/train/loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert world.curve("ppo")[0]["ppo/kl/sequence"] == pytest.approx(0, abs=1e-3)
    for stage in ("sft", "reward", "dpo", "ppo"):
        assert world.manifest(stage)["kind"] == "adapter"


def test_each_answer_of_a_conversation_is_encoded_as_it_would_be_sampled():
    messages = conversation("a", "first", "b", "second")
    sequences = chat.encode_answers(tokenizer(), messages)
    for (ids, mask), turn in zip(sequences, (1, 3), strict=True):
        prompt = chat.prompt_ids(tokenizer(), messages[:turn])
        assert ids[: len(prompt)] == prompt
        assert mask == [False] * len(prompt) + [True] * (len(ids) - len(prompt))
        assert tokenizer().decode(ids[-1:]) == "<|im_end|>"
    second = tokenizer().decode(sequences[1][0])
    assert second.count("<think>\n\n</think>\n\n") == 1
    assert "assistant\nfirst<|im_end|>" in second
