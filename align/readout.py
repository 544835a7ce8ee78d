"""Where on the timeline of align/types.py a model is read: logits, values and scores.

Shapes: b = sequences, r = response width, n = response tokens of all rows, v = vocabulary.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from align.types import Sequences

CriticInit = Literal["reward", "zero"]


def response_logits(model: Any, sequences: Sequences) -> Tensor:
    """Logits that predict each response token, row after row: [n, v], none for padding.

    The model's head reads the states before a response token and no others, by a hook, so that
    whatever the model does to its logits (a scale, a cap) stays the model's business.
    """
    fed = flush_left(sequences)
    hook = model.get_output_embeddings().register_forward_pre_hook(
        lambda _, inputs: (inputs[0].flatten(0, 1).index_select(0, fed.states),)
    )
    try:
        return model(input_ids=fed.input_ids, use_cache=False).logits
    finally:
        hook.remove()


def state_values(trunk: nn.Module, head: nn.Linear, sequences: Sequences) -> Tensor:
    """V of the state before each response token, float32 [b, r]; 0 on padding."""
    fed = flush_left(sequences)
    states = trunk(input_ids=fed.input_ids, use_cache=False).last_hidden_state.flatten(0, 1)
    return sequences.laid_out(apply_head(head, states.index_select(0, fed.states)))


def final_scores(trunk: nn.Module, head: nn.Linear, sequences: Sequences) -> Tensor:
    """Score at the last token of each sequence, float32 [b]; found by the mask, not by its id."""
    fed = flush_left(sequences, last=True)
    states = trunk(input_ids=fed.input_ids, use_cache=False).last_hidden_state
    rows = torch.arange(len(sequences), device=states.device)
    return apply_head(head, states[rows, sequences.lengths - 1])


class Fed(NamedTuple):
    """Sequences as a model gets them, every row flush left. The row drawn in align/types.py:

        input_ids             q0    q1    y0    y1   pad  …         w columns
        read to predict        ·    y0    y1   stop   ·             n places in all rows

    A causal model looks to the left only, so padding on the right is never seen: it takes neither
    mask nor positions, and attention its causal fast path.
    """

    input_ids: Tensor  # int [b, w]
    states: Tensor  # int [n], indices into the flattened [b · w]: the state before each token


def flush_left(sequences: Sequences, *, last: bool = False) -> Fed:
    """Rows without their padding on the left; the last token only where it is read itself."""
    lengths, responses = sequences.lengths, sequences.response_mask.sum(dim=-1)
    width = int(lengths.max())
    order = sequences.attention_mask.logical_not().int().argsort(dim=-1, stable=True)
    ids = sequences.input_ids.gather(1, order[:, : width if last else width - 1])
    columns = torch.arange(ids.shape[1], device=ids.device)
    ends = lengths[:, None] - 1
    states = (columns < ends) & (columns >= ends - responses[:, None])
    return Fed(ids, states.flatten().nonzero().squeeze(1))


def computing_in(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[object]:
    """What is computed within is computed in `dtype`; None or float32 = as the weights are."""
    if dtype is None or dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def apply_head(head: nn.Linear, states: Tensor) -> Tensor:
    """The head in float32 on states [..., d]: bfloat16 would round scores near 8 to .03."""
    bias = None if head.bias is None else head.bias.float()
    with torch.autocast(states.device.type, enabled=False):
        return nn.functional.linear(states.float(), head.weight.float(), bias).squeeze(-1)


def value_head(reward_head: nn.Linear, *, mean: float, std: float) -> nn.Linear:
    """A critic's head that starts as the reward head, in units of the normalised score."""
    head = nn.Linear(reward_head.in_features, 1, device=reward_head.weight.device)
    with torch.no_grad():
        head.weight.copy_(reward_head.weight.detach().float() / std)
        head.bias.fill_(-mean / std)
    return head


def zero_head(model: PreTrainedModel) -> nn.Linear:
    """A critic's head for the model's trunk that says 0 of every state, and can learn."""
    head = nn.Linear(model.config.get_text_config().hidden_size, 1, device=model.device)
    nn.init.zeros_(head.weight), nn.init.zeros_(head.bias)
    return head


def trunk_of(model: PreTrainedModel) -> nn.Module:
    """The model below its head."""
    return getattr(model, model.base_model_prefix)
