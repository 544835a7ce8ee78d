"""One pass for two responses to one prompt: their common beginning is computed once.

Trainers over pairs feed a model the chosen rows and then the rejected ones, [2b, s]: the prompt of
each pair passes through it twice. Here both responses follow one prompt in one row,

    chosen row        q0  q1  y0  y1  stop            packed   q0  q1  y0  y1  stop  z0  stop
    rejected row      q0  q1  z0  stop  pad           position  0   1   2   3    4    2    3

and a mask keeps them from seeing each other. The states come back where the trainer expects them,
[2b, s], so that whatever it computes from them, and every gradient, is the same up to rounding.

Shapes: b = pairs, s = width of a row, w = width of a packed row.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


class PackedPairs(NamedTuple):
    """Pairs behind their common beginnings, and where their states are found again."""

    input_ids: Tensor  # int [b, w]
    position_ids: Tensor  # int [b, w]
    mask: Tensor  # bool [b, 1, w, w], True where a query sees a key
    places: Tensor  # int [2b, s], the column of the packed row that each token stands in


def pack_pairs(input_ids: Tensor, attention_mask: Tensor) -> PackedPairs:
    """Pack right-padded rows [2b, s], row i and row b + i being a pair."""
    chosen, rejected = input_ids.chunk(2)
    lengths = attention_mask.long().sum(dim=1)
    chosen_length, rejected_length = lengths.chunk(2)
    columns = torch.arange(input_ids.shape[1], device=input_ids.device)
    both = columns < torch.minimum(chosen_length, rejected_length)[:, None]
    common = ((chosen == rejected) & both).long().cumprod(dim=1).sum(dim=1)

    width = int((lengths.view(2, -1).sum(dim=0) - common).max())
    moved = chosen_length[:, None] + columns - common[:, None]
    places = torch.cat(
        [columns.expand_as(chosen), torch.where(columns < common[:, None], columns, moved)]
    ).clamp(max=width - 1)  # padding may read any state: no trainer looks at it

    wide = torch.arange(width, device=input_ids.device)
    after = wide - chosen_length[:, None]  # < 0 within the chosen row, then along the rejected one
    source = torch.where(after < 0, wide, common[:, None] + after).clamp(max=len(columns) - 1)
    packed = torch.where(after < 0, chosen.gather(1, source), rejected.gather(1, source))
    # 0 what both begin with, 1 the rest of the chosen row, 2 of the rejected row
    part = (wide >= common[:, None]).long() + (after >= 0).long()
    visible = (part[:, None, :] == 0) | (part[:, None, :] == part[:, :, None])
    mask = visible & (wide[None, :] <= wide[:, None])
    return PackedPairs(packed, source, mask[:, None], places)


@contextmanager
def shared_prefixes(trunk: nn.Module) -> Iterator[None]:
    """Within, a trunk that is fed rows [2b, s] computes the common beginning of each pair once.

    Its dropout must be off: with dropout, a beginning that is shared is not one drawn twice.
    """
    plain = trunk.forward

    @functools.wraps(plain)
    def forward(
        input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> Any:
        positions = kwargs.pop("position_ids", None)
        if input_ids is None or attention_mask is None or positions is not None:
            rows = {"input_ids": input_ids, "attention_mask": attention_mask}
            return plain(**rows, position_ids=positions, **kwargs)
        pairs = pack_pairs(input_ids, attention_mask)
        output = plain(
            input_ids=pairs.input_ids,
            attention_mask=pairs.mask,
            position_ids=pairs.position_ids,
            **kwargs,
        )
        states = output.last_hidden_state
        places = pairs.places[..., None].expand(-1, -1, states.shape[-1])
        output.last_hidden_state = torch.cat([states.gather(1, half) for half in places.chunk(2)])
        return output

    trunk.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        del trunk.forward  # the class's own is found again


def can_share(model: PreTrainedModel, trunk: nn.Module) -> bool:
    """Whether a trunk takes the mask of packed pairs as it is: full attention, by SDPA.

    A window, a chunk or a recurrent state would see a neighbour's tokens or miss its own, ALiBi
    counts positions from a mask of rows, and a router's loss counts every token of a row. On CUDA
    the fastest attention kernels take no mask of this kind; what is gained there was not measured.
    """
    config = model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    windows = (getattr(config, n, None) for n in ("sliding_window", "attention_chunk_size"))
    return (
        model.device.type == "cpu"
        and getattr(config, "_attn_implementation", None) == "sdpa"
        and layers == {"full_attention"}
        and not any(windows)
        and not getattr(config, "alibi", False)
        and not hasattr(config, "output_router_logits")
        and "position_ids" in inspect.signature(trunk.forward).parameters
    )
