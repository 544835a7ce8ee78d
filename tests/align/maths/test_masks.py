"""Masks: literals worked by hand, float64 oracles, and indifference to what is masked out."""

from __future__ import annotations

import pytest
import torch

from align.maths import masks
from tests import ragged
from tests.oracles import maths as oracle

NAN = float("nan")


def test_last_index_and_position_ids():
    mask = torch.tensor([[0, 0, 1, 1, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]], dtype=torch.bool)
    assert masks.last_index(mask).tolist() == [3, 4, 4]
    assert masks.position_ids(mask).tolist() == [
        [0, 0, 0, 1, 1],
        [0, 1, 2, 3, 4],
        [0, 0, 0, 0, 0],
    ]


def test_whiten_literal():
    """P17: [1, 2, 3 | 10] has mean 2 and biased variance 2/3; 1/√(2/3) = 1.2247."""
    x, mask = torch.tensor([[1.0, 2.0, 3.0, 10.0]]), torch.tensor([[True, True, True, False]])
    expected = torch.tensor([[-1.2247449, 0.0, 1.2247449, 0.0]])
    torch.testing.assert_close(masks.masked_whiten(x, mask), expected, atol=1e-6, rtol=0)
    kept_mean = torch.tensor([[0.7752551, 2.0, 3.2247449, 0.0]])
    torch.testing.assert_close(
        masks.masked_whiten(x, mask, shift_mean=False), kept_mean, atol=1e-6, rtol=0
    )


def test_whitening_a_single_token_is_finite_and_zero():
    """P17: one token has variance 0; neither NaN nor infinity may come out."""
    whitened = masks.masked_whiten(torch.tensor([[4.0, NAN]]), torch.tensor([[True, False]]))
    assert whitened.tolist() == [[0.0, 0.0]]


def test_whitening_a_rollout_is_not_whitening_its_parts():
    """P17: moments belong to the whole rollout; rows keep their order of size across the batch."""
    x, mask = torch.tensor([[0.0, 1.0], [10.0, 11.0]]), torch.ones(2, 2, dtype=torch.bool)
    whole = masks.masked_whiten(x, mask)
    parts = torch.cat([masks.masked_whiten(x[i : i + 1], mask[i : i + 1]) for i in range(2)])
    assert whole[0].max() < whole[1].min()
    assert torch.equal(parts[0], parts[1])


@pytest.mark.parametrize("padding", [99.0, NAN, float("inf")])
def test_reductions_equal_the_oracle_whatever_the_padding_holds(padding):
    x, mask = ragged.numbers(0, scale=3, padding=padding), ragged.mask()
    numbers = oracle.valid(x.double().tolist(), ragged.LENGTHS)
    mean, variance = oracle.mean(numbers), oracle.variance(numbers)
    assert masks.masked_sum(x, mask).item() == pytest.approx(sum(numbers), rel=1e-5)
    assert masks.masked_mean(x, mask).item() == pytest.approx(mean, rel=1e-5)
    assert masks.masked_var(x, mask).item() == pytest.approx(variance, rel=1e-5)
    whitened = masks.masked_whiten(x, mask)
    expected = [(number - mean) / variance**0.5 for number in numbers]
    torch.testing.assert_close(whitened[mask], torch.tensor(expected), rtol=1e-4, atol=1e-6)
    assert torch.equal(whitened[mask.logical_not()], torch.zeros(int((~mask).sum())))
    rows = masks.masked_sum(x, mask, dim=-1)
    expected_rows = [sum(oracle.valid([r], [n])) for r, n in zip(x.tolist(), ragged.LENGTHS)]  # noqa: B905
    torch.testing.assert_close(rows, torch.tensor(expected_rows), rtol=1e-5, atol=1e-6)


def test_means_with_the_global_denominator_add_up():
    """P25: micro-batches of 5, 1, 3 and 4 tokens add up to the mean over 13 tokens."""
    x, mask = ragged.numbers(1), ragged.mask()
    parts = [
        masks.masked_mean(x[i : i + 1], mask[i : i + 1], denominator=mask.sum()) for i in range(4)
    ]
    torch.testing.assert_close(sum(parts), masks.masked_mean(x, mask), rtol=1e-6, atol=1e-7)


def test_shape_errors_name_every_tensor_with_its_shape():
    with pytest.raises(ValueError, match=r"x\[2, 3\], mask\[3, 2\]"):
        masks.masked_mean(torch.zeros(2, 3), torch.ones(3, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"2 axes.*mask\[3\]"):
        masks.last_index(torch.ones(3, dtype=torch.bool))
