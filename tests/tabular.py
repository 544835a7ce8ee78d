"""A language model that is a table: the next token depends on the last one, and on nothing else.

Small enough that expectations over all responses are sums, and still sampled, measured and trained
by the real PPO. Prompts may end in token ids that no response can hold: rows beyond the columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from align.maths.timeline import Sequences
from align.models.forward import PolicyOutputs


class Table(nn.Module):
    """logits[last token] of the next token."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.clone())
        self.config = PreTrainedConfig(num_hidden_layers=0)
        self.device = logits.device

    def forward(self, input_ids: Tensor, **_: object) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits[input_ids])


def states(sequences: Sequences) -> Tensor:
    """The token before each response token, int [b, r]."""
    first = sequences.prompt_width - 1
    return sequences.input_ids[:, first : first + sequences.response_width]


class TabularRoles:
    """Policy and reference as tables [states, tokens], the critic as a list of V by state."""

    pad_id, device = 0, torch.device("cpu")
    reward_mean, reward_std = 0.0, 1.0
    reward_stop_id = None
    policy_value_head = None

    def __init__(
        self,
        policy: Tensor,
        reference: Tensor,
        scores: Callable[[Sequences], Tensor],
        *,
        stop_ids: Sequence[int] = (),
        values: Tensor | None = None,
    ) -> None:
        self.policy, self.reference, self.scores = Table(policy), reference, scores
        self.stop_ids = list(stop_ids)
        self.value = nn.Parameter(torch.zeros(len(policy)) if values is None else values.clone())
        self.policy_parameters, self.value_parameters = [self.policy.logits], [self.value]

    def policy_outputs(self, sequences: Sequences) -> PolicyOutputs:
        before = states(sequences)[sequences.response_mask]
        return PolicyOutputs(self.policy.logits[before], before)

    def reference_logits(self, sequences: Sequences) -> Tensor:
        return self.reference[states(sequences)[sequences.response_mask]]

    def values(self, sequences: Sequences, _: Tensor | None = None) -> Tensor:
        return self.value[states(sequences)]

    @contextmanager
    def sampling(self) -> Iterator[Table]:
        yield self.policy
