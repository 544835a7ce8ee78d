"""What is chosen by the number of rows: worked by hand, and told, and kept, and overruled."""

import pytest
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from stages.support.by_rows import chosen, size, steps_of
from tests.stages.world import World

TINY = {"parameters": 1_894_000, "lora": False}
BIG = {"parameters": 1_000_000_000}


@pytest.mark.parametrize(
    ("rows", "batch", "epochs", "steps"),
    [
        (40, 4, 4, 40),  # ten steps an epoch: no more than four passes
        (400, 8, 4, 200),  # 50 an epoch, 300 wanted: no more than four passes
        (4_000, 16, 2, 500),  # 250 an epoch: the second pass reaches 300
        (40_000, 32, 1, 1_250),
    ],
)
def test_few_rows_are_passed_more_often_in_smaller_batches(rows, batch, epochs, steps):
    found = chosen("sft", rows, {}, **TINY)
    assert found["per_device_train_batch_size"] == batch
    assert found["num_train_epochs"] == epochs
    assert steps_of(rows, found) == steps
    assert found["warmup_steps"] == steps // 20


def test_the_plan_and_the_reward_model_reckon_with_the_same_size():
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=False,
        num_labels=1,
    )
    policy, reward = LlamaForCausalLM(config), LlamaForSequenceClassification(config)
    assert policy.num_parameters() - reward.num_parameters() == 300 * 16 - 16
    # embeddings, four attention and three MLP matrices, three norms
    assert size(policy) == size(reward) == 300 * 16 + 7 * 16 * 16 + 3 * 16


def test_the_rate_falls_with_the_size_of_the_model_and_with_few_rows():
    many = chosen("sft", 4_000, {}, lora=False, **BIG)["learning_rate"]
    assert many == 2e-5
    assert chosen("sft", 4_000, {}, lora=True, **BIG)["learning_rate"] == 2e-4
    # a hundredth of the rows: 0.01 ** 0.3 = 0.251
    assert chosen("sft", 40, {}, lora=False, **BIG)["learning_rate"] == 5e-6
    # a five hundredth of the weights: (1.894e6 / 1e9) ** -0.6 = 43.0
    assert chosen("sft", 4_000, {}, **TINY)["learning_rate"] == pytest.approx(8.6e-4)
    # adapters of a small model: ten times that, but no more than 2e-3
    assert chosen("sft", 4_000, {}, **TINY | {"lora": True})["learning_rate"] == 2e-3


def test_a_large_model_takes_a_large_batch_in_parts():
    found = chosen("sft", 40_000, {}, lora=True, **BIG)
    assert found["per_device_train_batch_size"] * found["gradient_accumulation_steps"] == 32
    assert steps_of(40_000, found) == 1_250


@pytest.mark.parametrize(
    "given",
    [
        {"max_steps": 3},
        {"num_train_epochs": 2},
        {"per_device_train_batch_size": 2},
        {"gradient_accumulation_steps": 4},
        {"learning_rate": 1e-4},
        {"warmup_steps": 0},
    ],
)
@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "kto"])
def test_what_the_recipe_says_is_never_chosen(stage, given):
    found = chosen(stage, 400, given, **TINY)
    assert not set(found) & set(given)
    if "max_steps" in given:
        assert "num_train_epochs" not in found
    if "gradient_accumulation_steps" in given:
        assert "per_device_train_batch_size" not in found


@pytest.mark.parametrize(
    ("trainer", "steps"),
    [
        ({}, 15),  # TRL's own: 8 rows, three passes over 40
        ({"max_steps": 7, "num_train_epochs": 9}, 7),
        ({"per_device_train_batch_size": 16, "num_train_epochs": 1}, 3),
        ({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}, 12),
        ({"num_train_epochs": 0.5}, 3),
    ],
)
def test_steps_are_those_of_transformers_trainer(trainer, steps):
    assert steps_of(40, trainer) == steps


def test_a_stage_trains_with_what_is_chosen_tells_it_and_keeps_it(tmp_path, capsys):
    world = World(tmp_path)
    world.recipe["sft"] = {"max_length": 128, "trainer": {"num_train_epochs": 2}}
    assert world.run("sft") == 0
    chosen_ = world.manifest("sft")["chosen"]
    assert chosen_.keys() == {"per_device_train_batch_size", "learning_rate"}
    assert world.curve("sft")[-1]["step"] == 10  # twenty rows, four a step, twice
    rates = [row["sft/train/learning_rate"] for row in world.curve("sft")]
    assert rates[0] == chosen_["learning_rate"]
    told = f"learning_rate={chosen_['learning_rate']}"
    assert f"sft      sft.trainer, chosen for 20 rows: per_device_train_batch_size=4, {told}" in (
        capsys.readouterr().out
    )
