"""Where on the timeline of align/types.py a model is read: logits, values and scores.

Shapes: b = sequences, p = prompt width, r = response width, v = vocabulary, d = hidden size.
Positions are counted from the mask, so padding on the left moves nothing, with absolute position
embeddings either.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from align.masks import last_index
from align.types import Sequences

CriticInit = Literal["reward", "zero"]


def response_logits(model: nn.Module, sequences: Sequences) -> Tensor:
    """Logits [b, r, v] that predict the response: columns p − 1 … p + r − 2 of the timeline.

    The last token predicts nothing that is in the row and is not fed to the model.
    """
    return model(
        input_ids=sequences.input_ids[:, :-1],
        attention_mask=sequences.attention_mask[:, :-1].long(),
        position_ids=sequences.position_ids[:, :-1],
        use_cache=False,
        logits_to_keep=sequences.response_width,
    ).logits


def hidden_states(trunk: nn.Module, sequences: Sequences, *, columns: int | None) -> Tensor:
    """Final hidden states [b, columns, d] of the first `columns` columns (None = all)."""
    return trunk(
        input_ids=sequences.input_ids[:, :columns],
        attention_mask=sequences.attention_mask[:, :columns].long(),
        position_ids=sequences.position_ids[:, :columns],
        use_cache=False,
    ).last_hidden_state


def state_values(trunk: nn.Module, head: nn.Linear, sequences: Sequences) -> Tensor:
    """V before each response token, float32 [b, r]: columns p − 1 … p + r − 2 of the timeline."""
    states = hidden_states(trunk, sequences, columns=-1)[:, sequences.prompt_width - 1 :]
    return apply_head(head, states)


def final_scores(trunk: nn.Module, head: nn.Linear, sequences: Sequences) -> Tensor:
    """Score at the last token of each sequence, float32 [b]; found by the mask, not by its id."""
    states = hidden_states(trunk, sequences, columns=None)
    rows = torch.arange(len(sequences), device=states.device)
    return apply_head(head, states[rows, last_index(sequences.attention_mask)])


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
