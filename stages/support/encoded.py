"""Rows as token ids: encoded once, and read back where a stage is taken up again.

Encoding many rows takes longer than all else before the first step (docs/reliability.md has the
figures). So what it gives is kept as a part of the stage's result (align/runs/checkpoints.py):
written whole or not at all, verified when read, gone once the stage has published.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from align.data import EncodedPrompt, Instruction, Preference, Prompt, chat
from align.data.rows import Message
from align.messages import counted, say
from align.runs.checkpoints import Saved
from align.runs.contract import StageContext
from align.runs.hashing import value_hash
from stages.support.training import TrainingSetup

IGNORED = -100
"""Label of a token that carries no loss (PyTorch's ignore_index)."""

Columns = dict[str, list[int]]
"""What a row becomes, by the names that its trainer reads."""
DECIDE = ("model.", "parents.sft", "versions.", "align/", "stages/")
"""Beginnings of the inputs that decide it besides the row itself: the model with its tokenizer and
template, the code, the libraries."""


def encode_once(
    context: StageContext,
    name: str,
    rows: Sequence[Sequence[Any]],
    encode: Callable[..., Iterable[Columns]],
) -> list[Columns]:
    """Return what `encode(*row)` gives for each row, one after the other.

    Args:
        name: of the data, below `data`.
        rows: JSON, and all of the data that `encode` reads.
    """

    def make() -> Saved:
        flat: dict[str, array[int]] = defaultdict(_ints)
        lengths: dict[str, array[int]] = defaultdict(_ints)
        for row in counted(rows, say("encoding")):
            for columns in encode(*row):
                for key, values in columns.items():
                    flat[key].extend(values)
                    lengths[key].append(len(values))
        tensors = {f"{key}.values": torch.from_numpy(np.asarray(flat[key])) for key in flat}
        tensors |= {f"{key}.lengths": torch.from_numpy(np.asarray(lengths[key])) for key in flat}
        return Saved(tensors, {"columns": list(flat)})

    if context.checkpoints is None:
        return _columns(make())
    return _columns(
        context.checkpoints.part(
            f"encoded {name}",
            make,
            decides=lambda key: key.startswith(DECIDE),
            made_from={"rows": value_hash(rows)},
            exact=True,
        )
    )


def _ints() -> array[int]:
    """Four bytes each; in a list of Python's own they would take nine times as much."""
    return array("i")


def _columns(saved: Saved) -> list[Columns]:
    names = saved.values["columns"]
    columns = []
    for name in names:
        values, lengths = saved.tensors[f"{name}.values"], saved.tensors[f"{name}.lengths"]
        columns.append([each.tolist() for each in values.split(lengths.tolist())])
    return [dict(zip(names, each, strict=True)) for each in zip(*columns, strict=True)]


def encode_answers(setup: TrainingSetup, rows: Sequence[Instruction]) -> list[dict[str, Any]]:
    """Encode demonstrations so that every answer counts once, as `labels`, and the prompt never.

    Returns:
        `input_ids`, `labels` and `length` of each sequence, of which a row may give several.
    """

    def encode(messages: list[Message]) -> list[Columns]:
        return [
            {
                "input_ids": ids,
                "labels": [
                    token if counts else IGNORED for token, counts in zip(ids, mask, strict=True)
                ],
            }
            for ids, mask in chat.encode_answers(setup.tokenizer, messages)
        ]

    said = [(row.messages,) for row in rows]
    encoded = encode_once(setup.context, "instructions", said, encode)
    return [columns | {"length": len(columns["input_ids"])} for columns in encoded]


def encode_prompts(setup: TrainingSetup, rows: Sequence[Prompt]) -> list[EncodedPrompt]:
    """Encode prompts to be answered."""

    def encode(prompt: list[Message]) -> list[Columns]:
        return [{"ids": chat.prompt_ids(setup.tokenizer, prompt)}]

    said = [(row.messages,) for row in rows]
    encoded = encode_once(setup.context, "prompts", said, encode)
    return [
        EncodedPrompt(columns["ids"], row.messages, row.checks)
        for row, columns in zip(rows, encoded, strict=True)
    ]


def encode_pairs(
    setup: TrainingSetup, pairs: Sequence[Preference], name: str
) -> tuple[list[Preference], list[dict[str, Any]]]:
    """Encode preference pairs that fit: the prompt, and each answer through its stop token.

    Returns:
        The pairs kept, and for each `prompt_ids`, `chosen_ids`, `rejected_ids` and `length`.
    """
    tokenizer, keys = setup.tokenizer, ("prompt_ids", "chosen_ids", "rejected_ids")
    chat.check_rows(tokenizer, pairs)

    def encode(prompt: list[Message], chosen: str, rejected: str) -> list[Columns]:
        ids = chat.prompt_and_responses(tokenizer, prompt, chosen, rejected)
        return [dict(zip(keys, ids, strict=True))]

    said = [(pair.prompt, pair.chosen, pair.rejected) for pair in pairs]
    encoded: list[dict[str, Any]] = encode_once(setup.context, name, said, encode)
    for ids in encoded:
        prompt, *responses = (len(ids[key]) for key in keys)
        ids["length"] = prompt + max(responses)
    both = list(zip(pairs, encoded, strict=True))
    kept = setup.within(both, lambda pair_and_ids: pair_and_ids[1]["length"], name)
    return [pair for pair, _ in kept], [ids for _, ids in kept]
