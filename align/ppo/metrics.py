"""What PPO reports of an iteration: one table of names and units, and the readings behind it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from align.maths.advantages import explained_variance
from align.maths.kl import kl
from align.maths.logprobs import sequence_logprobs
from align.maths.masks import masked_mean
from align.maths.timeline import Measured, Rollout
from align.ppo.alarms import RULES
from align.sampling.sampler import Sample

METRICS = {
    "ppo/reward/score": "raw score of the reward model, mean over episodes",
    "ppo/reward/normalised": "score that PPO maximises: normalised, clipped, missing-EOS rule",
    "ppo/reward/shaped": "the same minus kl_coef · KL, mean over episodes",
    "ppo/kl/sequence": "KL(policy ‖ reference), nats per episode, k1: the one in the reward",
    "ppo/kl/token": "the same in nats per token",
    "ppo/kl/token_k3": "the same by the estimator that is never negative",
    "ppo/kl/coef": "reward per nat",
    "ppo/policy/loss": "clipped objective, mean over optimiser steps",
    "ppo/policy/clip_fraction": "share of tokens whose gradient the clip removed",
    "ppo/policy/kl_old_new": "KL(sampling policy ‖ updated policy), nats per token, k3",
    "ppo/policy/ratio_max": "largest π / π_old of the iteration",
    "ppo/policy/ratio_gap_max": "largest |π / π_old − 1| of the iteration",
    "ppo/policy/steps": "optimiser steps of the iteration; fewer where early_stop_kl ended it",
    "ppo/policy/entropy": "nats per token, of the policy that sampled",
    "ppo/start/loss": "policy loss of the first minibatch; 0 when whitened and minibatches = 1",
    "ppo/start/clip_fraction": "clip fraction of the first minibatch, 0",
    "ppo/start/ratio_gap_max": "largest |π / π_old − 1| of the first minibatch, 0 but for rounding",
    "ppo/value/loss": "½ squared error in units of the return, mean over optimiser steps",
    "ppo/value/clip_fraction": "share of tokens whose value the clip held back",
    "ppo/value/explained_variance": "1 − Var(R − V) / Var(R) before the update",
    "ppo/response/length": "tokens per episode",
    "ppo/response/stop_rate": "share of episodes that ended with a stop token",
    "ppo/optimiser/grad_norm": "policy gradient before clipping, mean over optimiser steps",
    "ppo/optimiser/value_grad_norm": "critic gradient before clipping, mean over optimiser steps",
    "ppo/optimiser/learning_rate": "of the policy",
    "ppo/optimiser/value_learning_rate": "of the critic",
    "ppo/sampler/gap_mean": "|log π of sampler − log π of trainer|, nats per token, mean",
    "ppo/sampler/gap_max": "the same, largest",
    "ppo/sampler/surprise": "−log π of the tokens less the entropy, nats per token; mean 0",
    "ppo/sampler/surprise_error": "its standard error over episodes",
    "ppo/probe/gold": "rule judge's score of greedy answers to held-back prompts, 0 to 1",
    "ppo/probe/reward": "score that PPO maximises of the same answers, mean",
    "ppo/probe/gold_change": "gold against the best probe so far, mean over prompts",
    "ppo/probe/gold_change_error": "its standard error over prompts",
    "ppo/probe/reward_change": "reward against that same probe, mean over prompts",
} | {rule.key: f"1 while: {rule.cause}" for rule in RULES}
"""Every metric and its unit; all are taken over response tokens only, never over padding."""


def listed(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics as they are, if the table has them all."""
    unknown = metrics.keys() - METRICS.keys()
    assert not unknown, f"not in the table of metrics: {sorted(unknown)}"
    return metrics


def describe(
    samples: Sequence[Sample],
    scores: Tensor,
    raw_scores: Tensor,
    measured: Measured,
    rollout: Rollout,
    *,
    kl_coef: float,
) -> dict[str, float]:
    """Read the rollout, before the update: rewards, KL, critic, responses, sampler."""
    mask = rollout.response_mask
    k1 = kl(measured.logprobs, measured.ref_logprobs, estimator="k1")
    k3 = kl(measured.logprobs, measured.ref_logprobs, estimator="k3")
    sequence_kl = sequence_logprobs(k1, mask).mean()
    sampled = torch.tensor([logprob for sample in samples for logprob in sample.logprobs])
    gap = (sampled.to(mask.device) - measured.logprobs[mask]).abs()
    surprise = sequence_logprobs(-measured.logprobs - measured.entropies, mask)
    readings = {
        "ppo/reward/score": raw_scores.mean(),
        "ppo/reward/normalised": scores.mean(),
        "ppo/reward/shaped": scores.mean() - kl_coef * sequence_kl,
        "ppo/kl/sequence": sequence_kl,
        "ppo/kl/token": masked_mean(k1, mask),
        "ppo/kl/token_k3": masked_mean(k3, mask),
        "ppo/policy/entropy": masked_mean(measured.entropies, mask),
        "ppo/value/explained_variance": explained_variance(
            rollout.old_values, rollout.returns, mask
        ),
        "ppo/response/length": mask.sum() / len(rollout),
        "ppo/sampler/gap_mean": gap.mean(),
        "ppo/sampler/gap_max": gap.max(),
        "ppo/sampler/surprise": surprise.sum() / mask.sum(),
        "ppo/sampler/surprise_error": surprise.square().sum().sqrt() / mask.sum(),
    }
    stop_rate = sum(sample.finished for sample in samples) / len(samples)
    counts = {"ppo/kl/coef": kl_coef, "ppo/response/stop_rate": stop_rate}
    return {name: reading.item() for name, reading in readings.items()} | counts


def average_steps(steps: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean over the optimiser steps (maximum of `_max`), and the policy's first step by itself."""
    summary = {}
    for name in steps[0]:
        readings = [step[name] for step in steps]
        combined = max(readings) if name.endswith("_max") else sum(readings) / len(readings)
        summary[f"ppo/{name}"] = combined
    summary["ppo/policy/steps"] = sum("policy/loss" in step for step in steps)
    for role, name in (("policy", "grad_norm"), ("value", "value_grad_norm")):
        if f"ppo/{role}/grad_norm" in summary:
            summary[f"ppo/optimiser/{name}"] = summary.pop(f"ppo/{role}/grad_norm")
    for name in ("loss", "clip_fraction", "ratio_gap_max"):
        if f"policy/{name}" in steps[0]:
            summary[f"ppo/start/{name}"] = steps[0][f"policy/{name}"]
    return summary
