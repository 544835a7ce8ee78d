"""What scores a response, whoever stands behind it: the reward stage's model, another one, a judge.

PPO, its baselines and the evaluation know a reward model by this protocol only. A response is given
to it in both forms, as the policy's tokens and as text, since one reads these and another that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from transformers import PreTrainedModel

from align.data.rows import Message
from align.models.load import reward_scores


class Conversation(NamedTuple):
    """A prompt with its response."""

    ids: list[int]
    """As the policy's tokens, through the stop token that the reward stage trains at."""
    messages: list[Message]
    """As text, the response last."""


class RewardModel(Protocol):
    """A raw score for each conversation; its mean and standard deviation are measured outside."""

    name: str
    """What errors call it."""
    limit: int | None
    """Tokens that it reads, in its own count; None: as many as the policy writes."""

    def fits(self, messages: Sequence[Message], *, room: int = 0) -> bool:
        """Whether it reads all of a conversation and `room` more tokens."""
        ...

    def score(self, conversations: Sequence[Conversation], *, batch_size: int = 64) -> list[float]:
        """One score per conversation, in their order."""
        ...


class TokenRewardModel:
    """The reward stage's model: it reads the policy's tokens."""

    name = "the reward model"
    limit: int | None = None

    def __init__(self, model: PreTrainedModel, *, pad_id: int) -> None:
        self.model, self.pad_id = model, pad_id

    def fits(self, messages: Sequence[Message], *, room: int = 0) -> bool:
        return True  # it has the policy's positions

    def score(self, conversations: Sequence[Conversation], *, batch_size: int = 64) -> list[float]:
        ids = [conversation.ids for conversation in conversations]
        return reward_scores(self.model, ids, pad_id=self.pad_id, batch_size=batch_size)
