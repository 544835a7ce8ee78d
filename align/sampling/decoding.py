"""Feeding a language model token by token: a cache that is written in place, on CUDA as one graph.

    Decoding         each step attends to the columns that are there
    StaticDecoding   the same numbers in shapes that never change, so that CUDA can record a step
                     and replay it: of a small model's step, launching its kernels is the most part

Shapes: b = rows, p = prompt width, c = columns a cache has room for, v = vocabulary.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from align.maths.masks import position_ids

WARM_STEPS = 2  # eager steps before one is recorded: libraries allocate what they need


class Decoding:
    """Prompts with several rows each, which share the prompt's pass; then one token per row."""

    RATE_OF_CLEARING = 8  # finished rows are worth dropping once they are an eighth of the batch

    def __init__(
        self, model: PreTrainedModel, ids: Tensor, mask: Tensor, *, room: int, copies: int = 1
    ) -> None:
        """Feed the prompts, ids and mask [b / copies, p], for `room` more tokens; sets `logits`."""
        self.model, self.width = model, ids.shape[1]
        self.cache = self._cache(self.width + room)
        positions = position_ids(mask)
        logits = model(
            input_ids=ids,
            attention_mask=mask.long(),
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        if copies > 1:
            self.cache.batch_repeat_interleave(copies)
        self.logits, self.positions = (
            each.repeat_interleave(copies, dim=0) for each in (logits, positions[:, -1:])
        )
        mask = torch.nn.functional.pad(mask, (0, room), value=True)
        self.mask = mask.repeat_interleave(copies, dim=0)

    def step(self, tokens: Tensor) -> Tensor:
        """Feed one token per row, [b]; logits of the next one, [b, v]."""
        self.width += 1
        self.positions = self.positions + 1
        return self.model(
            input_ids=tokens[:, None],
            attention_mask=self.mask[:, : self.width].long(),
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
        ).logits[:, -1]

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self.cache.batch_select_indices(rows)
        self.mask, self.positions = self.mask[rows], self.positions[rows]

    def _cache(self, capacity: int) -> Cache:
        if full_attention(self.model):
            depth = self.model.config.num_hidden_layers
            return Cache(layers=[GrowingLayer(capacity) for _ in range(depth)])
        return DynamicCache(config=self.model.config)


class StaticDecoding(Decoding):
    """Every step attends to all c columns, and a mask hides those that are not written yet.

    On CUDA the third step is recorded, and from then on replayed. Where CUDA refuses to record, a
    warning says so and the steps go on as they are.
    """

    RATE_OF_CLEARING = 2  # dropping rows changes the shapes, and the step is recorded anew

    def __init__(
        self, model: PreTrainedModel, ids: Tensor, mask: Tensor, *, room: int, copies: int = 1
    ) -> None:
        super().__init__(model, ids, mask, room=room, copies=copies)
        self.recording = model.device.type == "cuda"
        self.slot = torch.tensor([self.width], device=ids.device)
        for layer in self.layers:
            layer.slot = self.slot
        self.mask[:, self.width :] = False
        self._begin()

    def _begin(self) -> None:
        """Set up what a recorded step reads and writes, for the rows of now."""
        self.mask = self.mask.view(len(self.mask), 1, 1, -1)
        self.tokens = torch.zeros_like(self.positions)
        self.steps = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def step(self, tokens: Tensor) -> Tensor:
        self.tokens.copy_(tokens[:, None])
        if self.recording and self.graph is None and self.steps == WARM_STEPS:
            self._record()
        self.steps += 1
        if self.graph is None:
            return self._forward()
        self.graph.replay()
        return self.recorded

    def keep(self, rows: Tensor) -> None:
        super().keep(rows)
        self._begin()

    def _forward(self) -> Tensor:
        """The step, as operations on tensors that stay where they are."""
        self.mask.index_fill_(-1, self.slot, True)
        self.positions.add_(1)
        logits = self.model(
            input_ids=self.tokens,
            attention_mask=self.mask,
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
        ).logits[:, -1]
        self.slot.add_(1)
        return logits

    def _record(self) -> None:
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.recorded = self._forward()
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            warnings.warn(f"CUDA does not record decoding, which goes on: {reason}", stacklevel=2)
            self.recording = False
        else:
            self.graph = graph

    def _cache(self, capacity: int) -> Cache:
        depth = self.model.config.num_hidden_layers
        self.layers = [StaticLayer(capacity) for _ in range(depth)]
        return Cache(layers=[*self.layers])


class GrowingLayer(DynamicLayer):
    """Keys and values of one layer in one buffer of full length: a step writes, it never copies."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.length = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if self.keys is None or self.values is None:
            shape = (*key_states.shape[:2], self.capacity)
            self.keys = key_states.new_zeros(*shape, key_states.shape[-1])
            self.values = value_states.new_zeros(*shape, value_states.shape[-1])
            self.is_initialized = True
        start, self.length = self.length, self.length + key_states.shape[-2]
        self.keys[:, :, start : self.length] = key_states
        self.values[:, :, start : self.length] = value_states
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def get_seq_length(self) -> int:
        return self.length


class StaticLayer(GrowingLayer):
    """After the prompt, a token is written where `slot` says, and the whole buffer is read."""

    slot: Tensor | None = None  # int [1]

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if self.slot is None:
            return super().update(key_states, value_states, *args, **kwargs)
        assert self.keys is not None and self.values is not None
        self.keys.index_copy_(2, self.slot, key_states)
        self.values.index_copy_(2, self.slot, value_states)
        return self.keys, self.values


def decoding_for(model: PreTrainedModel) -> type[Decoding]:
    """The fast way where it can be gone: on CUDA, with attention that takes a mask as it is."""
    attention = getattr(model.config, "_attn_implementation", None)
    static = model.device.type == "cuda" and attention == "sdpa" and full_attention(model)
    return StaticDecoding if static else Decoding


def full_attention(model: PreTrainedModel) -> bool:
    """Whether every layer sees all of the past: no window, no state instead of a cache."""
    layer_types = getattr(model.config, "layer_types", None) or ["full_attention"]
    return set(layer_types) == {"full_attention"}
