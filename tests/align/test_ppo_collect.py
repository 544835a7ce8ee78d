"""Steps 1 to 5 of PPO: every number stays with its episode, token and model."""

from __future__ import annotations

import pytest
import torch

from align import ppo
from align.ppo import measure, score
from align.rollout import Sample, collate
from tests import tiny, tiny_roles
from tests.tabular import TabularRoles
from tests.tiny_ppo import collect, generator
from tests.tiny_roles import PROMPTS, Log

EOS, CUSTOM = 1, 2
NEXT = {3: 5, 4: 6, 7: 8, 5: EOS, 6: CUSTOM, EOS: 9, CUSTOM: 9}
"""What follows each token; 8 otherwise. Prompts that end in 3, 4 or 7 go 5 EOS, 6 CUSTOM, 8 8 …"""
SCRIPT = torch.full((10, 10), -1e4)
for token in range(10):
    SCRIPT[token, NEXT.get(token, 8)] = 1e4


@pytest.mark.parametrize(
    ("stop_ids", "finished"),
    [
        ([EOS], [True, False, False, False]),
        ([CUSTOM], [False, True, False, False]),
        ([EOS, CUSTOM], [True, True, False, False]),
        ([], [False, False, False, False]),
    ],
    ids=["eos", "custom", "both", "none"],
)
def test_the_stop_tokens_configured_decide_who_is_punished(stop_ids, finished):
    """P8: answers with eos, with a custom stop, with none, and eos in the prompt only: 4 × 4."""
    roles = TabularRoles(
        SCRIPT, SCRIPT, lambda batch: torch.full((len(batch),), 3.0), stop_ids=stop_ids
    )
    config = tiny_roles.config(max_new_tokens=4, missing_eos_penalty=-1.0)
    prompts = [[3], [4], [7], [EOS, EOS, 7]]
    found = collect(roles, config, prompts=prompts)
    assert [sample.finished for sample in found.samples] == finished
    assert found.scores.tolist() == [3.0 if each else -1.0 for each in finished]
    lengths = found.sequences.response_mask.sum(-1).tolist()
    assert lengths == [2 if each else 4 for each in finished]


def test_scores_stay_with_their_episodes():
    """Scored in groups of like length, and given back in the order of the prompts."""
    roles = tiny_roles.separate()
    roles.scores = lambda batch: batch.response_ids[:, 0].float()
    samples = [Sample([40 + n] * length, True, []) for n, length in enumerate([2, 5, 1, 4, 3])]
    sequences = collate(PROMPTS[:5], samples, pad_id=0)
    _, raw_scores = score(roles, samples, sequences, tiny_roles.config(micro_batch_size=2))
    assert raw_scores.tolist() == [40, 41, 42, 43, 44]


def test_readings_are_at_the_sampling_temperature_and_of_their_own_model():
    """P2: policy, reference, critic and entropy at T = .7, against one pass per row in float64."""
    roles, temperature = tiny_roles.separate(), 0.7
    with torch.no_grad():
        for parameter in roles.policy_parameters:
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator()))
    config = tiny_roles.config(temperature=temperature, micro_batch_size=3)
    sequences = collect(roles, config).sequences
    measured = measure(roles, sequences, config)
    models = (roles.policy.double(), roles.reference.double())
    for row in range(len(sequences)):
        ids = sequences.input_ids[row][sequences.attention_mask[row]]
        n = int(sequences.response_mask[row].sum())
        with torch.no_grad():
            policy, reference = (
                (model(ids[None]).logits[0, -n - 1 : -1] / temperature).log_softmax(-1)
                for model in models
            )
        expected = [each.gather(-1, ids[-n:, None])[:, 0] for each in (policy, reference)]
        expected.append(-(policy.exp() * policy).sum(-1))
        got = (measured.logprobs, measured.ref_logprobs, measured.entropies)
        for reading, truth in zip(got, expected, strict=True):
            torch.testing.assert_close(reading[row, :n].double(), truth, rtol=0, atol=1e-4)


def test_micro_batches_do_not_change_what_is_collected():
    """P17: advantages are whitened over the rollout, whether measured 12, 5 or 1 at a time."""
    cuts = [{"micro_batch_size": size} for size in (12, 5, 1)] + [{"micro_batch_tokens": 30}]
    whole, *parts = (
        collect(tiny_roles.separate(), tiny_roles.config(**cut)).rollout for cut in cuts
    )
    for part in parts:
        torch.testing.assert_close(part.advantages, whole.advantages, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(part.returns, whole.returns, rtol=1e-4, atol=1e-5)


def test_in_bfloat16_the_samplers_rounding_is_reported_and_is_no_change_of_policy():
    """P3: sampler and trainer differ by .01 nats in the mean; the first ratio is 1 all the same."""
    log = Log()
    config = tiny_roles.config(
        iterations=1, epochs=1, minibatches=1, micro_batch_size=12, max_new_tokens=24
    )
    roles = tiny_roles.separate(lambda: tiny.llama(hidden_size=128), arithmetic=torch.bfloat16)
    ppo.train(roles, PROMPTS, config, tracker=log, seed=0)
    (row,) = log.rows
    assert row["ppo/sampler/gap_mean"] > 1e-3
    assert row["ppo/sampler/gap_max"] > 1e-2
    assert row["ppo/start/ratio_gap_max"] < 1e-4
    assert row["ppo/start/clip_fraction"] == 0
