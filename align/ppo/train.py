"""Proximal policy optimisation of a language model against a reward model.

One iteration is seven steps, and the functions below have their names in their order:

    1  sample     responses of the policy to the next prompts
    2  score      each response with the reward model; an unfinished one by the missing-EOS rule
    3  measure    log π of policy and reference, and V, at every response token
    4  shape_rewards        −kl_coef · k1 on every token, the score on the last
    5  estimate   advantages and returns by GAE, whitened over the whole rollout
    6  update     policy and critic: epochs × minibatches, one optimiser step each
    7  adapt      the KL coefficient and the learning rates

Indices follow the timeline in align/maths/timeline.py; the formulas are in align/maths/. Shapes:
b = episodes of the rollout, r = response width.

Source: Schulman et al. 2017, arXiv:1707.06347, algorithm 1; for language models, Ziegler et al.
2019, arXiv:1909.08593, and Huang et al. 2024, arXiv:2403.17031.
Differs: the score is on the stop token itself, minibatches are averaged over all of their tokens,
and whitening sees the whole rollout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from align.config import PPOConfig
from align.data import EncodedPrompt
from align.maths.advantages import gae, kl_shaped_rewards, missing_eos
from align.maths.kl import adaptive_kl_coef
from align.maths.losses import ppo_policy_loss, ppo_value_loss
from align.maths.masks import masked_var, masked_whiten
from align.maths.timeline import Measured, Rollout, Sequences
from align.ppo import readings
from align.ppo.metrics import average_steps, describe
from align.ppo.monitor import MetricsLog, Monitor
from align.ppo.optimiser import Optimisers
from align.ppo.readings import logprobs_of, micro_batches, updated
from align.ppo.roles import Roles
from align.ppo.samplers import SamplerOf, sampler_for
from align.ppo.state import TrainState, capture, draw, restore
from align.runs.checkpoints import Checkpoints
from align.sampling.sampler import Sample, collate_prompts


def train(
    roles: Roles,
    prompts: Sequence[EncodedPrompt],
    config: PPOConfig,
    *,
    tracker: MetricsLog,
    seed: int,
    checkpoints: Checkpoints | None = None,
    monitor: Monitor | None = None,
) -> dict[str, float]:
    """Run PPO on `roles` in place; return the metrics of the last iteration.

    With `checkpoints`, the run goes on from the newest of them, to the very result that it would
    have had without the break (bit for bit on a CPU, at the same number of threads).

    Raises:
        DivergedError: a score, loss or gradient is NaN or infinite, and no weight has seen it; or
            an alarm began, and ppo.on_alarm=stop.
        Stopped: a stop signal came; the iteration was finished, and saved.
    """
    state, total = TrainState.start(roles, config, seed=seed), config.iterations
    monitor = monitor or Monitor(config)
    saved = checkpoints.latest(total) if checkpoints is not None else None
    if saved is not None:
        restore(state, saved)
        monitor.load_state_dict(state.monitor)
    optimisers, generator = state.optimisers, state.generator
    sampler_of = sampler_for(roles, config)
    while state.iteration < total:
        iteration, kl_coef = state.iteration, state.kl_coef
        batch = draw(prompts, config.prompts_per_rollout, state)
        samples, sequences = sample(
            roles, batch, config, generator=generator, sampler_of=sampler_of
        )
        scores, raw_scores = score(roles, samples, sequences, config)
        measured = measure(roles, samples, sequences, config)
        rewards = shape_rewards(scores, measured, sequences.response_mask, config, kl_coef=kl_coef)
        rollout = estimate_advantages(rewards, measured, sequences, config)
        train_policy = iteration >= config.critic_warmup
        steps = update(
            roles, rollout, optimisers, config, generator=generator, train_policy=train_policy
        )
        metrics = describe(samples, scores, raw_scores, measured, rollout, kl_coef=kl_coef)
        metrics |= average_steps(steps) | optimisers.learning_rates()
        metrics = monitor.record(tracker, iteration + 1, metrics)
        sequence_kl = metrics["ppo/kl/sequence"]
        state.kl_coef = adapt(
            optimisers, config, iteration=iteration, kl_coef=kl_coef, sequence_kl=sequence_kl
        )
        state.metrics, state.monitor = metrics, monitor.state_dict()
        state.iteration = iteration + 1
        if checkpoints is not None:
            checkpoints.reached(state.iteration, total, lambda: capture(state))
    return state.metrics


# 1 ------------------------------------------------------------------------------------------------


@torch.no_grad()
def sample(
    roles: Roles,
    prompts: Sequence[EncodedPrompt],
    config: PPOConfig,
    *,
    generator: torch.Generator,
    sampler_of: SamplerOf | None = None,
) -> tuple[list[Sample], Sequences]:
    """The policy's responses to each prompt, those to one prompt side by side."""
    sampler_of, each = sampler_of or sampler_for(roles, config), config.responses_per_prompt
    with roles.sampling() as model:
        ids = [prompt.ids for prompt in prompts]
        samples = sampler_of(model).sample(ids, generator=generator, responses_per_prompt=each)
    asked = [prompt for prompt in prompts for _ in range(each)]
    return samples, collate_prompts(asked, samples, pad_id=roles.pad_id, device=roles.device)


