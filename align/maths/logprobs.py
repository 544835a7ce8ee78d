"""Log-probabilities of tokens, in nats and in float32 whatever the model computes in.

Shapes: b = sequences, r = response width, n = response tokens of all rows, v = vocabulary.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from align.maths.masks import check_shapes, masked_sum


def token_logprobs(logits: Tensor, ids: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Log-probability of each token under the distribution it is sampled from.

        log π(y_t | x, y_<t) = z_t[y_t] − log Σ_v exp z_t[v],   z = logits / temperature

    Args:
        logits: [n, v] or [b, r, v]; each row predicts its token.
        ids: int [n] or [b, r].
        temperature: that of the sampler. Rollout, reference and update must all use the same.

    Returns:
        Nats, float32, in the shape of ids.
    """
    check_shapes(ids.dim(), ids=ids, logits=logits[..., 0])
    # One pass; of everything as large as the logits, the backward pass keeps the log-softmax only.
    scaled = tempered(logits, temperature).flatten(0, -2)
    return -cross_entropy(scaled, ids.flatten(), reduction="none").view(ids.shape)


def entropy(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Entropy of each next-token distribution, −Σ_v π log π, from logits [..., v]; nats [...]."""
    logprobs = tempered(logits, temperature).log_softmax(dim=-1)
    return -(logprobs.exp() * logprobs).sum(dim=-1)


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """Logits / temperature in float32; no copy where that changes nothing."""
    return logits.float() if temperature == 1 else logits.float() / temperature


def sequence_logprobs(logprobs: Tensor, mask: Tensor) -> Tensor:
    """Log-probability of each whole response: the masked sum of logprobs [b, r], nats [b]."""
    check_shapes(2, logprobs=logprobs, mask=mask)
    return masked_sum(logprobs, mask, dim=-1)
