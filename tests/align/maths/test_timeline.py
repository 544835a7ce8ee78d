"""The timeline of align/maths/timeline.py, held to its drawing."""

from __future__ import annotations

import torch

from align.maths.timeline import Rollout, Sequences
from align.sampling.sampler import Sample, collate

PAD, STOP = 0, 1


def drawn() -> Sequences:
    """The row of the drawing, below a row with a longer prompt and a longer response."""
    samples = [Sample([21, 22, 23, STOP], True, []), Sample([11, 12, STOP], True, [])]
    return collate([[5, 6, 7, 8], [9, 10]], samples, pad_id=PAD)


def test_the_drawn_row():
    sequences = drawn()
    assert sequences.input_ids[1].tolist() == [PAD, PAD, 9, 10, 11, 12, STOP, PAD]
    assert sequences.attention_mask[1].int().tolist() == [0, 0, 1, 1, 1, 1, 1, 0]
    assert sequences.position_ids[1].tolist() == [0, 0, 0, 1, 2, 3, 4, 4]
    assert sequences.response_ids[1].tolist() == [11, 12, STOP, PAD]
    assert sequences.response_mask[1].int().tolist() == [1, 1, 1, 0]
    assert (sequences.prompt_width, sequences.response_width) == (4, 4)
    assert sequences.lengths.tolist() == [8, 5]


def test_response_tokens_go_out_row_after_row_and_come_back_to_their_places():
    sequences = drawn()
    tokens = sequences.response_tokens
    assert tokens.tolist() == [21, 22, 23, STOP, 11, 12, STOP]
    scatter_to_padded = sequences.scatter_to_padded(tokens.float())
    assert scatter_to_padded.tolist() == [[21, 22, 23, STOP], [11, 12, STOP, 0]]


def test_selecting_rows_drops_the_columns_that_are_padding_in_all_of_them():
    chosen = drawn().select(torch.tensor([1]))
    assert chosen.input_ids.tolist() == [[9, 10, 11, 12, STOP]]
    assert chosen.attention_mask.all()
    assert chosen.response_mask.tolist() == [[True] * 3]


def test_a_rollout_keeps_its_tokens_beside_their_numbers():
    sequences = drawn()
    numbers = torch.arange(8.0).view(2, 4)
    rollout = Rollout(sequences, numbers, numbers + 10, numbers + 20, numbers + 30)
    part = rollout.select(torch.tensor([1]))
    assert part.sequences.response_ids.tolist() == [[11, 12, STOP]]
    assert part.old_logprobs.tolist() == [[4, 5, 6]]
    assert part.returns.tolist() == [[34, 35, 36]]
    swapped = rollout.select(torch.tensor([1, 0]))
    assert swapped.advantages.tolist() == [[24, 25, 26, 27], [20, 21, 22, 23]]


def test_masks_come_from_lengths_when_padding_and_stop_share_an_id():
    """P6: with pad == stop, in the prompt too, every token still counts and no padding does."""
    sequences = collate([[5, STOP, 6, STOP], [7]], [Sample([9, STOP], True, [])] * 2, pad_id=STOP)
    assert sequences.attention_mask.int().tolist() == [[1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1]]
    assert sequences.response_mask.all()


def test_rows_are_grouped_by_length_and_each_comes_once():
    """Lengths 3, 9, 1, 8 and 2 in pairs, the longest first; equal lengths keep their order."""
    lengths = [3, 9, 1, 8, 2, 8]
    samples = [Sample([40] * n, False, []) for n in lengths]
    groups = collate([[5]] * 6, samples, pad_id=PAD).by_length(2)
    assert [rows.tolist() for rows in groups] == [[1, 3], [5, 0], [4, 2]]


def test_a_token_budget_counts_rows_times_the_longest_of_them():
    """Lengths 10, 9, 9, 4, 3, 2 with their prompt: 20 tokens are 2 × 10, 2 × 9, 2 × 3."""
    samples = [Sample([40] * n, False, []) for n in (3, 9, 1, 8, 2, 8)]
    sequences = collate([[5]] * 6, samples, pad_id=PAD)
    budgets = {tokens: sequences.by_length(1, tokens=tokens) for tokens in (20, 19, 5, 100)}
    cuts = {tokens: [rows.tolist() for rows in groups] for tokens, groups in budgets.items()}
    assert cuts[20] == [[1, 3], [5, 0], [4, 2]]
    assert cuts[19] == [[1], [3, 5], [0, 4, 2]]
    assert cuts[5] == [[1], [3], [5], [0], [4], [2]]  # a row that is too long still has its turn
    assert cuts[100] == [[1, 3, 5, 0, 4, 2]]
