"""Computing in float32 with weights that are stored in bfloat16, one decoder layer at a time.

A divergence between two models is a small difference of large numbers: passes in bfloat16 put a
floor of about .002 nats under each token of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def in_float32(model: nn.Module) -> Iterator[None]:
    """Within, every pass of `model` computes in float32; then its weights are what they were.

    What stands outside the decoder's layers (embeddings, final norm, head) is converted once; a
    layer when it is entered, until it is left. Memory beside the stored weights: those of one
    layer, of the embeddings and of the head, in float32.
    """
    layers = list(decoder_layers(model))
    inside = {id(weight) for layer in layers for weight in layer.parameters()}
    outside = [weight for weight in model.parameters() if id(weight) not in inside]
    stored: dict[nn.Module, list[tuple[nn.Parameter, Tensor]]] = {}

    def enter(layer: nn.Module, _: object) -> None:
        stored[layer] = _convert(layer.parameters())

    def leave(layer: nn.Module, *_: object) -> None:
        _restore(stored.pop(layer))

    with ExitStack() as stack:
        stack.callback(_restore, _convert(outside))
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(enter).remove)
            stack.callback(layer.register_forward_hook(leave, always_call=True).remove)
        yield


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The chain of layers that holds most of the weights."""
    chains = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(chains, key=_weights, default=nn.ModuleList())


def _weights(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def _convert(weights: Iterable[nn.Parameter]) -> list[tuple[nn.Parameter, Tensor]]:
    """Make weights in half precision float32; return what they held."""
    kept = []
    for weight in weights:
        if weight.dtype in (torch.bfloat16, torch.float16):
            kept.append((weight, weight.data))
            weight.data = weight.data.float()
    return kept


def _restore(kept: Iterable[tuple[nn.Parameter, Tensor]]) -> None:
    for weight, data in kept:
        weight.data = data
