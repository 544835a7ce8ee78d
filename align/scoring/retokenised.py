"""The reward model's role where it does not read the policy's tokens: scored as text."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from align.data.chat import decode
from align.data.rows import Message
from align.maths.timeline import Sequences
from align.scoring.reward_model import Conversation, RewardModel


class RetokenisedScorer:
    """Scores of the policy's sequences by a reward model that reads text.

    What is scored is the text that a person would read: the response without its control tokens.
    An unfinished response is told like a finished one, as a reward model has only seen those;
    `ppo.missing_eos` is what punishes it.
    """

    def __init__(self, reward_model: RewardModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """`tokenizer`: the policy's."""
        self.reward_model, self.tokenizer = reward_model, tokenizer

    def __call__(self, sequences: Sequences) -> Tensor:
        """Raw score of each response, float32 [b], without gradient."""
        told = [Conversation([], messages) for messages in self.as_messages(sequences)]
        scores = self.reward_model.score(told, batch_size=len(sequences))
        return torch.tensor(scores, device=sequences.input_ids.device)

    def as_messages(self, sequences: Sequences) -> Iterator[list[Message]]:
        """Each sequence as the messages it stands for, the response last."""
        rows = zip(sequences.prompts, sequences.response_ids, sequences.response_mask, strict=True)
        for prompt, response, mask in rows:
            answer = decode(self.tokenizer, response[mask].tolist())
            yield [*prompt.messages, {"role": "assistant", "content": answer}]
