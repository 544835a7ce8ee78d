"""A tokenizer's padding is never its stop token, and every stop token is known."""

from __future__ import annotations

import copy
import json

from align.models import load as models
from align.models.vocabulary import fit_embeddings
from tests import tiny


def test_a_tokenizer_whose_pad_is_its_stop_token_gets_another_pad(tmp_path):
    tokenizer = copy.deepcopy(tiny.tokenizer())
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(tmp_path)
    loaded = models.load_tokenizer(tmp_path)
    assert loaded.pad_token == "<|pad|>"
    assert len(loaded) == 300


def test_a_new_pad_token_gets_an_embedding(tmp_path):
    tokenizer = copy.deepcopy(tiny.tokenizer())
    tokenizer.pad_token = None
    state = json.loads(tokenizer.backend_tokenizer.to_str().replace("<|pad|>", "zzz"))
    state["padding"] = None  # what another test may have left in the shared one
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] == "<|end|>"]
    bare = type(tokenizer)(
        tokenizer_object=type(tokenizer.backend_tokenizer).from_str(json.dumps(state)),
        eos_token="<|end|>",
    )
    bare.chat_template = "{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}"
    bare.save_pretrained(tmp_path)
    loaded, model = models.load_tokenizer(tmp_path), tiny.llama()
    fit_embeddings(model, loaded)
    assert loaded.pad_token_id == 300
    assert model.get_input_embeddings().weight.shape[0] == 301


def test_stop_ids_are_the_templates_then_the_models():
    tokenizer, model = tiny.tokenizer(), tiny.llama()
    model.generation_config.eos_token_id = [2, 1]
    assert models.stop_ids(tokenizer, model) == [1, 2]
