"""Floating-point floors: the operations that no implementation can leave out.

Counted are the matrix products of valid tokens: no padding, nothing recomputed, adapters folded
into the base wherever there is no gradient. A multiply-add is two operations. A pass that feeds n
tokens from the start costs, per token t, 2 per trunk weight and 4 · layers · hidden · (t + 1) for
attention over what is visible, and 2 · hidden · vocab wherever logits are read. Sampling with a
cache costs the same as one such pass: each token is fed once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from tests.benchmarks.clock import Clock
from tests.benchmarks.workload import Shape

Lengths = Sequence[tuple[int, int]]
"""Tokens of prompt and of response, one pair per row of the rollout."""
PHASES = ("sample", "score", "measure", "shape+estimate", "update")


def layer_shapes(shape: Shape) -> list[tuple[int, int]]:
    """In and out of the seven linear maps of one layer."""
    h, i = shape.hidden, shape.intermediate
    return [(h, h)] * 4 + [(h, i), (h, i), (i, h)]


def trunk_weights(shape: Shape) -> int:
    """Weights of the matrix products below the head."""
    return shape.layers * sum(n * m for n, m in layer_shapes(shape))


def linear_flops(shape: Shape, tokens: int) -> int:
    return 2 * trunk_weights(shape) * tokens


def attention_flops(shape: Shape, tokens: int) -> int:
    """Queries on keys and weights on values of one sequence, Σₜ 4 · layers · hidden · (t + 1)."""
    return 2 * shape.layers * shape.hidden * tokens * (tokens + 1)


def head_flops(shape: Shape, reads: int) -> int:
    return 2 * shape.hidden * shape.vocab * reads


def adapter_flops(shape: Shape, tokens: int, rank: int) -> int:
    return 2 * rank * shape.layers * sum(n + m for n, m in layer_shapes(shape)) * tokens


def forward_flops(shape: Shape, tokens: int, reads: int) -> int:
    """One sequence of `tokens`, logits at `reads` of them."""
    return linear_flops(shape, tokens) + attention_flops(shape, tokens) + head_flops(shape, reads)


def train_flops(shape: Shape, tokens: int, reads: int, rank: int | None) -> int:
    """Forward and backward: the gradient of the input and that of the weight cost one more each.

    With adapters of the given rank the weights below them have no gradient.
    """
    if rank is None:
        return 3 * forward_flops(shape, tokens, reads)
    frozen = linear_flops(shape, tokens) + head_flops(shape, reads)
    return 2 * frozen + 3 * (attention_flops(shape, tokens) + adapter_flops(shape, tokens, rank))


def phase_flops(
    shape: Shape, lengths: Lengths, *, epochs: int, rank: int | None, own_critic: bool = True
) -> dict[str, int]:
    """Operations of each phase of one iteration; the last token of a row is scored, never fed.

    A critic that is a head on the policy has no pass of its own.
    """
    totals = dict.fromkeys(PHASES, 0)
    for prompt, response in lengths:
        fed = prompt + response - 1
        policy, trunk = forward_flops(shape, fed, response), forward_flops(shape, fed, 0)
        critic = train_flops(shape, fed, 0, rank)
        totals["sample"] += policy
        totals["score"] += forward_flops(shape, prompt + response, 0)
        totals["measure"] += 2 * policy + own_critic * trunk  # policy, reference, critic
        totals["update"] += epochs * (train_flops(shape, fed, response, rank) + own_critic * critic)
    return totals


def matmul_rate(*, size: int = 1024, tries: int = 5) -> float:
    """Best operations per second of CPU time of a square matrix product, with the set threads."""
    left, right = torch.randn(2, size, size).unbind()
    seconds = []
    for _ in range(tries + 1):
        start = time.process_time()
        left @ right
        seconds.append(time.process_time() - start)
    return 2 * size**3 / min(seconds[1:])


def device_rate(device: torch.device, dtype: torch.dtype, *, size: int, tries: int = 10) -> float:
    """The same per second of wall, on any device."""
    left, right = torch.randn(2, size, size, device=device, dtype=dtype).unbind()
    clock = Clock(device)
    seconds = []
    for _ in range(tries + 1):
        clock.reset()
        left @ right
        seconds.append(clock.reading()["wall"]["whole"])
    return 2 * size**3 / min(seconds[1:])
