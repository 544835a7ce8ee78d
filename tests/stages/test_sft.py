"""SFT trains on answers and their stop tokens, publishes a plain model, and fails in one line."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from align.data import chat
from tests import tiny
from tests.stages.world import LORA, World, rows, seen_batches, weights

STOP = 1
EXPLODE = ("trainer.learning_rate=1e30", "trainer.max_grad_norm=1e30")


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_the_loss_is_on_answers_and_stop_tokens_only(world, monkeypatch):
    from trl import SFTTrainer

    batches = []
    seen_batches(monkeypatch, SFTTrainer, lambda _, inputs: batches.append(dict(inputs)))
    assert world.run("sft") == 0
    tokenizer = tiny.tokenizer()
    answers = {row["chosen"] + "<|end|>" for row in rows()}
    for batch in batches:
        for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
            counted = labels[labels != -100]
            assert tokenizer.decode(counted) in answers
            assert counted[-1] == STOP
            assert torch.equal(ids[labels != -100], counted)


def test_a_conversation_trains_each_answer_once(world, monkeypatch):
    from trl import SFTTrainer

    messages = [
        {"role": role, "content": text}
        for role, text in zip(["user", "assistant"] * 2, ["a", "first", "b", "second"], strict=True)
    ]
    world.recipe["data"]["instructions"] = world.write("messages.jsonl", [{"messages": messages}])
    seen = []
    seen_batches(monkeypatch, SFTTrainer, lambda _, inputs: seen.append(inputs["labels"][0]))
    assert world.run("sft", "trainer.max_steps=1") == 0
    assert tiny.tokenizer().decode(seen[0][seen[0] != -100]) == "first<|end|>second<|end|>"


def test_the_stop_token_is_learned(world):
    settings = {"max_steps": 80, "per_device_train_batch_size": 10, "learning_rate": 5e-3}
    world.recipe["sft"]["trainer"] = settings | {"lr_scheduler_type": "constant"}
    assert world.run("sft") == 0
    model = AutoModelForCausalLM.from_pretrained(world.out("sft") / "model")
    for row in rows(4):
        prompt = [{"role": "user", "content": row["prompt"]}]
        messages = [*prompt, {"role": "assistant", "content": row["chosen"]}]
        ids, _ = chat.encode(tiny.tokenizer(), messages)
        probabilities = model(torch.tensor([ids])).logits[0, -2].softmax(-1)
        assert probabilities[STOP] > 0.9


@pytest.mark.parametrize("lora", [None, LORA])
def test_what_is_published(world, lora):
    if lora:
        world.recipe["sft"]["lora"] = lora
    assert world.run("sft") == 0
    manifest, out = world.manifest("sft"), world.out("sft")
    assert manifest["kind"] == ("adapter" if lora else "full")
    assert (out / "adapter").exists() == bool(lora)
    assert not (out / "trainer").exists()
    assert manifest["metrics"]["sft/data/rows"] == 20
    assert [row["step"] for row in world.curve("sft")] == [1, 2]
    assert {"sft/train/loss", "sft/train/grad_norm"} <= world.curve("sft")[0].keys()
    before, after = weights(world.base), weights(out / "model")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    if lora:
        assert not any("embed" in name or "norm" in name for name in changed)
    assert AutoTokenizer.from_pretrained(out / "model").chat_template == tiny.CHAT_TEMPLATE


def test_equal_runs_give_equal_weights(world):
    assert world.run("sft") == world.run("sft", "run=again") == 0
    first = weights(world.out("sft") / "model")
    second = weights(world.out("sft").parents[1] / "again" / "sft" / "model")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_rows_that_are_too_long_are_dropped_and_told(world, capsys):
    long = {"prompt": "x " * 200, "response": "y"}
    short = [{"prompt": row["prompt"], "response": row["chosen"]} for row in rows()]
    world.recipe["data"]["instructions"] = world.write("rows.jsonl", [*short, long])
    assert world.run("sft") == 0
    assert world.manifest("sft")["metrics"]["sft/data/too_long"] == 1
    assert "dropped 1 rows longer than max_length=128 tokens" in capsys.readouterr().out


def test_a_max_length_that_drops_most_rows_is_refused(world, capsys):
    assert world.run("sft", "max_length=5") == 3
    assert "20 of 20 rows are longer than max_length=5 tokens; set max_length=" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("items", "code", "line"),
    [
        ([*EXPLODE, "trainer.max_steps=2"], 4, "sft/train/grad_norm=nan at step 2; lower"),
        ([*EXPLODE, "trainer.max_steps=9", "trainer.logging_steps=99"], 4, "error: loss=nan at"),
        (["trainer.lr_scheduler_type=cosinus"], 2, "sft.trainer: cosinus is not"),
        (["trainer.eval_strategy=steps"], 2, "sft.trainer.eval_strategy: not set here; the eval"),
        (["model.device=cuda"], 2, "device=cuda"),
    ],
)
def test_what_cannot_work_ends_in_one_line_and_publishes_nothing(world, capsys, items, code, line):
    if torch.cuda.is_available() and "model.device=cuda" in items:
        items = ["trainer.no_such_field=1"]
        line = "no such field"
    assert world.run("sft", *items) == code
    err = capsys.readouterr().err
    assert line in err
    assert "Traceback" not in err
    assert not world.out("sft").exists()


def test_bad_rows_are_told_before_a_model_is_loaded(world, capsys, monkeypatch):
    world.recipe["data"]["instructions"] = world.write("rows.jsonl", [{"prompt": "a"}])
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", None)
    assert world.run("sft") == 3
    assert "rows.jsonl:1: response: missing; give every row" in capsys.readouterr().err


def test_the_manifest_names_the_date_that_the_template_writes_as_todays(world):
    tokenizer = AutoTokenizer.from_pretrained(world.base)
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + tokenizer.chat_template
    tokenizer.save_pretrained(world.base)
    assert world.run("sft", "trainer.max_steps=1") == 0
    assert world.manifest("sft")["template_date"] == "2024-07-26"


def test_a_row_that_the_template_refuses_is_told_with_its_place_before_training(world, capsys):
    tokenizer = AutoTokenizer.from_pretrained(world.base)
    refusal = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    tokenizer.chat_template = refusal + tokenizer.chat_template
    tokenizer.save_pretrained(world.base)
    system = {"role": "system", "content": "Be brief."}
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    content = [{"messages": messages}, {"messages": [system, *messages]}]
    world.recipe["data"]["instructions"] = world.write("system.jsonl", content)
    assert world.run("sft") == 3
    told = capsys.readouterr().err.strip().splitlines()
    assert "system.jsonl:2: " in told[-1] and "no system" in told[-1]
    assert "Traceback" not in "".join(told)


@pytest.mark.parametrize("section", ["sft", "reward", "ppo", "dpo"])
def test_targets_that_no_adapter_can_have_are_told_before_anything_is_trained(
    world, section, capsys
):
    """The tied head of a later stage too: merged, it would change the embeddings with it."""
    world.recipe[section]["lora"] = LORA | {"targets": ["q_proj", "lm_head"]}
    assert world.run("sft") == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith(f"error: {section}.lora.targets=")
    assert "lm_head shares its weight with the embeddings" in told
