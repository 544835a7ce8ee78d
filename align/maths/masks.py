"""Masks and the reductions that respect them.

Shapes: b = batch (sequences), r = response tokens, s = prompt + response tokens, v = vocabulary.
A mask has one polarity everywhere: True = this position counts. What a mask leaves out can hold
anything, NaN included: no function here reads it.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-8


def check_shapes(rank: int, **tensors: Tensor) -> None:
    """Require one shape of `rank` axes for all `tensors`; the error names each with its shape."""
    shapes = {tuple(tensor.shape) for tensor in tensors.values()}
    if len(shapes) == 1 and len(next(iter(shapes))) == rank:
        return
    listed = ", ".join(f"{name}{list(tensor.shape)}" for name, tensor in tensors.items())
    raise ValueError(f"expected one shape of {rank} axes for all of: {listed}")


def last_index(mask: Tensor) -> Tensor:
    """Index of the last True of each row of mask [b, n] as int [b]; 0 in a row without any."""
    check_shapes(2, mask=mask)
    columns = torch.arange(mask.shape[-1], device=mask.device)
    return torch.where(mask, columns, 0).max(dim=-1).values


def position_ids(attention_mask: Tensor) -> Tensor:
    """Number the tokens of each row of attention_mask [b, s] from 0, as int [b, s].

    Padding to the left does not move a token's position; padding itself repeats a neighbour's.
    """
    check_shapes(2, attention_mask=attention_mask)
    return (attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)


def masked_sum(x: Tensor, mask: Tensor, *, dim: int | None = None) -> Tensor:
    """Sum x where mask is True, over everything ([]) or along `dim`."""
    check_shapes(x.dim(), x=x, mask=mask)
    kept = torch.where(mask, x, torch.zeros_like(x))
    return kept.sum() if dim is None else kept.sum(dim=dim)


def masked_mean(x: Tensor, mask: Tensor, *, denominator: Tensor | float | None = None) -> Tensor:
    """Mean of x where mask is True, [].

    Args:
        x, mask: any one shape.
        denominator: what the sum is divided by; None = the True entries of this mask. Give the
            count of a whole minibatch and the means of its micro-batches add up to the mean of
            the minibatch, whatever their lengths.
    """
    count = mask.sum().clamp(min=1) if denominator is None else denominator
    return masked_sum(x, mask) / count


def masked_var(x: Tensor, mask: Tensor) -> Tensor:
    """Biased variance of x where mask is True, []: the mean of squares about the mean."""
    return masked_mean((x - masked_mean(x, mask)) ** 2, mask)


def masked_whiten(x: Tensor, mask: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Scale the True entries of x to variance 1 and, with `shift_mean`, to mean 0; 0 elsewhere.

    Call it on a whole rollout, never on a micro-batch: the moments belong to the batch.

    Source: Ziegler et al. 2019, arXiv:1909.08593, released code (biased variance, + 1e-8).
    """
    # The biased variance: of a single token it is 0, where the unbiased one would be NaN.
    mean = masked_mean(x, mask)
    whitened = (x - mean) * torch.rsqrt(masked_var(x, mask) + EPSILON)
    if not shift_mean:
        whitened = whitened + mean
    return torch.where(mask, whitened, torch.zeros_like(whitened))
