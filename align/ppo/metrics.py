"""What PPO reports of an iteration: one table of names and units, and the readings behind it.

A key is `ppo/GROUP/NAME`. Of `policy` and `value`, NAME is what the loss of that role returns
(align/maths/losses.py), or what its optimiser says; the rest is read from the rollout here. To add
a metric: a row of the table, in the place where its curve shall stand, and its reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from align.messages import Sentence
from align.ppo.alarms import RULES

if TYPE_CHECKING:  # the report and `--help` read the table, and load no torch for it
    from torch import Tensor

    from align.maths.timeline import Measured, Rollout
    from align.sampling.sampler import Sample


class Metric(NamedTuple):
    """One row of the table; all readings are over response tokens only, never over padding."""

    key: str
    unit: Sentence
    meaning: str
    curve: bool = False
    """Whether the report draws it."""
    headline: bool = False
    """Whether the terminal shows it while the stage runs."""


NATS, REWARD = Sentence("nats per token"), Sentence("reward")
SHARE = Sentence("share of tokens")
TABLE = (
    Metric(
        "ppo/reward/score",
        REWARD,
        "raw score of the reward model, mean over episodes",
        curve=True,
        headline=True,
    ),
    Metric(
        "ppo/reward/normalised",
        REWARD,
        "score that PPO maximises: normalised, clipped, missing-EOS rule",
    ),
    Metric("ppo/reward/shaped", REWARD, "the same minus kl_coef · KL, mean over episodes"),
    Metric(
        "ppo/kl/sequence",
        Sentence("nats per episode"),
        "KL(policy ‖ reference), k1: the one in the reward",
        curve=True,
        headline=True,
    ),
    Metric("ppo/kl/token", NATS, "the same by token"),
    Metric("ppo/kl/token_k3", NATS, "the same by the estimator that is never negative"),
    Metric("ppo/kl/coef", Sentence("reward per nat"), "kl_coef of the iteration"),
    Metric(
        "ppo/response/length", Sentence("tokens"), "mean over episodes", curve=True, headline=True
    ),
    Metric(
        "ppo/response/stop_rate",
        Sentence("share of episodes"),
        "ended with a stop token",
        curve=True,
    ),
    Metric(
        "ppo/probe/gold",
        Sentence("0 to 1"),
        "rule judge's score of greedy answers to held-back prompts",
        curve=True,
    ),
    Metric("ppo/probe/reward", REWARD, "score that PPO maximises of the same answers, mean"),
    Metric(
        "ppo/probe/gold_change",
        Sentence("gold"),
        "against the best probe so far, mean over prompts",
    ),
    Metric("ppo/probe/gold_change_error", Sentence("gold"), "its standard error over prompts"),
    Metric("ppo/probe/reward_change", REWARD, "against that same probe, mean over prompts"),
    Metric("ppo/policy/entropy", NATS, "of the policy that sampled", curve=True),
    Metric(
        "ppo/policy/loss",
        Sentence("advantage"),
        "clipped objective, mean over optimiser steps",
        curve=True,
    ),
    Metric("ppo/policy/clip_fraction", SHARE, "whose gradient the clip removed", curve=True),
    Metric("ppo/policy/kl_old_new", NATS, "KL(sampling policy ‖ updated policy), k3"),
    Metric("ppo/policy/ratio_max", Sentence("ratio"), "largest π / π_old of the iteration"),
    Metric(
        "ppo/policy/ratio_gap_max", Sentence("ratio"), "largest |π / π_old − 1| of the iteration"
    ),
    Metric(
        "ppo/policy/steps",
        Sentence("optimiser steps"),
        "of the iteration; fewer where early_stop_kl ended it",
    ),
    Metric(
        "ppo/policy/grad_norm",
        Sentence("norm"),
        "gradient before clipping, mean over optimiser steps",
    ),
    Metric("ppo/policy/learning_rate", Sentence("rate"), "of the iteration"),
    Metric(
        "ppo/value/loss",
        Sentence("return²"),
        "½ squared error, mean over optimiser steps",
        curve=True,
    ),
    Metric(
        "ppo/value/explained_variance",
        Sentence("share"),
        "1 − Var(R − V) / Var(R) before the update",
        curve=True,
    ),
    Metric("ppo/value/clip_fraction", SHARE, "whose value the clip held back"),
    Metric(
        "ppo/value/grad_norm",
        Sentence("norm"),
        "gradient before clipping, mean over optimiser steps",
    ),
    Metric("ppo/value/learning_rate", Sentence("rate"), "of the iteration"),
    Metric(
        "ppo/start/loss",
        Sentence("advantage"),
        "of the first minibatch; 0 when whitened and minibatches = 1",
    ),
    Metric("ppo/start/clip_fraction", SHARE, "of the first minibatch, 0"),
    Metric(
        "ppo/start/ratio_gap_max", Sentence("ratio"), "of the first minibatch, 0 but for rounding"
    ),
    Metric("ppo/sampler/gap_mean", NATS, "|log π of sampler − log π of trainer|, mean"),
    Metric("ppo/sampler/gap_max", Sentence("nats"), "the same, largest"),
    Metric("ppo/sampler/surprise", NATS, "−log π of the tokens less the entropy; mean 0"),
    Metric("ppo/sampler/surprise_error", NATS, "its standard error over episodes"),
    *(Metric(rule.key, Sentence("0 or 1"), f"1 while: {rule.cause}") for rule in RULES),
)
"""Every metric; the report's curves stand in this order."""
METRICS = {metric.key: metric for metric in TABLE}
HEADLINE = tuple(metric.key for metric in TABLE if metric.headline)


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
    import torch

    from align.maths.advantages import explained_variance
    from align.maths.kl import kl
    from align.maths.logprobs import sequence_logprobs
    from align.maths.masks import masked_mean

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
    for key in steps[0]:
        readings = [step[key] for step in steps]
        combined = max(readings) if key.endswith("_max") else sum(readings) / len(readings)
        summary[key] = combined
    summary["ppo/policy/steps"] = sum("ppo/policy/loss" in step for step in steps)
    for name in ("loss", "clip_fraction", "ratio_gap_max"):
        if f"ppo/policy/{name}" in steps[0]:
            summary[f"ppo/start/{name}"] = steps[0][f"ppo/policy/{name}"]
    return summary
