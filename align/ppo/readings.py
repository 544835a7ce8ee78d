"""What is read of each response: as the sampler recorded it, or computed by the models.

A column is [b, r] on the timeline of align/maths/timeline.py and goes by the name that it has in
`Measured`. Shapes: b = episodes, r = response width, n = response tokens of all rows, v =
vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from align.config import PPOConfig
from align.maths.logprobs import entropy, token_logprobs
from align.maths.timeline import Measured, Sequences
from align.messages import counted, say
from align.messages.errors import DivergedError
from align.ppo.roles import Roles
from align.sampling.sampler import Sample

SAME = 1e-4  # nats; two ways that agree so well in float32 differ by the order of their sums

Columns = Mapping[str, Tensor]


def finite_scores(roles: Roles, sequences: Sequences, config: PPOConfig) -> Tensor:
    """Raw scores of the reward model, [b].

    Raises:
        DivergedError: one is NaN or infinite.
    """
    scores = torch.zeros(len(sequences), device=roles.device)
    for rows in counted(micro_batches(sequences, config), say("scoring")):
        scores[rows] = roles.scores(sequences.select(rows))
    if not scores.isfinite().all():
        raise DivergedError(
            "the reward model gave {broken} of {count} responses a score that is not "
            "finite; train it again with a lower learning rate",
            broken=int((~scores.isfinite()).sum()),
            count=len(scores),
        )
    return scores


def as_recorded(samples: Sequence[Sample], sequences: Sequences) -> Columns:
    """What the sampler wrote down: log-probabilities always, and others if it had them."""
    numbers = {
        "logprobs": [number for each in samples for number in each.logprobs],
        "entropies": [number for each in samples for number in each.entropies],
        "values": [number for each in samples for number in each.values],
    }
    device = sequences.input_ids.device
    return {
        name: sequences.scatter_to_padded(torch.tensor(column, device=device))
        for name, column in numbers.items()
        if column
    }


def compute(
    roles: Roles, sequences: Sequences, config: PPOConfig, known: Collection[str] = ()
) -> Columns:
    """What the models say of one micro-batch, except of the columns that are known already."""
    reference = logprobs_of(roles.reference_logits(sequences), sequences, config)
    columns, states = {"ref_logprobs": reference}, None
    if "logprobs" not in known:
        logits, states = roles.policy_outputs(sequences)
        columns["logprobs"] = logprobs_of(logits, sequences, config)
        entropies = entropy(logits, temperature=config.temperature)
        columns["entropies"] = sequences.scatter_to_padded(entropies)
        del logits  # the largest tensor of all: the critic needs the room
    if "values" not in known:
        columns["values"] = roles.values(sequences, states)
    return columns


def compute_each(
    roles: Roles,
    sequences: Sequences,
    batches: Sequence[Tensor],
    config: PPOConfig,
    known: Collection[str],
) -> list[Columns]:
    """The same of several micro-batches."""
    return [
        compute(roles, sequences.select(rows), config, known)
        for rows in counted(batches, say("measuring"))
    ]


def agree(recorded: Columns, rows: Tensor, computed: Columns) -> bool:
    """Whether all that was recorded of these rows is what the models say of them.

    Without recorded entropies the policy's pass is needed anyway, and nothing is taken as recorded.
    """
    if "entropies" not in recorded:
        return False
    gaps = [column[rows, : computed[n].shape[1]] - computed[n] for n, column in recorded.items()]
    return all(bool(gap.abs().max() <= SAME) for gap in gaps)


def assemble(
    recorded: Columns, computed: Iterable[tuple[Tensor, Columns]], sequences: Sequences
) -> Measured:
    """The rollout's columns: the computed number where there is one, else the recorded one."""
    empty = torch.zeros(sequences.response_mask.shape, device=sequences.input_ids.device)
    names = ("logprobs", "ref_logprobs", "values", "entropies")
    columns = {name: recorded.get(name, empty).clone() for name in names}
    for rows, part in computed:
        for name, column in part.items():
            columns[name][rows, : column.shape[1]] = column
    return Measured(**columns, sampled=recorded["logprobs"])


def logprobs_of(logits: Tensor, sequences: Sequences, config: PPOConfig) -> Tensor:
    """log π of every response token on the timeline, [b, r], from logits [n, v]."""
    tokens = sequences.response_tokens
    return sequences.scatter_to_padded(
        token_logprobs(logits, tokens, temperature=config.temperature)
    )


def micro_batches(sequences: Sequences, config: PPOConfig) -> tuple[Tensor, ...]:
    """Rows of each forward pass: of like length, as many as fit in memory."""
    return sequences.by_length(config.micro_batch_size, tokens=config.micro_batch_tokens)


def updated(sequences: Sequences, config: PPOConfig) -> Iterator[Tensor]:
    """Rows of each pass of an update, counted."""
    return counted(micro_batches(sequences, config), say("updating"))
