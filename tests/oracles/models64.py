"""Transformers models in float64, run on one sequence at a time, without padding or masks.

The decoders of transformers go down to float32 in places whatever their weights are: in RMS norms
and in eager attention's softmax. Here both are written out once more, so that all is float64.
"""

from __future__ import annotations

import copy
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import AttentionInterface, PreTrainedModel
from transformers.pytorch_utils import Conv1D

ATTENTION = "plain-float64"


@dataclass
class Adapter:
    """LoRA on one matrix: W + scale · B A (Hu et al. 2021, arXiv:2106.09685, eq. 3)."""

    a: Tensor  # [rank, in]
    b: Tensor  # [out, rank]
    scale: float


@dataclass
class Trunk:
    """A decoder below its head: frozen or learning weights, with or without adapters on them."""

    module: nn.Module
    weights: dict[str, Tensor]
    adapters: dict[str, Adapter] = field(default_factory=dict)
    """By the name of the weight that each is on."""

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        *,
        adapters: Mapping[str, Adapter] | None = None,
        learns: bool = False,
    ) -> Trunk:
        """A copy of the model's trunk; `learns` marks the adapters, or without them all of it."""
        module = _in_float64(copy.deepcopy(model.base_model))
        adapters = {
            name: Adapter(_leaf(x.a, learns), _leaf(x.b, learns), x.scale)
            for name, x in (adapters or {}).items()
        }
        full = learns and not adapters
        weights = {name: _leaf(w, full) for name, w in module.named_parameters()}
        assert set(adapters) <= set(weights)
        return cls(module, weights, dict(adapters))

    def states(self, tokens: list[int]) -> Tensor:
        """The last state of each token, [tokens, d]."""
        weights = dict(self.weights)
        for name, adapter in self.adapters.items():
            change = adapter.scale * adapter.b @ adapter.a
            owner = self.module.get_submodule(name.removesuffix(".weight"))
            weights[name] = weights[name] + (change.T if isinstance(owner, Conv1D) else change)
        inputs = {"input_ids": torch.tensor([tokens]), "use_cache": False}
        return functional_call(self.module, weights, kwargs=inputs).last_hidden_state[0]

    def learning(self) -> dict[str, Tensor]:
        """What is trained, by name; the two matrices of an adapter as name.A and name.B."""
        found = {name: w for name, w in self.weights.items() if w.requires_grad}
        for name, adapter in self.adapters.items():
            found |= {f"{name}.A": adapter.a, f"{name}.B": adapter.b}
        return {name: w for name, w in found.items() if w.requires_grad}


@dataclass
class LanguageModel:
    trunk: Trunk
    head: Tensor  # [vocab, d]; where it is tied, the very tensor of the trunk's embedding
    cap: float | None  # Gemma 2 caps its logits: cap · tanh(logits / cap)

    @classmethod
    def of(cls, model: PreTrainedModel, **settings: Any) -> LanguageModel:
        trunk = Trunk.of(model, **settings)
        head = model.get_output_embeddings().weight
        embedding = model.get_input_embeddings().weight
        if head is embedding:
            names = {id(w): name for name, w in model.base_model.named_parameters()}
            own = trunk.weights[names[id(embedding)]]
        else:
            own = _leaf(head, bool(settings.get("learns")) and not trunk.adapters)
        return cls(trunk, own, getattr(model.config, "final_logit_softcapping", None))

    def logits_and_states(self, tokens: list[int]) -> tuple[Tensor, Tensor]:
        """[tokens, vocab] and [tokens, d]."""
        states = self.trunk.states(tokens)
        logits = states @ self.head.T
        if self.cap is not None:
            logits = self.cap * torch.tanh(logits / self.cap)
        return logits, states

    def learning(self) -> dict[str, Tensor]:
        found = self.trunk.learning()
        if self.head.requires_grad and all(w is not self.head for w in found.values()):
            found["head"] = self.head
        return found


def _leaf(tensor: Tensor, learns: bool) -> Tensor:
    return tensor.detach().double().clone().requires_grad_(learns)


def _in_float64(module: nn.Module) -> nn.Module:
    module = module.double().eval()
    module.config._attn_implementation = ATTENTION
    for part in module.modules():
        kind = type(part).__name__
        if kind.endswith("RMSNorm"):
            part.forward = types.MethodType(_gemma_norm if "Gemma" in kind else _norm, part)
    return module


def _norm(self: Any, x: Tensor) -> Tensor:
    """Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4."""
    return self.weight * x / torch.sqrt((x * x).mean(-1, keepdim=True) + self.variance_epsilon)


def _gemma_norm(self: Any, x: Tensor) -> Tensor:
    """The same, with weights that are told apart from one."""
    return (1 + self.weight) * x / torch.sqrt((x * x).mean(-1, keepdim=True) + self.eps)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Causal attention head by head, each token over itself and those before it: [1, t, h, d].

    Vaswani et al. 2017, arXiv:1706.03762, eq. 1; a window of w tokens counts the token itself.
    """
    heads, length, width = query.shape[1:]
    shared = heads // key.shape[1]
    behind = torch.arange(length)[:, None] - torch.arange(length)
    unseen = behind < 0
    if sliding_window is not None:
        unseen = unseen | (behind >= sliding_window)
    scale = 1 / math.sqrt(width) if scaling is None else scaling
    outputs = []
    for head in range(heads):
        weights = scale * query[0, head] @ key[0, head // shared].T
        if softcap is not None:
            weights = softcap * torch.tanh(weights / softcap)
        shares = torch.softmax(weights.masked_fill(unseen, -math.inf), dim=-1)
        outputs.append(shares @ value[0, head // shared])
    return torch.stack(outputs, dim=1)[None], None


AttentionInterface.register(ATTENTION, _attention)