# 2 ------------------------------------------------------------------------------------------------


def score(
    roles: Roles, samples: Sequence[Sample], sequences: Sequences, config: PPOConfig
) -> tuple[Tensor, Tensor]:
    """Scores as PPO maximises them, and as the reward model gave them; both [b]."""
    # By what the sampler says: ids cannot tell a stop token from a padding that has its id.
    finished = torch.tensor([sample.finished for sample in samples], device=roles.device)
    # The reward model has seen answers end in one way only. Another stop token (a base model's EOS
    # beside the template's) would move the score of the same text by about a standard deviation.
    if roles.reward_stop_id is not None:
        sequences = sequences.ending_with(roles.reward_stop_id, finished)
    raw_scores = readings.finite_scores(roles, sequences, config)
    scores = (raw_scores - roles.reward_mean) / roles.reward_std
    if config.reward_clip is not None:
        scores = scores.clamp(-config.reward_clip, config.reward_clip)
    scores = missing_eos(
        scores, finished, rule=config.missing_eos, penalty=config.missing_eos_penalty
    )
    return scores, raw_scores


# 3 ------------------------------------------------------------------------------------------------


@torch.no_grad()
def measure(
    roles: Roles, samples: Sequence[Sample], sequences: Sequences, config: PPOConfig
) -> Measured:
    """Log-probabilities, entropies and values, by the same computation as the update will use.

    What the sampler recorded, of the policy and of a critic that is a head on it, came by another
    way (a key-value cache, a merged adapter). Where the longest responses, computed here, agree
    with it to SAME nats, the others are taken as recorded: so in float32. In bfloat16 the rounding
    of two ways would already count as a change of policy, and all are computed.
    """
    recorded = readings.as_recorded(samples, sequences)
    longest, *others = micro_batches(sequences, config)
    first = readings.compute(roles, sequences.select(longest), config)
    known = recorded.keys() if readings.agree(recorded, longest, first) else ()
    rest = readings.compute_each(roles, sequences, others, config, known)
    computed = zip((longest, *others), (first, *rest), strict=True)
    return readings.assemble(recorded, computed, sequences)


# 4 ------------------------------------------------------------------------------------------------


def shape_rewards(
    scores: Tensor, measured: Measured, mask: Tensor, config: PPOConfig, *, kl_coef: float
) -> Tensor:
    """Reward of each response token, [b, r]."""
    rewards = kl_shaped_rewards(
        scores, measured.logprobs, measured.ref_logprobs, mask, kl_coef=kl_coef
    )
    return masked_whiten(rewards, mask, shift_mean=False) if config.whiten_rewards else rewards


# 5 ------------------------------------------------------------------------------------------------


