"""Rows of embeddings and head: for tokens that a model did not have, or that nothing has trained.

v = tokens of the model, d = width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

NOISE = 0.1
"""Standard deviation of a new row around the mean row, in standard deviations of the others."""
DEGENERATE = 0.01
"""A row shorter than this share of the median row was left as it was initialised, near zero."""


def fit_embeddings(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, new: Sequence[int] = ()
) -> None:
    """Add rows if the tokenizer knows more tokens than the model; start these, and those of `new`.

    They start near the mean of the others, where a new token takes little probability from those
    that are known, and always at the same values: a row drawn at random would be another in each
    stage. A model that was padded to a round number of rows has one for a new token already.

    Source: Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models".
    """
    before: Any = model.get_input_embeddings()
    known = before.num_embeddings
    if len(tokenizer) > known:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    rows = sorted({*range(known, len(tokenizer)), *new})
    if rows:
        for weight in token_weights(model):
            _start(weight, rows)


@torch.no_grad()
def _start(weight: Tensor, rows: list[int]) -> None:
    others = torch.ones(len(weight), dtype=torch.bool, device=weight.device)
    others[rows] = False
    std, mean = torch.std_mean(weight[others].float(), dim=0)
    noise = torch.randn(len(rows), weight.shape[1], generator=torch.Generator().manual_seed(0))
    weight[rows] = (mean + NOISE * std * noise.to(mean)).to(weight.dtype)


def token_weights(model: PreTrainedModel) -> list[Tensor]:
    """What has a row for each token: the embeddings [v, d], and the head [v, d] if apart."""
    return [layer.weight for layer in token_layers(model).values()]


def token_layers(model: PreTrainedModel) -> dict[str, Any]:
    """Embeddings, and the head where it has weights of its own, by their names in the model."""
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    layers = [embeddings]
    if head is not None and head.weight is not embeddings.weight:
        layers.append(head)
    names: dict[nn.Module, str] = {layer: name for name, layer in model.named_modules()}
    return {names[layer]: layer for layer in layers}


@torch.no_grad()
def untrained_rows(model: PreTrainedModel, ids: Iterable[int]) -> list[int]:
    """Of these tokens the ones whose embedding or head row is next to nothing beside the others.

    As those of the reserved tokens of a base model: no gradient ever reached them.
    """
    found: set[int] = set()
    wanted = torch.tensor(sorted(ids), dtype=torch.long)
    for weight in token_weights(model):
        norms = weight.float().norm(dim=1).cpu()
        short = norms[wanted] < DEGENERATE * norms.median()
        found |= set(wanted[short].tolist())
    return sorted(found)
