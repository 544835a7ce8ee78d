"""Step 3 of PPO: what is taken as the sampler recorded it, and what is computed."""

from __future__ import annotations

import pytest
import torch

from align.ppo import train as ppo
from align.ppo.train import measure
from align.sampling.sampler import Sample
from tests import tiny, tiny_roles
from tests.tiny_ppo import collect, generator
from tests.tiny_roles import PROMPTS, Log


def test_readings_are_at_the_sampling_temperature_and_of_their_own_model():
    """P2: policy, reference, critic and entropy at T = .7, against one pass per row in float64."""
    roles, temperature = tiny_roles.separate(), 0.7
    with torch.no_grad():
        for parameter in roles.policy_parameters:
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator()))
    config = tiny_roles.config(temperature=temperature, micro_batch_size=3)
    found = collect(roles, config)
    sequences, measured = found.sequences, found.measured
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


def counted(roles) -> list[int]:
    """Response tokens of each pass of the policy outside sampling, as they come."""
    passes, plain = [], roles.policy_outputs

    def policy_outputs(sequences):
        found = plain(sequences)
        passes.append(len(found.logits))
        return found

    roles.policy_outputs = policy_outputs
    return passes


def test_in_float32_the_policy_is_measured_on_the_longest_responses_and_taken_as_recorded():
    """P3: of 12 responses 3 are computed; with the others as the sampler recorded, to 1e-5."""
    roles, config = tiny_roles.separate(), tiny_roles.config(micro_batch_size=3, temperature=0.7)
    passes = counted(roles)
    found = collect(roles, config)
    longest = found.sequences.by_length(3)[0]
    assert passes == [int(found.sequences.response_mask[longest].sum())]
    silent = [each._replace(entropies=()) for each in found.samples]
    afresh = measure(roles, silent, found.sequences, config)
    assert len(passes) == 1 + 4
    for got, expected in zip(found.measured, afresh, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["logprobs", "entropies"])
def test_a_sampler_that_recorded_something_else_is_not_believed(name):
    """.001 nats beside the truth: everything is computed, and the gap stays in the report."""
    roles, config = tiny_roles.separate(), tiny_roles.config(micro_batch_size=3)
    found = collect(roles, config)
    shifted = [
        each._replace(**{name: [n - 1e-3 for n in getattr(each, name)]}) for each in found.samples
    ]
    passes = counted(roles)
    measured = measure(roles, shifted, found.sequences, config)
    assert len(passes) == 4
    for got, expected in zip(measured[:4], found.measured[:4], strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    gaps = (measured.logprobs - measured.sampled)[found.sequences.response_mask]
    expected = 1e-3 if name == "logprobs" else 0.0
    torch.testing.assert_close(gaps, torch.full_like(gaps, expected), rtol=0, atol=1e-5)


def rounded(samples: list[Sample]) -> list[Sample]:
    """What another kernel in bfloat16 may record: 8 bits of each log-probability."""
    return [
        each._replace(logprobs=torch.tensor(each.logprobs).bfloat16().tolist()) for each in samples
    ]


def test_in_bfloat16_the_samplers_rounding_is_reported_and_is_no_change_of_policy(monkeypatch):
    """P3: sampler and trainer differ by .01 nats in the mean; the first ratio is 1 all the same.

    Whether two ways of computing round apart depends on the kernels of the CPU; these do on each.
    """

    def sample(*given, **settings):
        samples, sequences = plain(*given, **settings)
        return rounded(samples), sequences

    plain, log = ppo.sample, Log()
    monkeypatch.setattr(ppo, "sample", sample)
    config = tiny_roles.config(
        iterations=1, epochs=1, minibatches=1, micro_batch_size=12, max_new_tokens=24
    )
    roles = tiny_roles.separate(lambda: tiny.llama(hidden_size=128), compute_dtype=torch.bfloat16)
    ppo.train(roles, PROMPTS, config, tracker=log, seed=0)
    (row,) = log.rows
    assert row["ppo/sampler/gap_mean"] > 1e-3
    assert row["ppo/sampler/gap_max"] > 1e-2
    assert row["ppo/start/ratio_gap_max"] < 1e-4
    assert row["ppo/start/clip_fraction"] == 0
