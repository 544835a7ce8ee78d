"""What is published means outside what it means here: adapters, their cards, reward models."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest
import torch
from peft import get_peft_model

from align.config import LoraSection
from align.data import chat
from align.models import load as models
from align.models import publish
from align.models.adapters import rows_to_train
from align.models.vocabulary import fit_embeddings, untrained_rows
from tests import tiny

CPU = torch.device("cpu")
LORA = LoraSection(r=2, alpha=4.0)


def untied(model):
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    return model


MODELS = {
    "tied": lambda: tiny.llama(1),
    "untied": lambda: untied(tiny.llama(1)),
    "gpt2": lambda: tiny.gpt2(1),
}


def outside(folder, code, *arguments):
    """Run code in a Python that has neither this package nor this folder on its path."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]


LOGITS = """
import sys, torch
assert "align" not in sys.modules
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer
model, adapter = sys.argv[1:]
ids = AutoTokenizer.from_pretrained(adapter).apply_chat_template(
    [{"role": "user", "content": "Hello"}], add_generation_prompt=True, return_tensors="pt"
)["input_ids"]
for each in (AutoModelForCausalLM.from_pretrained(model),
             AutoPeftModelForCausalLM.from_pretrained(adapter)):
    print(each.eval()(input_ids=ids).logits[0, -1, [1, *range(298, 302)]].tolist())
"""


@pytest.mark.parametrize("kind", MODELS)
def test_an_adapter_with_new_tokens_computes_alike_merged_and_alone_from_any_folder(
    kind, tmp_path, monkeypatch
):
    MODELS[kind]().save_pretrained(tmp_path / "base")
    tokenizer = tiny.tokenizer()
    chatless = type(tokenizer).from_pretrained(_saved(tokenizer, tmp_path / "base"))
    assert chatless.chat_template is None
    monkeypatch.chdir(tmp_path)
    tokenizer = models.load_tokenizer("base", chat_template="chatml")
    model = models.load_causal_lm("base", device=CPU)
    new = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert new == [300, 301]
    fit_embeddings(model, tokenizer, new=new)
    rows = rows_to_train(model, LORA, new)
    assert len(rows) == (2 if kind == "untied" else 1)
    torch.manual_seed(0)
    adapted = get_peft_model(model, models.lora_config(LORA, task="causal", rows=rows))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name or "trainable_tokens_delta" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    ids = torch.tensor([chat.prompt_ids(tokenizer, [{"role": "user", "content": "Hello"}])])
    picked = [1, *range(298, 302)]
    expected = adapted.eval()(input_ids=ids).logits[0, -1, picked].tolist()
    publish.save(adapted, tokenizer, tmp_path / "out", base=publish.Base("base"))
    (tmp_path / "else").mkdir()
    out = tmp_path / "out"
    for found in outside(tmp_path / "else", LOGITS, out / "model", out / "adapter"):
        assert found == pytest.approx(expected, rel=0, abs=1e-5)


def _saved(tokenizer, folder):
    """The folder, with the tokenizer as a base has it: without a template."""
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    bare.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", MODELS)
def test_new_rows_start_near_the_mean_always_alike_and_leave_the_others(kind):
    tokenizer = tiny.tokenizer()
    model, again = MODELS[kind](), MODELS[kind]()
    before = model.get_input_embeddings().weight.detach().clone()
    longer = copy.deepcopy(tokenizer)
    longer.add_tokens(["<new>"], special_tokens=True)
    for each in (model, again):
        torch.manual_seed(id(each) % 100)
        fit_embeddings(each, longer)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        assert torch.equal(layer.weight[:300], before if kind != "untied" else layer.weight[:300])
        gap = (layer.weight[300] - layer.weight[:300].mean(0)) / layer.weight[:300].std(0)
        assert 0 < gap.abs().max() < 0.5
    assert torch.equal(model.get_output_embeddings().weight, again.get_output_embeddings().weight)


def test_a_row_that_no_gradient_ever_reached_is_found_in_embeddings_and_head():
    model = untied(tiny.llama(1))
    with torch.no_grad():
        model.model.embed_tokens.weight[5] *= 1e-6
        model.lm_head.weight[7] = 0
    assert untrained_rows(model, [1, 5, 6, 7]) == [5, 7]


