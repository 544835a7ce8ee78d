"""What PPO asks of its models, whatever the layout.

Shapes: b = sequences, r = response width, n = response tokens of all rows, v = vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from align.maths.timeline import Sequences
from align.messages.errors import ConfigError
from align.models.forward import PolicyOutputs

SequenceScorer = Callable[[Sequences], Tensor]
"""What scores instead of a model on the policy's tokens: raw scores [b], as `Roles.scores`."""


class Roles(Protocol):
    """What PPO asks of its models."""

    pad_id: int
    stop_ids: Sequence[int]
    reward_stop_id: int | None
    """What every finished response is scored with: the stop token that the reward model was trained
    at, the chat template's. None: the one that was sampled."""
    device: torch.device
    reward_mean: float
    reward_std: float
    """Moments of the raw score; the critic speaks of (score − mean) / std."""
    policy_parameters: list[nn.Parameter]
    value_parameters: list[nn.Parameter]
    policy_value_head: nn.Linear | None
    """The critic, where it is a head on the policy's states."""

    def policy_outputs(self, sequences: Sequences) -> PolicyOutputs:
        """Logits of the policy that predict each response token, and the states behind them."""
        ...

    def reference_logits(self, sequences: Sequences) -> Tensor:
        """Those of the reference, without gradient, [n, v]."""
        ...

    def values(self, sequences: Sequences, states: Tensor | None = None) -> Tensor:
        """V of the state before each response token, float32 [b, r].

        `states` are the policy's, [n, d]: where they are at hand, they spare a critic that is a
        head on them its pass.
        """
        ...

    def scores(self, sequences: Sequences) -> Tensor:
        """Raw score of each response, read at its last token; float32 [b], without gradient."""
        ...

    def sampling(self) -> AbstractContextManager[PreTrainedModel]:
        """The policy as a plain model, for as long as it is sampled from."""
        ...

    def trained_policy(self) -> PreTrainedModel | PeftModel:
        """The policy with what was trained, to be published."""
        ...


def checked_std(std: float) -> float:
    if not std > 0:
        raise ConfigError(
            "reward_std={std}, expected a positive number; train the reward model "
            "again, or set ppo.normalise_reward=false",
            std=std,
        )
    return std


def foreign_critic() -> ConfigError:
    return ConfigError(
        "critic=reward: the critic reads the policy's tokens, and this reward model reads its "
        "own; use ppo.critic=head, or zero"
    )
