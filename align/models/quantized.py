"""A base whose linear layers are held in four bits, and trained through adapters only (QLoRA).

NF4 with doubly quantised scales; embeddings, heads and norms stay as they are. A forward pass
dequantises a layer's weights, computes with them in the type of the arithmetic, and drops them.
What is published is plain: the adapter merged into the dequantised weights, the very ones that it
was trained on. The next stage quantises that again.

Source: Dettmers 2023, arXiv:2305.14314. bitsandbytes holds the weights, on CUDA and on a CPU.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from align.config import Recipe
from align.config.methods import TRAINED
from align.messages.errors import ConfigError

BLOCK = 64
"""Weights that share a scale."""
WHOLE = ("lm_head", "score")
"""Heads, which are not quantised: one writes the tokens, the other one is trained."""


def check(recipe: Recipe, stages: Collection[str]) -> None:
    """Refuse a recipe that asks for four bits where a stage named in `stages` cannot have them.

    Raises:
        ConfigError: in one line.
    """
    if not recipe.model.load_in_4bit:
        return
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            "model.load_in_4bit: bitsandbytes is not installed; run pip install -e '.[4bit]' in "
            "this project's folder"
        )
    if recipe.model.is_file:
        raise ConfigError(
            "model.load_in_4bit: {path} is a GGUF file, which is dequantised; give a folder or a "
            "hub name, or leave load_in_4bit out",
            path=recipe.model.path,
        )
    for name in stages:
        if name in TRAINED and recipe.lora_of(name) is None:
            raise ConfigError(
                "model.load_in_4bit: {key} is not set, and only adapters can be trained on four "
                "bits; give {key}.r, or leave load_in_4bit out",
                key=recipe.lora_key(name),
            )
    if "ppo" in stages and recipe.ppo.sampler == "vllm":
        raise ConfigError(
            "model.load_in_4bit: ppo.sampler=vllm is given plain weights; use ppo.sampler=model"
        )


def settings(compute_dtype: torch.dtype | None, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` takes to load a model in four bits; nothing for None."""
    if compute_dtype is None:
        return {}
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute_dtype,
            bnb_4bit_quant_storage=torch.uint8,
            llm_int8_skip_modules=list(WHOLE),
        ),
        "device_map": {"": device},
    }


def settle(model: nn.Module) -> None:
    """Let every layer compute with the weights that it holds, on every CPU.

    On one with avx512_bf16 bitsandbytes would otherwise repack them at the first pass outside of
    training, its scales rounded to bfloat16: other weights than those that are trained on.

    Raises:
        ConfigError: a layer has a width that bitsandbytes dequantises wrongly there (0.50.2).
    """
    for name, module in model.named_modules():
        if not hasattr(module, "support_avx512bf16_for_cpu"):
            continue
        layer: Any = module
        if layer.weight.device.type == "cpu" and layer.in_features % BLOCK:
            raise ConfigError(
                "model.load_in_4bit: {name} has {width} inputs, and on a CPU bitsandbytes reads "
                "multiples of {block} only; use a GPU, or leave load_in_4bit out",
                name=name,
                width=layer.in_features,
                block=BLOCK,
            )
        layer.support_avx512bf16_for_cpu = False


def is_quantized(model: nn.Module) -> bool:
    return bool(getattr(model, "is_loaded_in_4bit", False))


@torch.no_grad()
def make_dense(model: PreTrainedModel | PeftModel) -> None:
    """Give a model the weights that it computes with, in place; its adapters stay beside them."""
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    if not is_quantized(base):
        return
    import bitsandbytes as bnb
    from peft.tuners.lora.bnb import Linear4bit as LoraLinear4bit

    for module in list(base.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, bnb.nn.Linear4bit):
                setattr(module, name, _dense(child, bnb.functional.dequantize_4bit))
        if isinstance(module, LoraLinear4bit):
            layer: Any = module
            layer.__class__ = LoraLinear  # adapters, and what else holds them, stay as they are
            layer.fan_in_fan_out = layer.is_target_conv_1d_layer = False
    base.is_loaded_in_4bit = base.is_quantized = False
    base.hf_quantizer = None
    del base.config.quantization_config


def _dense(layer: Any, dequantize: Any) -> nn.Linear:
    weight = dequantize(layer.weight.data, layer.weight.quant_state)
    with torch.device("meta"):
        plain = nn.Linear(layer.in_features, layer.out_features, bias=False)
    plain.weight = nn.Parameter(weight, requires_grad=False)
    plain.bias = layer.bias
    return plain