@pytest.mark.parametrize(
    ("base", "said"),
    [
        (publish.Base("org/model", "abc"), "over `org/model` at revision `abc`."),
        (publish.Base("SFT", is_sft=True), "over the SFT model of its run, adapter merged: `"),
    ],
)
def test_the_card_of_an_adapter_says_what_it_goes_on(base, said, tmp_path):
    if base.is_sft:
        (tmp_path / "sft").mkdir()
        base = publish.Base(str(tmp_path / "sft"), is_sft=True)
    adapted = models.add_lora(tiny.llama(1), LORA, task="causal")
    publish.save(adapted, tiny.tokenizer(), tmp_path, base=base)
    card = (tmp_path / "adapter" / "README.md").read_text("utf-8")
    assert said in card and "AutoPeftModelForCausalLM.from_pretrained" in card
    assert "More Information Needed" not in card
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text("utf-8"))
    assert config["base_model_name_or_path"] == base.place
    assert config["revision"] == base.revision
    assert card.startswith("---\nlibrary_name: peft\n")
    assert ("base_model: org/model" in card) == (not base.is_sft)


SCORES = """
import json, sys, torch
assert "align" not in sys.modules
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoModelForSequenceClassification, AutoTokenizer
model, adapter, file = sys.argv[1:]
talks = json.load(open(file, encoding="utf-8"))
tokenizer = AutoTokenizer.from_pretrained(model)
for read in (AutoModelForSequenceClassification.from_pretrained(model),
             AutoPeftModelForSequenceClassification.from_pretrained(adapter, num_labels=1)):
    scores = []
    for start in range(0, len(talks), 20):
        batch = tokenizer.apply_chat_template(
            talks[start : start + 20], padding=True, return_dict=True, return_tensors="pt")
        with torch.no_grad():
            scores += read.eval()(**batch).logits[:, 0].tolist()
    print(scores)
"""


def test_a_published_reward_model_gives_this_projects_scores_in_plain_transformers(tmp_path):
    """R4: 200 answers, by a template that writes a line break after its stop token."""
    tiny.llama(1).save_pretrained(tmp_path / "base")
    tokenizer = models.load_tokenizer(_saved(tiny.tokenizer(), tmp_path / "base"))
    tokenizer.chat_template = tiny.CHAT_TEMPLATE.replace("<|end|>", "<|end|>\n")
    model = models.load_reward_model(tmp_path / "base", pad_id=tokenizer.pad_token_id, device=CPU)
    adapted = models.add_lora(model, LORA, task="reward")
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    talks = [
        [
            {"role": "user", "content": f"{i} + {i}?" if i % 2 else f"안녕, {i}"},
            {"role": "assistant", "content": f"It is {2 * i}. " + "Thank you. " * (i % 5)},
        ]
        for i in range(200)
    ]
    ids = [chat.encode(tokenizer, talk)[0] for talk in talks]
    expected = models.reward_scores(adapted, ids, pad_id=tokenizer.pad_token_id)
    publish.save(adapted, tokenizer, tmp_path / "out", base=publish.Base(str(tmp_path / "base")))
    (tmp_path / "talks.json").write_text(json.dumps(talks), "utf-8")
    out = tmp_path / "out"
    found = outside(tmp_path, SCORES, out / "model", out / "adapter", tmp_path / "talks.json")
    assert len(found) == 2
    for scores in found:
        assert scores == pytest.approx(expected, rel=0, abs=1e-4)
        assert sorted(range(200), key=scores.__getitem__) == sorted(
            range(200), key=expected.__getitem__
        )
    published = models.load_tokenizer(out / "model")
    assert [chat.encode(published, talk)[0] for talk in talks] == ids


def test_an_adapters_file_names_its_layers_in_one_order_in_every_process(tmp_path):
    """Its bytes count where later stages ask whether their parent is still the same."""
    tokenizer, lora = tiny.tokenizer(), models.lora_config(LoraSection(r=2), task="causal")
    model = get_peft_model(tiny.llama(), lora)
    publish.save(model, tokenizer, tmp_path, base=publish.Base("base"))
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    names = [f"mlp.{n}_proj" for n in ("down", "gate", "up")]
    names += [f"self_attn.{n}_proj" for n in ("k", "o", "q", "v")]
    assert written["target_modules"] == [f"model.layers.{i}.{n}" for i in (0, 1) for n in names]
