"""Models are read where the timeline says, whatever the padding."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import Gemma2Config, Gemma2ForCausalLM

from align.maths.timeline import Sequences
from align.models.forward import (
    final_scores,
    policy_forward,
    response_states,
    right_padded,
    state_values,
    trunk_of,
    value_head,
    zero_head,
)
from tests import architectures, tiny, tiny_roles

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


def values_of(trunk, head, batch):
    return state_values(head, response_states(trunk, batch), batch)


def test_values_are_read_one_column_before_their_token_and_scores_at_the_last():
    """P4: values[:, j] == p − 1 + j; the score of a response of n tokens is at p − 1 + n.

    p is the length of the row's own prompt (3, 1, 6): a model is fed no padding before it.
    """
    batch = tiny_roles.sequences((5, 1, 3))
    values = values_of(ColumnTrunk(), identity_head(), batch)
    assert values.tolist() == [[2, 3, 4, 5, 6], [0, 0, 0, 0, 0], [5, 6, 7, 0, 0]]
    scores = final_scores(ColumnTrunk(), identity_head(), batch)
    assert scores.tolist() == [3 - 1 + 5, 1 - 1 + 1, 6 - 1 + 3]


def test_a_model_is_fed_rows_flush_left_and_no_wider_than_the_longest():
    """The rows are 3 + 5, 1 + 1 and 6 + 3 tokens; the last token predicts nothing and stays out."""
    fed = right_padded(tiny_roles.widened(tiny_roles.sequences((5, 1, 3)), left=2, right=3))
    assert fed.input_ids.shape == (3, 8)
    assert fed.input_ids[0].tolist()[:3] == tiny_roles.IDS[0]
    assert fed.input_ids[1].tolist() == [7, 1, *[tiny_roles.PAD] * 6]
    assert [(at // 8, at % 8) for at in fed.states.tolist()] == [
        *((0, column) for column in (2, 3, 4, 5, 6)),
        (1, 0),
        *((2, column) for column in (5, 6, 7)),
    ]


@pytest.mark.parametrize("build", BUILDS)
def test_the_head_computes_logits_for_response_tokens_only(build):
    """Of 3 rows × 8 columns fed, the 9 states before a response token reach the head, once."""
    model, seen = build(), []
    model.get_output_embeddings().register_forward_hook(
        lambda _, inputs, output: seen.append(tuple(output.shape))
    )
    logits = policy_forward(model, tiny_roles.sequences((5, 1, 3))).logits
    assert seen == [tuple(logits.shape)] == [(9, 300)]
    full = model(torch.tensor([[5, 9, 40]])).logits
    assert full.shape == (1, 3, 300)  # and the model is left as it was


def test_what_a_model_does_to_its_logits_stays():
    """Gemma 2 caps them (here at ± 3) after the head: read as the model gives them."""
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2, head_dim=8,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.5,
        final_logit_softcapping=3.0, sliding_window=4, pad_token_id=0, attn_implementation="eager",
    )  # fmt: skip
    model = Gemma2ForCausalLM(config).eval()
    batch = tiny_roles.sequences((5,))
    with torch.no_grad():
        logits = policy_forward(model, batch).logits
        alone = model(batch.input_ids).logits[0, batch.prompt_width - 1 : -1]
    torch.testing.assert_close(logits, alone, rtol=1e-5, atol=1e-5)
    assert 2 < logits.abs().max() < 3


@pytest.mark.parametrize("build", BUILDS)
def test_a_batch_reads_as_each_sequence_does_alone(build):
    """P4, P5: against an unpadded pass per row without masks or positions, to 1e-5."""
    model, scorer = build(), tiny_roles.reward_model(build)
    head = value_head(scorer.score, mean=0.5, std=2.0)
    batch = tiny_roles.sequences()
    with torch.no_grad():
        logits = policy_forward(model, batch).logits
        values = values_of(trunk_of(scorer), head, batch)
        scores = final_scores(trunk_of(scorer), scorer.score, batch)
        start = 0
        for row in range(len(batch)):
            ids = batch.input_ids[row][batch.attention_mask[row]][None]
            n = int(batch.response_mask[row].sum())
            alone = model(ids).logits[0, -n - 1 : -1]
            states = trunk_of(scorer)(ids).last_hidden_state[0]
            close = {"rtol": 1e-5, "atol": 1e-5}
            torch.testing.assert_close(logits[start : start + n], alone, **close)
            start += n
            expected = (scorer.score(states[-n - 1 : -1]).squeeze(-1) - 0.5) / 2.0
            torch.testing.assert_close(values[row, :n], expected, **close)
            torch.testing.assert_close(scores[row], scorer.score(states[-1])[0], **close)


@pytest.mark.parametrize(
    "kind", ["mamba", "mamba2", "jamba", "falcon_h1", "qwen3_5", "lfm2", "gemma3", "mistral"]
)
def test_padding_after_a_row_is_not_seen_by_states_windows_or_wrapped_decoders(kind):
    """Fed without a mask, each row as alone; padding that is not last would change a state."""
    model, batch = architectures.build(kind), tiny_roles.sequences()
    with torch.no_grad():
        found = policy_forward(model, batch).logits.split(batch.response_mask.sum(1).tolist())
        for row, logits in enumerate(found):
            ids = batch.input_ids[row][batch.attention_mask[row]][None]
            alone = model(input_ids=ids, use_cache=False).logits[0, -len(logits) - 1 : -1]
            torch.testing.assert_close(logits, alone, rtol=1e-5, atol=2e-5)


def test_a_zero_head_is_as_wide_as_what_the_models_head_reads():
    """OPT-350m projects its states before its head, here from 32 to 16 numbers."""
    config = {"word_embed_proj_dim": 16, "ffn_dim": 64, "max_position_embeddings": 64}
    model = architectures.build("opt", **config)
    batch = tiny_roles.sequences()
    assert not values_of(trunk_of(model), zero_head(model), batch).any()


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
            (policy_forward(model, each).logits for each in (batch, padded)),
            (
                values_of(trunk_of(scorer), scorer.score, each)[:, :width][mask]
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


@pytest.mark.parametrize("build", BUILDS)
def test_a_score_is_the_same_padded_on_the_left_or_on_the_right(build):
    """R2: to 1e-5, and as transformers' own classifier reads it with its pad token set."""
    scorer, batch = tiny_roles.reward_model(build), tiny_roles.sequences()
    rows = [ids[mask] for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True)]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=0)
    mask = torch.arange(ids.shape[1]) < batch.lengths[:, None]
    with torch.no_grad():
        left, right = (
            final_scores(trunk_of(scorer), scorer.score, each)
            for each in (batch, Sequences(ids, mask, mask[:, 1:]))
        )
        theirs = scorer(input_ids=ids, attention_mask=mask.long()).logits[:, 0]
    torch.testing.assert_close(right, left, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(theirs, left, rtol=1e-5, atol=1e-5)


def test_the_critic_starts_as_the_normalised_reward_model_or_at_zero():
    """P23: V at the last token is (score − mean) / std with a copied head; 0 with a zero head."""
    scorer = tiny_roles.reward_model()
    batch, trunk = tiny_roles.sequences(), trunk_of(scorer)
    copied = value_head(scorer.score, mean=0.3, std=1.7)
    zero = zero_head(tiny.llama())
    with torch.no_grad():
        score = final_scores(trunk, scorer.score, batch)
        value = final_scores(trunk, copied, batch)
        assert not values_of(trunk, zero, batch).any()
    torch.testing.assert_close(value, (score - 0.3) / 1.7, rtol=1e-5, atol=1e-6)
    assert score.std() > 0.1


def test_heads_compute_in_float32_whatever_the_trunk_computes_in():
    scorer = tiny_roles.reward_model().bfloat16()
    scores = final_scores(trunk_of(scorer), scorer.score, tiny_roles.sequences())
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.bfloat16().float())
