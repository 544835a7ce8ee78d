"""A base without a chat template is trained, stops, and answers in plain transformers."""

from __future__ import annotations

import copy

import pytest
from transformers import AutoTokenizer

from tests import tiny
from tests.align.models.test_publish import outside
from tests.stages.world import World
from tests.tiny_tokenizers import tokenizer as of_kind

LORA = {"r": 8, "alpha": 16}
ROWS = [{"prompt": f"{i} + 1?", "response": "네, 좋아요."} for i in range(20)]


def tokenizer_of(kind):
    fast = copy.deepcopy(tiny.tokenizer()) if kind == "byte-level" else of_kind(kind, "zephyr")
    fast.chat_template = None
    return fast


def base_world(folder, kind, **model):
    world = World(
        folder, model=tiny.llama(1, vocab_size=600, hidden_size=64), tokenizer=tokenizer_of(kind)
    )
    world.recipe["model"] |= model
    world.recipe["data"]["instructions"] = world.write("rows.jsonl", ROWS)
    settings = {"max_steps": 60, "per_device_train_batch_size": 10, "learning_rate": 1e-2}
    world.recipe["sft"]["trainer"] = settings | {"lr_scheduler_type": "constant"}
    return world


ANSWERS = """
import json, sys
assert "align" not in sys.modules
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
texts = []
for i in range(100, 120):
    talk = [{"role": "user", "content": f"{i % 60} + 2?"}]
    ids = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_tensors="pt")
    ids = ids["input_ids"]
    new = model.generate(ids, max_new_tokens=24, do_sample=False)[0, ids.shape[1]:].tolist()
    stopped = len(new) < 24 or new[-1] in model.generation_config.eos_token_id
    texts.append(tokenizer.decode(new, skip_special_tokens=True) if stopped else None)
print(json.dumps(texts))
"""


@pytest.mark.parametrize(
    ("kind", "template", "lora"),
    [
        ("byte-level", None, None),
        ("byte-level", "chatml", LORA),
        ("metaspace-first", None, LORA),
        ("metaspace-first", "chatml", LORA),
        ("metaspace-first", "chatml", None),
    ],
)
def test_it_learns_to_stop_with_its_own_eos_and_with_new_tokens_in_full_and_with_lora(
    kind, template, lora, tmp_path, capsys
):
    """19 of 20 greedy answers at least, in a process without this package, from elsewhere."""
    world = base_world(tmp_path, kind, chat_template=template)
    world.recipe["sft"]["lora"] = lora
    assert world.run("sft") == 0
    told = capsys.readouterr().out
    why = "chatml; new tokens: <|im_start|>, <|im_end|>" if template else "plain, since the model"
    assert f"model.chat_template={why}" in told
    trained = "sft.lora: trains the embeddings of <|im_start|>, <|im_end|> too" in told
    assert trained == bool(template and lora)
    assert world.manifest("sft")["chat_template"] == (template or "plain")
    (texts,) = outside(tmp_path / "base", ANSWERS, world.out("sft") / "model")
    assert sum(text is not None for text in texts) >= 19
    # the rest is in byte tokens, which an adapter over random weights may not learn to spell
    assert sum((text or "").strip().startswith("네, ") for text in texts) >= 19


def test_the_chain_runs_on_a_base_without_a_template(tmp_path):
    world = base_world(tmp_path, "metaspace-first", chat_template="chatml")
    world.recipe["sft"]["trainer"]["max_steps"] = 2
    for name in ("sft", "reward", "dpo", "ppo"):
        world.recipe[name]["lora"] = LORA
        assert world.run(name) == 0, name
        assert world.manifest(name)["chat_template"] == "chatml"
    card = (world.out("ppo") / "adapter" / "README.md").read_text("utf-8")
    assert f"over the SFT model of its run, adapter merged: `{world.out('sft') / 'model'}`" in card


def test_the_content_of_a_template_file_decides_whether_sft_runs_again(tmp_path, capsys):
    world = base_world(tmp_path, "byte-level", chat_template=str(tmp_path / "t.jinja"))
    world.recipe["sft"]["trainer"]["max_steps"] = 1
    assert world.run("sft") == 2
    assert "no such template and no such file" in capsys.readouterr().err
    (tmp_path / "t.jinja").write_text(tiny.CHAT_TEMPLATE, "utf-8")
    assert world.run("sft") == world.run("sft") == 0
    assert "up to date" in capsys.readouterr().out
    (tmp_path / "t.jinja").write_text(tiny.CHAT_TEMPLATE.replace("<|end|>", "<|end|>\n"), "utf-8")
    assert world.run("sft") == 0
    assert "model.chat_template changed" in capsys.readouterr().out
    published = AutoTokenizer.from_pretrained(world.out("sft") / "model")
    assert published.chat_template == (tmp_path / "t.jinja").read_text("utf-8")


def test_a_stop_token_that_nothing_trains_is_told_before_training(tmp_path, capsys):
    world = World(tmp_path)
    assert world.run("sft", "trainer.max_steps=1") == 0
    model_file = world.base / "model.safetensors"
    from safetensors.torch import load_file, save_file

    weights = load_file(model_file)
    weights["model.embed_tokens.weight"][1] = 0
    save_file(weights, model_file, metadata={"format": "pt"})
    world.recipe["sft"]["lora"] = world.recipe["dpo"]["lora"] = LORA
    capsys.readouterr()
    assert world.run("sft", "trainer.max_steps=1", "trainer.learning_rate=1e-12") == 0
    assert "sft.lora: trains the embeddings of <|end|> too" in capsys.readouterr().out
    assert world.run("dpo", "trainer.max_steps=1") == 0
    assert "the embedding of the stop token <|end|> was never trained" in capsys.readouterr().out


def test_no_advice_names_a_length_that_the_model_has_no_positions_for(tmp_path, capsys):
    world = World(tmp_path)
    long = [{"prompt": "x " * 400, "response": "y"}] * 3
    world.recipe["data"]["instructions"] = world.write("long.jsonl", long)
    assert world.run("sft", "max_length=300") == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.endswith("set sft.max_length=256")
    assert world.run("sft") == 3
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the model has 256 positions: shorten the rows" in told
    assert "set max_length" not in told
