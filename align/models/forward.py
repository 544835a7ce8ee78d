"""Where on the timeline of align/maths/timeline.py a model is read: logits, values and scores.

Shapes: b = sequences, r = response width, n = response tokens of all rows, v = vocabulary.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from align.maths.timeline import Sequences

Critic = Literal["reward", "zero", "head"]
"""Where V comes from: weights of its own, started as the reward model or as the policy's trunk with
a zero head; or a zero head on the policy's states, which it reads and does not move."""


class PolicyOutputs(NamedTuple):
    """What the policy says before each response token, row after row."""

    logits: Tensor  # [n, v]
    states: Tensor  # [n, d], what its head read, without gradient


def policy_forward(model: Any, sequences: Sequences) -> PolicyOutputs:
    """Logits that predict each response token, none for padding, and the states they come from.

    The model's head reads the states before a response token and no others, by a hook, so that
    whatever the model does to its logits (a scale, a cap) stays the model's business.
    """
    fed = right_padded(sequences)
    states: list[Tensor] = []

    def before_head(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        states.append(inputs[0].flatten(0, 1).index_select(0, fed.states))
        return (states[0],)

    hook = model.get_output_embeddings().register_forward_pre_hook(before_head)
    try:
        logits = model(input_ids=fed.input_ids, use_cache=False).logits
    finally:
        hook.remove()
    return PolicyOutputs(logits, states[0].detach())


def response_states(trunk: nn.Module, sequences: Sequences) -> Tensor:
    """The state before each response token, row after row, [n, d]."""
    fed = right_padded(sequences)
    states = trunk(input_ids=fed.input_ids, use_cache=False).last_hidden_state.flatten(0, 1)
    return states.index_select(0, fed.states)


def state_values(head: nn.Linear, states: Tensor, sequences: Sequences) -> Tensor:
    """V before each response token, from states [n, d]: float32 [b, r], 0 on padding."""
    return sequences.scatter_to_padded(apply_head(head, states))


def final_scores(trunk: nn.Module, head: nn.Linear, sequences: Sequences) -> Tensor:
    """Score at the last token of each sequence, float32 [b]; found by the mask, not by its id."""
    fed = right_padded(sequences, last=True)
    return last_token_scores(trunk, head, fed.input_ids, sequences.lengths)


def last_token_scores(trunk: nn.Module, head: nn.Linear, ids: Tensor, lengths: Tensor) -> Tensor:
    """Score at the last token of each right-padded row of ids [b, w]; lengths [b]; float32 [b]."""
    states = trunk(input_ids=ids, use_cache=False).last_hidden_state
    rows = torch.arange(len(ids), device=states.device)
    return apply_head(head, states[rows, lengths - 1])


class Fed(NamedTuple):
    """Sequences as a model gets them, right-padded. The row of align/maths/timeline.py:

        input_ids             q0    q1    y0    y1   pad  …         w columns
        read to predict        ·    y0    y1   stop   ·             n places in all rows

    A causal model looks to the left only, so padding on the right is never seen: it takes neither
    mask nor positions, and attention its causal fast path.
    """

    input_ids: Tensor  # int [b, w]
    states: Tensor  # int [n], indices into the flattened [b · w]: the state before each token


def right_padded(sequences: Sequences, *, last: bool = False) -> Fed:
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


class ScoreHead(nn.Linear):
    """A reward head that computes in float32, also where training computes in bfloat16."""

    def forward(self, states: Tensor) -> Tensor:
        return apply_head(self, states).unsqueeze(-1)


def value_head(reward_head: nn.Linear, *, mean: float, std: float) -> nn.Linear:
    """A critic's head that starts as the reward head, in units of the normalised score."""
    head = nn.Linear(reward_head.in_features, 1, device=reward_head.weight.device)
    with torch.no_grad():
        head.weight.copy_(reward_head.weight.detach().float() / std)
        head.bias.fill_(-mean / std)
    return head


def zero_head(model: PreTrainedModel) -> nn.Linear:
    """A critic's head for the model's trunk that says 0 of every state, and can learn."""
    # As wide as what the model's own head reads: OPT may project its states before it.
    width = model.get_output_embeddings().weight.shape[-1]
    head = nn.Linear(width, 1, device=model.device)
    nn.init.zeros_(head.weight), nn.init.zeros_(head.bias)
    return head


def trunk_of(model: PreTrainedModel) -> nn.Module:
    """The model below its head."""
    return getattr(model, model.base_model_prefix)
