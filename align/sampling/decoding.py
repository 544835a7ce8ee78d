"""Feeding a language model token by token: a cache that is written in place, on CUDA as one graph.

    Decoding         each step attends to the columns that are there; any decoder whose cache is
                     transformers' own: windows, recurrent states, hybrids
    StaticDecoding   the same numbers in shapes that never change, so that CUDA can record a step
                     and replay it: of a small model's step, launching its kernels is the most part;
                     full attention only

Shapes: b = rows, p = prompt width, c = columns a cache has room for, v = vocabulary.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from align.maths.masks import position_ids

RECURRENT = "cache_params"
"""What models without any attention (Mamba) call their cache."""
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
        self.cache_name = cache_argument(model)
        positions = position_ids(mask)
        logits = self._feed(ids, mask.long(), positions)
        rows = torch.arange(len(ids), device=ids.device).repeat_interleave(copies)
        self.logits, self.positions = logits[rows], positions[rows, -1:]
        self.mask = torch.nn.functional.pad(mask, (0, room), value=True)[rows]
        if copies > 1:
            self._select(rows)

    def step(self, tokens: Tensor) -> Tensor:
        """Feed one token per row, [b]; logits of the next one, [b, v]."""
        self.width += 1
        self.positions = self.positions + 1
        # Mamba multiplies its input by the mask, and would broadcast a mask of another width; and
        # a drawn token is never padding.
        mask = None if self.cache_name == RECURRENT else self.mask[:, : self.width].long()
        return self._feed(tokens[:, None], mask, self.positions)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        self._select(rows)
        self.mask, self.positions = self.mask[rows], self.positions[rows]

    def _feed(self, ids: Tensor, mask: Tensor | None, positions: Tensor) -> Tensor:
        """Logits after the last column, [b, v]."""
        logits: Tensor = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
            **{self.cache_name: self.cache},
        ).logits
        return logits[:, -1]

    def _select(self, rows: Tensor) -> None:
        """The cache of these rows, each as often as it is named.

        Beam search asks every kind of layer for this; `batch_select_indices` and
        `batch_repeat_interleave` are lacking in recurrent layers, and in layers that hold keys and
        a recurrent state they leave the state as it was.
        """
        self.cache.reorder_cache(rows)  # type: ignore[arg-type]  # any integer tensor does

    def _cache(self, capacity: int) -> Cache:
        """What the config asks for; a layer that holds all of the past is written in place."""
        cache = DynamicCache(config=self.model.config)
        cache.layers = [
            GrowingLayer(capacity) if type(layer) is DynamicLayer else layer
            for layer in cache.layers
        ]
        return cache


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
        logits = self._feed(self.tokens, self.mask, self.positions)
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
        depth = len(DynamicCache(config=self.model.config).layers)
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
    """Whether every layer sees all of the past, by keys and values and a mask that it is given.

    transformers derives the layers of a cache from the config: `layer_types`, or `sliding_window`
    and `attention_chunk_size` where it has none. ALiBi is computed from a mask in two dimensions.
    """
    layers = DynamicCache(config=model.config).layers
    alibi = getattr(model.config.get_text_config(), "alibi", False)
    return not alibi and all(type(layer) is DynamicLayer for layer in layers)


def cache_argument(model: PreTrainedModel) -> str:
    """What the model calls its cache: Mamba's parameter has a name of its own."""
    known = inspect.signature(model.forward).parameters
    return RECURRENT if RECURRENT in known else "past_key_values"
