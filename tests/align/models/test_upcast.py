"""Passes in float32 with weights stored in bfloat16, and the weights untouched by them."""

from __future__ import annotations

import copy

import pytest
import torch

from align.models.upcast import decoder_layers, in_float32
from tests import architectures

IDS = torch.arange(2, 26)[None]
KINDS = ["llama", "gpt2", "gemma3", "qwen3_moe", "qwen3_5", "mamba2"]


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


@pytest.mark.parametrize("kind", KINDS)
def test_the_pass_is_that_of_a_copy_in_float32(kind):
    """Bit for bit; in bfloat16 it is .03 to .5 nats off."""
    model = architectures.build(kind).bfloat16()
    stored = {name: weight.clone() for name, weight in model.named_parameters()}
    expected = logits(copy.deepcopy(model).float())
    assert (logits(model) - expected).abs().max() > 0.01
    with in_float32(model):
        assert torch.equal(logits(model), expected)
    for name, weight in model.named_parameters():
        assert weight.dtype == torch.bfloat16
        assert torch.equal(weight, stored[name])


def test_one_layer_at_a_time_is_float32():
    model = architectures.build("llama", num_hidden_layers=3).bfloat16()
    layers = decoder_layers(model)
    assert len(layers) == 3
    seen = []
    for layer in layers:
        layer.mlp.register_forward_hook(
            lambda *_: seen.append([next(each.parameters()).dtype for each in layers])
        )
    with in_float32(model):
        logits(model)
        after = {weight.dtype for layer in layers for weight in layer.parameters()}
    half, full = torch.bfloat16, torch.float32
    assert seen == [[full, half, half], [half, full, half], [half, half, full]]
    assert after == {half}


def test_a_pass_that_fails_leaves_the_weights_as_they_were():
    model = architectures.build("llama").bfloat16()

    def fail(*_):
        raise RuntimeError("halfway")

    decoder_layers(model)[1].mlp.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="halfway"), in_float32(model):
        logits(model)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
