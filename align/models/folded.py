"""LoRA layers that compute one product where PEFT computes three.

PEFT adds s (x Aᵀ) Bᵀ to x Wᵀ: thin products, and intermediate results as large as the output that
are kept for the backward pass. Here the weight W + s B A is formed for the pass and dropped again,
which costs rank / tokens of the product; the gradients of A and B stay the thin products they are.

Only in float32: in bfloat16 a young adapter would be rounded away.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear


def fold_adapters(model: nn.Module) -> None:
    """Let every plain LoRA layer of `model` compute this way, once its dropout is off.

    Names, parameters and everything else that PEFT does with a layer stay as they are.
    """
    for module in model.modules():
        if type(module) is LoraLinear and type(module.get_base_layer()) is nn.Linear:
            layer: Any = module
            if not layer.lora_variant and not any(layer.lora_bias.values()):
                layer.__class__ = FoldedLinear


class FoldedLinear(LoraLinear):
    """y = x (W + s B A)ᵀ + bias, with the one active adapter; anything else as PEFT does it."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        active = [name for name in self.active_adapters if name in self.lora_A]
        base = self.get_base_layer()
        float32 = x.dtype == base.weight.dtype == torch.float32
        if (
            self.disable_adapters
            or self.merged
            or len(active) != 1
            or not float32
            or torch.is_autocast_enabled(x.device.type)
        ):
            return super().forward(x, *args, **kwargs)
        a, b = self.lora_A[active[0]].weight, self.lora_B[active[0]].weight
        return _Folded.apply(x, base.weight, base.bias, a, b, self.scaling[active[0]])


class _Folded(torch.autograd.Function):
    """Keeps x, W, A and B. W and bias are frozen."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight, a, b)
        ctx.scale = scale
        return linear(x, torch.addmm(weight, b, a, alpha=scale), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, a, b = ctx.saved_tensors
        rows, grads = x.flatten(0, -2), grad.flatten(0, -2)
        grad_a = (ctx.scale * (grads @ b)).T @ rows
        grad_b = ((ctx.scale * (rows @ a.T)).T @ grads).T
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ torch.addmm(weight, b, a, alpha=ctx.scale)
        return grad_x, None, None, grad_a, grad_b, None