def estimate_advantages(
    rewards: Tensor, measured: Measured, sequences: Sequences, config: PPOConfig
) -> Rollout:
    """Advantages and returns of the rollout; whitening touches the advantages only."""
    mask = sequences.response_mask
    advantages, returns = gae(
        rewards, measured.values, mask, gamma=config.gamma, gae_lambda=config.gae_lambda
    )
    if config.whiten_advantages:
        advantages = masked_whiten(advantages, mask)
    if config.importance_cap is not None:  # after whitening, which would scale the weights away
        weights = (measured.logprobs - measured.sampled).exp()
        advantages = advantages * weights.clamp(max=config.importance_cap)
    return Rollout(sequences, measured.logprobs, measured.values, advantages, returns)


# 6 ------------------------------------------------------------------------------------------------


def update(
    roles: Roles,
    rollout: Rollout,
    optimisers: Optimisers,
    config: PPOConfig,
    *,
    generator: torch.Generator,
    train_policy: bool = True,
) -> list[dict[str, float]]:
    """Passes over the rollout in shuffled minibatches; the readings of each optimiser step.

    With early_stop_kl they end after the step whose minibatch finds the policy further from the one
    that sampled.
    """
    std = masked_var(rollout.returns, rollout.response_mask).sqrt().item()
    steps: list[dict[str, float]] = []
    for _ in range(config.epochs):
        # Drawn on the CPU, wherever the models are: a seed deals the same minibatches everywhere.
        order = torch.randperm(len(rollout), generator=generator).to(roles.device)
        for rows in order.split(len(rollout) // config.minibatches):
            minibatch = rollout.select(rows)
            optimisers.zero_grad()
            accumulate(roles, minibatch, optimisers, config, train_policy=train_policy, std=std)
            steps.append(optimisers.step(train_policy=train_policy))
            if steps[-1].get("ppo/policy/kl_old_new", 0.0) > (config.early_stop_kl or math.inf):
                return steps
    return steps


def accumulate(
    roles: Roles,
    minibatch: Rollout,
    optimisers: Optimisers,
    config: PPOConfig,
    *,
    train_policy: bool,
    std: float,
) -> None:
    """Losses and gradients of the mean over all tokens of the minibatch, however it is cut.

    `std` is that of the rollout's returns: what bounds the value loss is a share of it.
    """
    # The minibatch's own count: a mean of the micro-batches' means would favour short responses.
    denominator = minibatch.response_mask.sum()
    for rows in updated(minibatch.sequences, config):
        part, states = minibatch.select(rows), None
        mask = part.response_mask
        if train_policy:
            logits, states = roles.policy_outputs(part.sequences)
            optimisers.policy.backward(
                ppo_policy_loss(
                    logprobs_of(logits, part.sequences, config),
                    part.old_logprobs,
                    part.advantages,
                    mask,
                    **config.policy_loss,
                    denominator=denominator,
                )
            )
            del logits
        optimisers.value.backward(
            ppo_value_loss(
                roles.values(part.sequences, states),
                part.old_values,
                part.returns,
                mask,
                **config.value_loss(std),
                denominator=denominator,
            )
        )


# 7 ------------------------------------------------------------------------------------------------


def adapt(
    optimisers: Optimisers, config: PPOConfig, *, iteration: int, kl_coef: float, sequence_kl: float
) -> float:
    """Set the learning rates of the next iteration; return its KL coefficient.

    The rates fall linearly from the first iteration towards 0 after the last, or stay. The
    coefficient steers towards kl_target, if there is one, once the policy moves.
    """
    if config.lr_schedule == "linear":
        optimisers.scale_learning_rates(1 - (iteration + 1) / config.iterations)
    if config.kl_target is None or iteration < config.critic_warmup:
        return kl_coef
    return adaptive_kl_coef(
        kl_coef,
        sequence_kl,
        target=config.kl_target,
        horizon=config.kl_horizon,
        episodes=config.rollout_batch_size,
    )
