"""PPO on language models once more: float64, plain loops, one sequence at a time, no padding.

Written from the papers, not from the library: nothing here imports it. Responses and minibatches
are given, everything else is computed: log-probabilities, values, scores, rewards, advantages,
losses, gradients, Adam, learning rates, the KL coefficient, and so the weights.

Sources, by the names used below:
    PPO    Schulman et al. 2017, arXiv:1707.06347, eq. 7 (clipped objective), eq. 11 (GAE)
    GAE    Schulman et al. 2016, arXiv:1506.02438, eq. 16
    LHP    Ziegler et al. 2019, arXiv:1909.08593, eq. 2 (reward less KL), section 2.2 (control)
    IG     Ouyang et al. 2022, arXiv:2203.02155, eq. 2
    N+     Huang et al. 2024, arXiv:2403.17031 (whitening, value clipping, missing EOS)
    DUAL   Ye et al. 2020, arXiv:1912.09729, eq. 5
    ADAM   Kingma and Ba 2015, arXiv:1412.6980, algorithm 1
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tests.oracles.models64 import LanguageModel, Trunk

Rows = list[list[float]]  # one number per response token, an episode a row


@dataclass(frozen=True)
class Settings:
    iterations: int
    epochs: int = 1
    learning_rate: float = 1e-3
    value_learning_rate: float = 1e-3
    lr_schedule: str = "linear"
    adam_eps: float = 1e-5
    max_grad_norm: float = 1.0
    clip_range: float = 0.2
    dual_clip: float | None = None
    value_clip_range: float | None = None  # in standard deviations of the rollout's returns
    gamma: float = 1.0
    gae_lambda: float = 0.95
    kl_coef: float = 0.05
    kl_target: float | None = None
    kl_horizon: int = 10_000
    missing_eos: str = "replace"
    missing_eos_penalty: float = -1.0
    reward_clip: float | None = None
    whiten_rewards: bool = False
    whiten_advantages: bool = True
    temperature: float = 1.0


@dataclass(frozen=True)
class Episode:
    prompt: list[int]
    response: list[int]
    finished: bool  # by a stop token, which is the last of the response


@dataclass(frozen=True)
class Round:
    """What is given of one iteration."""

    episodes: list[Episode]
    minibatches: list[list[int]]  # indices of episodes, in the order of the optimiser's steps


@dataclass
class Models:
    policy: LanguageModel
    reference: LanguageModel
    reward: Trunk
    reward_head: Tensor  # [d]
    value: Trunk | None  # None: the critic is a head on the policy's states
    value_weight: Tensor  # [d], learns
    value_bias: Tensor  # [], learns
    reward_mean: float = 0.0
    reward_std: float = 1.0


@dataclass
class Adam:
    """ADAM, with its two averages corrected for their start at zero."""

    parameters: list[Tensor]
    eps: float
    beta1: float = 0.9
    beta2: float = 0.999
    steps: int = 0
    first: list[Tensor] = field(default_factory=list)
    second: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]

    def step(self, gradients: list[Tensor], lr: float) -> None:
        self.steps += 1
        for i, (parameter, g) in enumerate(zip(self.parameters, gradients, strict=True)):
            self.first[i] = self.beta1 * self.first[i] + (1 - self.beta1) * g
            self.second[i] = self.beta2 * self.second[i] + (1 - self.beta2) * g * g
            m = self.first[i] / (1 - self.beta1**self.steps)
            v = self.second[i] / (1 - self.beta2**self.steps)
            with torch.no_grad():
                parameter -= lr * m / (v.sqrt() + self.eps)


class ReferencePPO:
    """PPO on `models`, in place, one `Round` at a time."""

    def __init__(self, models: Models, settings: Settings) -> None:
        self.models, self.settings = models, settings
        self.iteration, self.kl_coef = 0, settings.kl_coef
        trunk = {} if models.value is None else models.value.learning()
        critic = [*trunk.values(), models.value_weight, models.value_bias]
        self.policy_adam = Adam(list(models.policy.learning().values()), settings.adam_eps)
        self.value_adam = Adam(critic, settings.adam_eps)
        self.bound: Counter[str] = Counter()
        """How many times each clip decided a token's loss."""

    def iterate(self, given: Round) -> None:
        s = self.settings
        with torch.no_grad():
            rewards, old_logprobs, old_values, kls = self.shaped(given.episodes)
        if s.whiten_rewards:  # N+: scaled, not shifted
            mean = _mean(rewards)
            rewards = [[r + mean for r in row] for row in whitened(rewards)]
        advantages = [gae(r, v, s) for r, v in zip(rewards, old_values, strict=True)]
        returns = [
            [a + v for a, v in zip(*rows, strict=True)]
            for rows in zip(advantages, old_values, strict=True)
        ]
        if s.whiten_advantages:
            advantages = whitened(advantages)
        std = math.sqrt(_variance(returns))
        share = 1 - self.iteration / s.iterations if s.lr_schedule == "linear" else 1.0
        for minibatch in given.minibatches:
            tokens = sum(len(given.episodes[i].response) for i in minibatch)
            policy_loss, value_loss = torch.zeros((), dtype=torch.float64), 0.0
            for i in minibatch:
                episode = given.episodes[i]
                logprobs, values = self.logprobs_and_values(episode)
                for j in range(len(episode.response)):
                    policy_loss = policy_loss + self.policy_loss(
                        logprobs[j], old_logprobs[i][j], advantages[i][j]
                    )
                    value_loss = value_loss + self.value_loss(
                        values[j], old_values[i][j], returns[i][j], std
                    )
            self.descend(self.policy_adam, policy_loss / tokens, s.learning_rate * share)
            self.descend(self.value_adam, value_loss / tokens, s.value_learning_rate * share)
        if s.kl_target is not None:  # LHP, section 2.2
            kl = sum(kls) / len(kls)
            error = min(max(kl / s.kl_target - 1, -0.2), 0.2)
            self.kl_coef *= 1 + error * len(given.episodes) / s.kl_horizon
        self.iteration += 1

    def shaped(self, episodes: list[Episode]) -> tuple[Rows, Rows, Rows, list[float]]:
        """Rewards per token, log π and V before the update, and the KL of each episode."""
        rewards, old_logprobs, old_values, kls = [], [], [], []
        for episode in episodes:
            logprobs, values = self.logprobs_and_values(episode)
            reference = self.logprobs(self.models.reference, episode)[0]
            k1 = [(p - q).item() for p, q in zip(logprobs, reference, strict=True)]
            row = [-self.kl_coef * k for k in k1]  # LHP, eq. 2
            row[-1] += self.score(episode)
            rewards.append(row)
            old_logprobs.append([p.item() for p in logprobs])
            old_values.append([v.item() for v in values])
            kls.append(sum(k1))
        return rewards, old_logprobs, old_values, kls

    def score(self, episode: Episode) -> float:
        """Of the whole text, read at its last token; IG: less the mean score of demonstrations."""
        m, s = self.models, self.settings
        raw = (m.reward.states(episode.prompt + episode.response)[-1] @ m.reward_head).item()
        score = (raw - m.reward_mean) / m.reward_std
        if s.reward_clip is not None:
            score = min(max(score, -s.reward_clip), s.reward_clip)
        if episode.finished:
            return score
        penalty = s.missing_eos_penalty
        return penalty if s.missing_eos == "replace" else score - penalty

    def logprobs(self, model: LanguageModel, episode: Episode) -> tuple[list[Tensor], Tensor]:
        """log π of each response token, and the states that the tokens before it ended in."""
        logits, states = model.logits_and_states(episode.prompt + episode.response)
        first = len(episode.prompt) - 1
        logprobs = []
        for j, token in enumerate(episode.response):
            row = logits[first + j] / self.settings.temperature
            logprobs.append(row[token] - torch.logsumexp(row, dim=0))
        return logprobs, states[first : first + len(episode.response)]

    def logprobs_and_values(self, episode: Episode) -> tuple[list[Tensor], list[Tensor]]:
        m = self.models
        logprobs, states = self.logprobs(m.policy, episode)
        if m.value is None:
            states = states.detach()
        else:
            tokens, first = episode.prompt + episode.response, len(episode.prompt) - 1
            states = m.value.states(tokens)[first : first + len(episode.response)]
        return logprobs, [state @ m.value_weight + m.value_bias for state in states]

    def policy_loss(self, logprob: Tensor, old: float, advantage: float) -> Tensor:
        s = self.settings
        ratio = torch.exp(logprob - old)
        clipped = torch.clamp(ratio, 1 - s.clip_range, 1 + s.clip_range)
        gain = torch.minimum(ratio * advantage, clipped * advantage)  # PPO, eq. 7
        self.bound["ratio"] += int(clipped.item() * advantage < ratio.item() * advantage)
        if s.dual_clip is not None and advantage < 0:  # DUAL
            self.bound["dual"] += int(gain.item() < s.dual_clip * advantage)
            gain = torch.clamp(gain, min=s.dual_clip * advantage)
        return -gain

    def value_loss(self, value: Tensor, old: float, target: float, std: float) -> Tensor:
        loss = (value - target) ** 2
        if self.settings.value_clip_range is not None:  # N+
            reach = self.settings.value_clip_range * std
            near = (torch.clamp(value, old - reach, old + reach) - target) ** 2
            self.bound["value"] += int(near.item() > loss.item())
            loss = torch.maximum(loss, near)
        return 0.5 * loss

    def descend(self, adam: Adam, loss: Tensor, lr: float) -> None:
        gradients = list(torch.autograd.grad(loss, adam.parameters))
        norm = math.sqrt(sum((g * g).sum().item() for g in gradients))
        self.bound["norm"] += int(norm > self.settings.max_grad_norm)
        share = min(1.0, self.settings.max_grad_norm / norm) if norm > 0 else 1.0
        adam.step([share * g for g in gradients], lr)


def gae(rewards: list[float], values: list[float], settings: Settings) -> list[float]:
    """GAE, eq. 16, with V = 0 after the last token."""
    advantages, ahead = [0.0] * len(rewards), 0.0
    for t in reversed(range(len(rewards))):
        following = values[t + 1] if t + 1 < len(values) else 0.0
        delta = rewards[t] + settings.gamma * following - values[t]
        ahead = delta + settings.gamma * settings.gae_lambda * ahead
        advantages[t] = ahead
    return advantages


def whitened(rows: Rows) -> Rows:
    """Mean 0 and variance 1 over all tokens of the rollout."""
    mean, scale = _mean(rows), 1 / math.sqrt(_variance(rows) + 1e-8)
    return [[(x - mean) * scale for x in row] for row in rows]


def _mean(rows: Rows) -> float:
    numbers = [x for row in rows for x in row]
    return sum(numbers) / len(numbers)


def _variance(rows: Rows) -> float:
    mean = _mean(rows)
    return _mean([[(x - mean) ** 2 for x in row] for row in rows])
