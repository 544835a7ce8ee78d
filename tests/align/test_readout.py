"""Models are read where the timeline says, whatever the padding."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from align.readout import (
    final_scores,
    response_logits,
    state_values,
    trunk_of,
    value_head,
    zero_head,
)
from tests import tiny, tiny_roles

BUILDS = [tiny.llama, tiny.gpt2]


class ColumnTrunk(nn.Module):
    """A trunk whose hidden state is the column it stands in."""

    def forward(self, input_ids, **_):
        columns = torch.arange(input_ids.shape[1], dtype=torch.float32)
        states = columns.expand(input_ids.shape).unsqueeze(-1)
        return SimpleNamespace(last_hidden_state=states)


def identity_head() -> nn.Linear:
    head = nn.Linear(1, 1, bias=False)
    nn.init.ones_(head.weight)
    return head


def test_values_are_read_one_column_before_their_token_and_scores_at_the_last():
    """P4: values[:, j] == p − 1 + j; the score of a response of n tokens is at p − 1 + n."""
    batch = tiny_roles.sequences((5, 1, 3))
    values = state_values(ColumnTrunk(), identity_head(), batch)
    p = batch.prompt_width
    assert values.tolist() == [[p - 1.0 + j for j in range(5)]] * 3
    scores = final_scores(ColumnTrunk(), identity_head(), batch)
    assert scores.tolist() == [p - 1 + 5, p - 1 + 1, p - 1 + 3]


@pytest.mark.parametrize("build", BUILDS)
def test_a_batch_reads_as_each_sequence_does_alone(build):
    """P4, P5: against an unpadded pass per row without masks or positions, to 1e-5."""
    model, scorer = build(), tiny_roles.reward_model(build)
    head = value_head(scorer.score, mean=0.5, std=2.0)
    batch = tiny_roles.sequences()
    with torch.no_grad():
        logits = response_logits(model, batch)
        values = state_values(trunk_of(scorer), head, batch)
        scores = final_scores(trunk_of(scorer), scorer.score, batch)
        for row in range(len(batch)):
            ids = batch.input_ids[row][batch.attention_mask[row]][None]
            n = int(batch.response_mask[row].sum())
            alone = model(ids).logits[0, -n - 1 : -1]
            states = trunk_of(scorer)(ids).last_hidden_state[0]
            close = {"rtol": 1e-5, "atol": 1e-5}
            torch.testing.assert_close(logits[row, :n], alone, **close)
            expected = (scorer.score(states[-n - 1 : -1]).squeeze(-1) - 0.5) / 2.0
            torch.testing.assert_close(values[row, :n], expected, **close)
            torch.testing.assert_close(scores[row], scorer.score(states[-1])[0], **close)


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("pads", [0, 1, 5])
def test_padding_on_either_side_changes_nothing(build, pads):
    """P5: k more pads, of any token id. GPT-2 without positions from the mask would be .59 off."""
    model, scorer = build(), tiny_roles.reward_model(build)
    batch = tiny_roles.sequences()
    padded = tiny_roles.widened(batch, left=pads, right=pads, token=77)
    mask, width = batch.response_mask, batch.response_width
    with torch.no_grad():
        pairs = [
            (response_logits(model, each)[:, :width][mask] for each in (batch, padded)),
            (
                state_values(trunk_of(scorer), scorer.score, each)[:, :width][mask]
                for each in (batch, padded)
            ),
            (final_scores(trunk_of(scorer), scorer.score, each) for each in (batch, padded)),
        ]
        for plain, wide in pairs:
            torch.testing.assert_close(wide, plain, rtol=1e-5, atol=1e-5)


def test_the_score_is_read_at_the_stop_token_even_if_padding_has_its_id():
    """P6: pad == stop reads the same state as pad ≠ stop."""
    scorer = tiny_roles.reward_model()
    with torch.no_grad():
        apart, same = (
            final_scores(trunk_of(scorer), scorer.score, tiny_roles.sequences(pad_id=pad))
            for pad in (0, 1)
        )
    torch.testing.assert_close(same, apart, rtol=1e-6, atol=1e-6)


def test_the_critic_starts_as_the_normalised_reward_model_or_at_zero():
    """P23: V at the last token is (score − mean) / std with a copied head; 0 with a zero head."""
    scorer = tiny_roles.reward_model()
    batch, trunk = tiny_roles.sequences(), trunk_of(scorer)
    copied = value_head(scorer.score, mean=0.3, std=1.7)
    zero = zero_head(scorer)
    with torch.no_grad():
        score = final_scores(trunk, scorer.score, batch)
        value = final_scores(trunk, copied, batch)
        assert not state_values(trunk, zero, batch).any()
    torch.testing.assert_close(value, (score - 0.3) / 1.7, rtol=1e-5, atol=1e-6)
    assert score.std() > 0.1


def test_heads_compute_in_float32_whatever_the_trunk_computes_in():
    scorer = tiny_roles.reward_model().bfloat16()
    scores = final_scores(trunk_of(scorer), scorer.score, tiny_roles.sequences())
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.bfloat16().float())
