import pytest

from align.runs.movement import standstill


def curve(stage, values, key="train/loss"):
    return [{"step": 5 * n + 1, f"{stage}/{key}": value} for n, value in enumerate(values)]


def test_a_loss_that_stays_is_told_with_its_steps_and_what_to_raise():
    assert standstill("sft", curve("sft", [2.50, 2.49, 2.48, 2.47])) == (
        "sft did not move: 16 optimiser steps, loss 2.5 → 2.47; raise "
        "sft.trainer.num_train_epochs (or max_steps), then sft.trainer.learning_rate"
    )


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "kto"])
def test_a_loss_that_fell_by_more_than_a_twentieth_is_not_told(stage):
    assert standstill(stage, curve(stage, [1.0, 0.94])) is None
    assert standstill(stage, curve(stage, [1.0, 0.96])) is not None


def test_sft_that_ends_with_broken_words_is_told_although_its_loss_fell():
    assert standstill("sft", curve("sft", [7.03, 5.0, 3.5, 2.63])) == (
        "sft has not learnt its rows yet: loss 7.03 → 2.63 nats per token in 16 optimiser steps, "
        "and answers may be broken above 2; raise sft.trainer.num_train_epochs, then "
        "sft.trainer.learning_rate"
    )
    assert standstill("sft", curve("sft", [7.03, 5.0, 3.5, 1.9])) is None
    assert standstill("dpo", curve("dpo", [7.03, 5.0, 3.5, 2.63])) is None


def test_one_lucky_batch_at_an_end_is_not_the_curve():
    values = [2.0] * 9 + [1.0]
    assert standstill("sft", curve("sft", values)) is None  # (2 + 1) / 2 = 1.5 of 2
    assert standstill("sft", curve("sft", [2.0] * 19 + [1.7])) is not None  # 1.925 of 2


def test_a_policy_that_stays_at_its_reference_is_told_in_nats():
    key = "kl/sequence"
    told = standstill("ppo", curve("ppo", [0.0, 0.01, 0.02], key))
    assert told == (
        "ppo did not move: KL 0.02 nats per answer after 11 iterations; raise ppo.iterations or "
        "ppo.learning_rate"
    )
    assert standstill("ppo", curve("ppo", [0.0, 0.6], key)) is None


@pytest.mark.parametrize("stage", ["rloo", "grpo"])
def test_a_baseline_that_stays_is_told_by_nats_per_token_times_tokens(stage):
    keys = (f"{stage}/train/kl", f"{stage}/completions/mean_length")
    rows = [{"step": n, keys[0]: 0.001 * n, keys[1]: 20.0} for n in range(1, 5)]
    assert standstill(stage, rows) == (
        f"{stage} did not move: KL 0.08 nats per answer after 4 optimiser steps; raise "
        "ppo.iterations or ppo.learning_rate"
    )
    assert standstill(stage, [row | {keys[1]: 30.0} for row in rows]) is None  # 0.12


def test_a_stage_without_a_curve_says_nothing():
    assert standstill("evaluate", []) is None
    assert standstill("sft", [{"step": 1, "sft/train/loss": "nan"}]) is None
