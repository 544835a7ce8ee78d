"""A base in four bits: what is quantised, what is merged, and what is refused in one line."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from peft import get_peft_model

from align.config import Recipe
from align.messages.errors import ConfigError
from align.models import load, quantized
from tests import tiny, tiny_roles

CPU = torch.device("cpu")
INSTALLED = importlib.util.find_spec("bitsandbytes") is not None
MISSING = "bitsandbytes is missing: pip install -c constraints.txt -e '.[4bit]' (43 MB); CI does"
needs_bitsandbytes = pytest.mark.skipif(not INSTALLED, reason=MISSING)


def llama():
    return tiny.llama(1, hidden_size=64)


@pytest.fixture
def base(tmp_path):
    llama().save_pretrained(tmp_path)
    return tmp_path


def adapted(model, task):
    """With an adapter that matters."""
    config = tiny_roles.lora()
    if task == "reward":
        config.task_type, config.modules_to_save = "SEQ_CLS", ["score"]
    model = get_peft_model(model, config)
    torch.manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


@needs_bitsandbytes
def test_linear_layers_are_held_in_four_bits_and_nothing_else_is(base):
    """NF4 of normal weights is off by 9 % (Dettmers 2023, arXiv:2305.14314: by its 16 values)."""
    plain, model = llama(), load.load_causal_lm(base, device=CPU, in_4bit=torch.float32)
    small = {name for name, w in model.named_parameters() if w.dtype == torch.uint8}
    assert small == {n for n, _ in plain.named_parameters() if n.endswith("_proj.weight")}
    assert len(small) == 14
    for name, weight in plain.named_parameters():
        held = model.get_parameter(name)
        if name in small:
            assert held.numel() == weight.numel() / 2
        else:
            assert torch.equal(held, weight)
    quantized.make_dense(model)
    for name in small:
        whole, original = model.get_parameter(name), plain.get_parameter(name)
        assert 0.08 < (whole - original).norm() / original.norm() < 0.105


@needs_bitsandbytes
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_reward_model_computes_in_the_type_that_is_asked_for_and_keeps_a_float32_head(
    base, dtype
):
    model = load.load_reward_model(base, pad_id=0, dtype="float32", device=CPU, in_4bit=dtype)
    small = [m for m in model.modules() if hasattr(m, "compute_dtype")]
    assert len(small) == 14 and {m.compute_dtype for m in small} == {dtype}
    assert model.score.weight.dtype == model.model.embed_tokens.weight.dtype == torch.float32


@needs_bitsandbytes
def test_a_width_that_a_cpu_reads_wrongly_is_refused(tmp_path):
    tiny.llama(1, hidden_size=96).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="q_proj has 96 inputs, and on a CPU bitsandbytes reads"):
        load.load_causal_lm(tmp_path, device=CPU, in_4bit=torch.float32)


@needs_bitsandbytes
@pytest.mark.parametrize("task", ["causal", "reward"])
def test_the_merged_model_computes_what_was_trained(base, task):
    """Merged into the four bits themselves, as PEFT would, the adapter is rounded: off by far."""
    settings = {"pad_id": 0} if task == "reward" else {}
    loader = load.load_causal_lm if task == "causal" else load.load_reward_model
    model = adapted(loader(base, device=CPU, in_4bit=torch.float32, **settings), task)
    ids = torch.tensor([[5, 9, 40, 8, 200, 31]])
    with torch.no_grad():
        trained = model(ids).logits
        merged = load.merge(model)
        torch.testing.assert_close(merged(ids).logits, trained, rtol=1e-4, atol=1e-4)
    merged.save_pretrained(base / "merged")
    settings |= {"device": CPU}
    with torch.no_grad():
        again = loader(base / "merged", **settings)(ids).logits
    torch.testing.assert_close(again, trained, rtol=1e-4, atol=1e-4)


@needs_bitsandbytes
def test_a_pass_without_training_does_not_change_the_weights(base):
    """Where a CPU has avx512_bf16, bitsandbytes would round the scales to bfloat16 for good."""
    model = load.load_causal_lm(base, device=CPU, in_4bit=torch.float32)
    ids = torch.tensor([[5, 9, 40]])
    state = model.model.layers[0].mlp.up_proj.weight.quant_state
    before = state.absmax.clone()
    with torch.no_grad():
        first = model(ids).logits
        quantized.make_dense(model)
        assert torch.equal(state.absmax, before)
        assert torch.equal(model(ids).logits, first)


def recipe(**sections):
    lora = {"lora": {"r": 4}}
    given = {name: dict(lora) for name in ("sft", "reward", "dpo", "ppo")} | sections
    return Recipe(
        **({"name": "x", "data": {}, "model": {"path": "base", "load_in_4bit": True}} | given)
    )


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"dpo": {}}, "model.load_in_4bit: dpo.lora is not set, and only adapters can be trained"),
        ({"ppo": {}}, "model.load_in_4bit: ppo.lora is not set"),
        (
            {"ppo": {"lora": {"r": 4}, "sampler": "vllm"}},
            "model.load_in_4bit: ppo.sampler=vllm is given plain weights",
        ),
    ],
)
def test_what_cannot_be_in_four_bits_is_told(monkeypatch, sections, told):
    monkeypatch.setattr(quantized.importlib.util, "find_spec", lambda name: name)
    stages = ["sft", "reward", "dpo", "ppo", "rloo"]
    with pytest.raises(ConfigError) as caught:
        quantized.check(recipe(**sections), stages)
    assert str(caught.value).startswith(told)
    quantized.check(recipe(), [*stages, "evaluate", "report"])
    quantized.check(recipe(kto={}), stages)  # a stage that does not run


def test_the_baselines_of_ppo_train_its_adapters(monkeypatch):
    monkeypatch.setattr(quantized.importlib.util, "find_spec", lambda name: name)
    with pytest.raises(ConfigError, match=r"ppo\.lora is not set"):
        quantized.check(recipe(ppo={}), ["rloo"])


def test_a_gguf_file_is_not_quantised_again(monkeypatch, tmp_path):
    monkeypatch.setattr(quantized.importlib.util, "find_spec", lambda name: name)
    (tmp_path / "x.gguf").touch()
    given = recipe(model={"path": str(tmp_path / "x.gguf"), "load_in_4bit": True})
    with pytest.raises(ConfigError, match="is a GGUF file, which is dequantised"):
        quantized.check(given, ["sft"])


def test_without_bitsandbytes_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(quantized.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[4bit\]'"):
        quantized.check(recipe(), ["sft"])
    quantized.check(recipe(model={"path": "base"}), ["sft"])
