"""Log-probabilities against plain loops, at every temperature."""

from __future__ import annotations

import math

import pytest
import torch

from align.maths.logprobs import entropy, sequence_logprobs, token_logprobs
from tests import ragged
from tests.oracles import maths as oracle


def test_token_logprobs_literal():
    """Logits 0, ln 2, ln 5 are the odds 1 : 2 : 5."""
    logits = torch.tensor([[[0.0, math.log(2), math.log(5)]] * 3])
    logprobs = token_logprobs(logits, torch.tensor([[0, 1, 2]]))
    expected = torch.tensor([[1 / 8, 2 / 8, 5 / 8]]).log()
    torch.testing.assert_close(logprobs, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 2.0])
def test_token_logprobs_and_entropy_equal_the_oracle(temperature):
    """P2: the logits are divided by the temperature first."""
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0)) * 4
    ids = torch.tensor([[0, 3, 6], [5, 5, 1]])
    logprobs = token_logprobs(logits, ids, temperature=temperature)
    entropies = entropy(logits, temperature=temperature)
    for i in range(2):
        for j in range(3):
            scaled = [z / temperature for z in logits[i, j].double().tolist()]
            expected = oracle.log_softmax(scaled)[ids[i, j]]
            assert logprobs[i, j].item() == pytest.approx(expected, rel=1e-5)
            assert entropies[i, j].item() == pytest.approx(oracle.entropy(scaled), rel=1e-5)


def test_logprobs_are_float32_from_bfloat16_logits():
    logits = torch.randn(1, 2, 9, generator=torch.Generator().manual_seed(1)).bfloat16()
    ids = torch.tensor([[3, 8]])
    logprobs = token_logprobs(logits, ids)
    assert logprobs.dtype == torch.float32
    assert torch.equal(logprobs, token_logprobs(logits.float(), ids))


def test_raising_a_chosen_logit_raises_its_logprob_and_lowers_no_other():
    logits = torch.zeros(1, 1, 4, requires_grad=True)
    token_logprobs(logits, torch.tensor([[2]])).sum().backward()
    torch.testing.assert_close(logits.grad[0, 0], torch.tensor([-0.25, -0.25, 0.75, -0.25]))


def test_sequence_logprobs_sum_the_mask_only():
    logprobs, mask = ragged.numbers(2, padding=float("nan")), ragged.mask()
    expected = [sum(row[:n]) for row, n in zip(logprobs.tolist(), ragged.LENGTHS, strict=True)]
    torch.testing.assert_close(
        sequence_logprobs(logprobs, mask), torch.tensor(expected), rtol=1e-5, atol=1e-6
    )


def test_ids_and_logits_must_agree():
    with pytest.raises(ValueError, match=r"ids\[1, 2\], logits\[1, 3\]"):
        token_logprobs(torch.zeros(1, 3, 5), torch.zeros(1, 2, dtype=torch.long))
