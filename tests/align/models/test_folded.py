"""An adapter folded into its layer's weight computes what PEFT computes, and its gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode

from align.models.folded import FoldedLinear, fold_adapters
from tests import tiny, tiny_roles


def adapted(build=tiny.llama, *, dtype=torch.float32, **settings):
    """A model with an adapter that matters, as PEFT made it."""
    model = get_peft_model(build().to(dtype), tiny_roles.lora(lora_alpha=6, **settings)).eval()
    torch.manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def folded(model):
    model = copy.deepcopy(model)
    fold_adapters(model)
    return model


def logits_and_gradients(model):
    batch = tiny_roles.sequences()
    logits = model(batch.input_ids).logits
    logits[batch.attention_mask].square().mean().backward()
    return logits.detach(), {n: p.grad for n, p in model.named_parameters() if p.requires_grad}


def test_outputs_and_gradients_are_those_of_peft():
    """All 14 layers of a Llama, the scale 6 / 4 among them: 1e-5 of the largest number."""
    model = adapted()
    mine = folded(model)
    assert sum(isinstance(module, FoldedLinear) for module in mine.modules()) == 14
    (expected, gradients), (got, own) = logits_and_gradients(model), logits_and_gradients(mine)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert own.keys() == gradients.keys()
    for name, gradient in gradients.items():
        scale = gradient.abs().max().item()
        assert scale > 0
        torch.testing.assert_close(own[name], gradient, rtol=1e-4, atol=1e-5 * scale)


def test_a_bias_and_a_missing_input_gradient_are_right():
    torch.manual_seed(0)
    layer = get_peft_model(
        torch.nn.Sequential(torch.nn.Linear(6, 5)),
        LoraConfig(r=2, target_modules=["0"]),
    )
    torch.nn.init.normal_(layer.base_model.model[0].lora_B["default"].weight)
    x = torch.randn(7, 6, requires_grad=True)
    results = []
    for each in (layer, folded(layer)):
        x.grad = None
        output = each(x)
        output.square().sum().backward()
        each(x.detach()).sum().backward()  # gradients add up
        lora = each.base_model.model[0]
        grads = [lora.lora_A["default"].weight.grad, lora.lora_B["default"].weight.grad]
        results.append([output.detach(), x.grad, *grads])
    for got, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_an_untrained_adapter_changes_no_bit():
    """P29: with B = 0 the policy is the reference, bit for bit."""
    model = get_peft_model(tiny.llama(), tiny_roles.lora())
    fold_adapters(model)
    batch = tiny_roles.sequences()
    with torch.no_grad():
        policy = model(batch.input_ids).logits
        with model.disable_adapter():
            assert torch.equal(policy, model(batch.input_ids).logits)


@pytest.mark.parametrize("case", ["disabled", "merged", "bfloat16", "autocast", "two adapters"])
def test_whatever_else_is_asked_is_done_as_peft_does_it(case):
    model = adapted(dtype=torch.bfloat16 if case == "bfloat16" else torch.float32)
    outputs = []
    for each in (model, folded(model)):
        if case == "disabled":
            each.base_model.disable_adapter_layers()
        elif case == "merged":
            each.merge_adapter()
        elif case == "two adapters":
            each.add_adapter("other", tiny_roles.lora(init_lora_weights="gaussian"))
            each.base_model.set_adapter(["default", "other"])
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast"):
            outputs.append(each(tiny_roles.sequences().input_ids).logits)
    assert torch.equal(*outputs)


def test_only_plain_layers_are_folded():
    """GPT-2's Conv1D keeps its weights the other way round; DoRA and a LoRA bias add terms."""
    for model in (
        get_peft_model(tiny.gpt2(), tiny_roles.lora(fan_in_fan_out=True)),
        get_peft_model(tiny.llama(), tiny_roles.lora(use_dora=True)),
        get_peft_model(tiny.llama(), tiny_roles.lora(lora_bias=True)),
    ):
        fold_adapters(model)
        assert not [m for m in model.modules() if isinstance(m, FoldedLinear)]


class Products(TorchDispatchMode):
    """Counts multiplications and additions of matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            left, right = args[-2:]
            self.count += left.shape[0] * left.shape[1] * right.shape[1]
        return function(*args, **(kwargs or {}))


def test_a_pass_multiplies_hardly_more_than_the_base_does():
    """Rank 4 over 320 tokens: 4 / 320 more for the forward pass."""
    model = adapted()
    ids = torch.randint(300, (4, 80))
    counts = {}
    for name, each in (("PEFT", model), ("folded", folded(model)), ("base", tiny.llama())):
        with torch.no_grad(), Products() as products:
            each(ids)
        counts[name] = products.count
    assert counts["base"] < counts["folded"] < 1.01 * counts["base"]
    assert counts["PEFT"] > 1.1 * counts["base"]
