"""A model's folder is data: nothing in it is run, fetched, or read from elsewhere."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from transformers.integrations import hub_kernels

from align.messages.errors import ConfigError
from align.models.load import load_causal_lm, load_reward_model, load_tokenizer
from align.sampling.self_check import read_positions
from tests import tiny

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    tiny.llama().save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "model"))


def change(file, **values):
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | values))


NAMES_CODE = [
    {"_attn_implementation": "evil/kernel"},
    {"attn_implementation": "evil/kernel@main:attention"},
    {"_attn_implementation_internal": "evil/kernel"},
    {"_attn_implementation": {"": "evil/kernel"}},
    {"_attn_implementation": ["evil/kernel"]},
    {"attn_implementation": "kernels-community/flash-attn2"},
    {"attn_implementation": "paged|evil/kernel"},
    {"text_config": {"_attn_implementation": "evil/kernel"}},
    {"_experts_implementation": "evil/kernel"},
    {"experts_implementation": {"a": {"b": "evil/kernel"}}},
    {"_attn_implementation": "flash_attention_3"},
]
IMPOSSIBLE = [
    {"num_hidden_layers": 10**9},
    {"num_hidden_layers": 1e300},
    {"vocab_size": 10**12},
    {"hidden_size": 10**12},
    {"num_attention_heads": 10**9},
    {"text_config": {"num_layers": 10**9}},
]


@pytest.mark.parametrize("values", [*NAMES_CODE, *IMPOSSIBLE], ids=str)
def test_a_configuration_that_names_code_or_impossible_sizes_is_refused(
    folder, values, monkeypatch
):
    def fetched(*_args, **_kwargs):
        raise AssertionError("the hub's kernel loader was reached")

    monkeypatch.setattr(hub_kernels, "load_and_register_attn_kernel", fetched)
    monkeypatch.setattr("align.models.untrusted.importlib.util.find_spec", lambda _name: None)
    change(folder / "config.json", **values)
    for load in (
        lambda: load_causal_lm(folder, device=CPU),
        lambda: load_reward_model(folder, pad_id=0, device=CPU),
        lambda: read_positions(folder),
    ):
        with pytest.raises(ConfigError, match=r"config\.json: ") as told:
            load()
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["sdpa", "eager", None])
def test_an_attention_of_transformers_itself_may_be_named(folder, name):
    change(folder / "config.json", _attn_implementation=name)
    assert load_causal_lm(folder, device=CPU).config._attn_implementation in ("sdpa", "eager")


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "a/b", "..", 5, ""])
def test_weights_in_another_folder_are_refused(folder, name):
    weights = folder / "model.safetensors"
    weights.rename(folder.parent / "other.safetensors")
    index = {"metadata": {}, "weight_map": {"model.norm.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConfigError, match="weight_map"):
        load_causal_lm(folder, device=CPU)


class Payload:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch '{self.canary}'",)


def test_a_pickle_is_never_opened(folder, tmp_path):
    canary = tmp_path / "ran"
    payload = pickle.dumps(Payload(canary))
    for name in ("pytorch_model.bin", "training_args.bin", "model.pt", "optimizer.pt"):
        (folder / name).write_bytes(payload)
    load_causal_lm(folder, device=CPU)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="cannot load a model"):
        load_causal_lm(folder, device=CPU)
    assert not canary.exists()


def test_code_beside_a_model_is_never_run(folder, tmp_path):
    canary = tmp_path / "ran"
    for name in ("modeling_evil.py", "tokenization_evil.py", "generate.py", "conftest.py"):
        (folder / name).write_text(f"open({str(canary)!r}, 'w')\nclass Evil: pass\n")
    (folder / "custom_generate").mkdir()
    shutil.copy(folder / "generate.py", folder / "custom_generate" / "generate.py")
    evil = {"AutoModelForCausalLM": "modeling_evil.Evil", "AutoConfig": "modeling_evil.Evil"}
    change(folder / "config.json", auto_map=evil)
    change(
        folder / "tokenizer_config.json",
        auto_map={"AutoTokenizer": ["tokenization_evil.Evil", None]},
        tokenizer_class="Evil",
    )
    for model_type in ("llama", "evil"):
        change(folder / "config.json", model_type=model_type)
        for load in (load_tokenizer, lambda path: load_causal_lm(path, device=CPU)):
            with contextlib.suppress(ConfigError):
                load(folder)
    assert not canary.exists()


def test_links_are_followed_as_the_hubs_own_cache_needs_it(folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (folder / name).rename(tmp_path / name)
        (folder / name).symlink_to(tmp_path / name)
    load_causal_lm(folder, device=CPU)


BAD_VALUES = [
    {"num_attention_heads": "4"},
    {"hidden_size": None},
    {"hidden_size": [32]},
    {"model_type": 5},
    {"model_type": []},
    {"rope_parameters": "x"},
    {"hidden_act": "evil"},
    {"hidden_act": 5},
    {"num_hidden_layers": -1},
    {"hidden_size": 0},
]


@pytest.mark.parametrize("values", BAD_VALUES, ids=str)
def test_a_value_of_another_kind_is_one_line(folder, values):
    change(folder / "config.json", **values)
    with pytest.raises(ConfigError) as told:
        load_causal_lm(folder, device=CPU)
    assert "\n" not in str(told.value)


def test_every_loader_says_that_code_of_the_repository_is_not_run():
    """Left out, transformers asks on the terminal."""
    asked = []
    for path in (p for top in ("align", "stages") for p in (ROOT / top).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            owner = ast.unparse(node.func.value)
            if node.func.attr == "from_pretrained" and (
                owner.startswith("Auto") or "auto" in owner
            ):
                asked.append(f"{path.name}:{node.lineno}")
                assert "trust_remote_code" in {word.arg for word in node.keywords}, asked[-1]
    assert len(asked) >= 4
