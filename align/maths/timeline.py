"""Records of the pipeline, and the one timeline that settles every index.

    prompt of 2 tokens, padded to p = 4 on the left        response of 3 tokens, padded to r = 4

    column            0     1     2     3    |    4     5     6     7
    input_ids        pad   pad   q0    q1    |   y0    y1   stop   pad
    attention_mask    ·     ·     1     1    |    1     1     1     ·
    position_ids      0     0     0     1    |    2     3     4     4

    j                                             0     1     2     3
    response_ids                                 y0    y1   stop   pad
    response_mask                                 1     1     1     ·
    logprobs[j]       read from the logits at     3     4     5     ·      column p − 1 + j
    values[j]         read from the state at      3     4     5     ·      column p − 1 + j
    rewards[j]        −kl_coef · k1 at            y0    y1   stop   ·
                      + the score on                         stop          last True of the mask
    V after the end                                                0

A logit at column c predicts the token at c + 1, and the value of the state *before* token j stands
where that state ends: both are read one column to the left of their token. Masks are True where a
position counts and are built from lengths, never from token ids. The reward model is read at the
last True of attention_mask: at the stop token, whether or not its id is also the padding's.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Self

from torch import Tensor

from align.maths.masks import last_index, position_ids


@dataclass(frozen=True, slots=True)
class Sequences:
    """Prompts with their responses. b = sequences, p = prompt width, r = response width."""

    input_ids: Tensor  # int [b, p + r]
    attention_mask: Tensor  # bool [b, p + r]
    response_mask: Tensor  # bool [b, r]
    prompts: tuple[Any, ...] = ()  # the records that the rows' prompts come from, where they matter

    def __len__(self) -> int:
        return self.input_ids.shape[0]

    @property
    def response_width(self) -> int:
        return self.response_mask.shape[1]

    @property
    def prompt_width(self) -> int:
        return self.input_ids.shape[1] - self.response_width

    @property
    def response_ids(self) -> Tensor:
        return self.input_ids[:, self.prompt_width :]

    @property
    def response_tokens(self) -> Tensor:
        """The ids that response_mask marks, row after row, int [n]."""
        return self.response_ids[self.response_mask]

    def scatter_to_padded(self, readings: Tensor) -> Tensor:
        """One reading per response token, [n], on the timeline: [b, r], 0 on padding."""
        empty = readings.new_zeros(self.response_mask.shape)
        return empty.masked_scatter(self.response_mask, readings)

    def ending_with(self, token: int, rows: Tensor) -> Sequences:
        """The same sequences, with `token` as the last one of the rows marked, bool [b]."""
        last = last_index(self.attention_mask)
        ids = self.input_ids.clone()
        ids[rows, last[rows]] = token
        return replace(self, input_ids=ids)

    @property
    def position_ids(self) -> Tensor:
        return position_ids(self.attention_mask)

    @property
    def lengths(self) -> Tensor:
        """Tokens of each sequence, padding apart, int [b]."""
        return self.attention_mask.sum(dim=-1)

    def by_length(self, size: int, *, tokens: int | None = None) -> tuple[Tensor, ...]:
        """Indices of the rows in groups of like length, the longest first.

        A group has at most `size` rows; or, if `tokens` is given, as many as fit into that many
        tokens when all are as wide as its longest, and never less than one.
        """
        order = self.lengths.argsort(descending=True, stable=True)
        if tokens is None:
            return order.split(size)
        rows, sizes = self.lengths[order].tolist(), []
        while rows:
            sizes.append(max(1, tokens // rows[0]))
            del rows[: sizes[-1]]
        sizes[-1] = len(order) - sum(sizes[:-1])
        return order.split(sizes)

    def select(self, rows: Tensor) -> Sequences:
        """The given rows, in the given order, without the columns that are now padding only."""
        attention_mask, response_mask = self.attention_mask[rows], self.response_mask[rows]
        width = int(response_mask.sum(dim=-1).max())
        prompt = attention_mask[:, : self.prompt_width]
        left = self.prompt_width - int(prompt.sum(dim=-1).max())
        right = self.prompt_width + width
        return Sequences(
            self.input_ids[rows, left:right],
            attention_mask[:, left:right],
            response_mask[:, :width],
            tuple(self.prompts[row] for row in rows.tolist()) if self.prompts else (),
        )


class Measured(NamedTuple):
    """What the models say of each response token before an update, each float32 [b, r]."""

    logprobs: Tensor  # nats, of the policy that sampled
    ref_logprobs: Tensor  # nats
    values: Tensor
    entropies: Tensor  # nats, of the policy that sampled
    sampled: Tensor  # nats, logprobs as the sampler recorded them


@dataclass(frozen=True, slots=True)
class Rollout:
    """What one PPO iteration learns from; every [b, r] field follows the timeline above."""

    sequences: Sequences
    old_logprobs: Tensor  # nats [b, r], of the policy that sampled
    old_values: Tensor  # [b, r]
    advantages: Tensor  # [b, r]
    returns: Tensor  # [b, r]

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def response_mask(self) -> Tensor:
        return self.sequences.response_mask

    def select(self, rows: Tensor) -> Self:
        """The given rows, cut to their longest response."""
        sequences = self.sequences.select(rows)
        tokens = {
            field.name: getattr(self, field.name)[rows, : sequences.response_width]
            for field in fields(self)
            if field.name != "sequences"
        }
        return type(self)(sequences, **tokens)
