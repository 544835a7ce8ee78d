"""Log-probabilities of tokens, in nats and in float32 whatever the model computes in.

Shapes: b = batch (sequences), r = response tokens, v = vocabulary.
"""

from __future__ import annotations

from torch import Tensor

from align.masks import check_shapes, masked_sum


def token_logprobs(logits: Tensor, ids: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Log-probability of each token under the distribution it is sampled from.

        log π(y_t | x, y_<t) = z_t[y_t] − log Σ_v exp z_t[v],   z = logits / temperature

    Args:
        logits: [b, r, v], column j predicts ids[:, j].
        ids: int [b, r].
        temperature: that of the sampler. Rollout, reference and update must all use the same.

    Returns:
        Nats, float32 [b, r].
    """
    check_shapes(2, ids=ids, logits=logits[..., 0])
    scaled = logits.float() / temperature
    chosen = scaled.gather(-1, ids.unsqueeze(-1)).squeeze(-1)
    return chosen - scaled.logsumexp(dim=-1)


def entropy(logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Entropy of each next-token distribution, −Σ_v π log π, from logits [b, r, v]; nats [b, r]."""
    logprobs = (logits.float() / temperature).log_softmax(dim=-1)
    return -(logprobs.exp() * logprobs).sum(dim=-1)


def sequence_logprobs(logprobs: Tensor, mask: Tensor) -> Tensor:
    """Log-probability of each whole response: the masked sum of logprobs [b, r], nats [b]."""
    check_shapes(2, logprobs=logprobs, mask=mask)
    return masked_sum(logprobs, mask, dim=-1)
