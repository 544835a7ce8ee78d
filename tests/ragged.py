"""Random ragged batches for the tests of L0, with hostile numbers where the mask is False."""

from __future__ import annotations

import torch
from torch import Tensor

LENGTHS = [5, 1, 3, 4]


def mask(lengths: list[int] = LENGTHS, width: int | None = None) -> Tensor:
    """Bool [b, width]: the first lengths[i] entries of row i count."""
    return torch.arange(width or max(lengths)) < torch.tensor(lengths)[:, None]


def numbers(
    seed: int, *, scale: float = 1.0, padding: float = 99.0, lengths: list[int] = LENGTHS
) -> Tensor:
    """Float [b, r] from a normal distribution, `padding` outside the mask."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(len(lengths), max(lengths), generator=generator) * scale
    return torch.where(mask(lengths), drawn, padding)


def widen(x: Tensor, columns: int, value: float | bool) -> Tensor:
    """x [b, r] with padding columns appended."""
    return torch.nn.functional.pad(x, (0, columns), value=value)
