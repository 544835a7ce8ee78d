"""One optimiser step of each role on one minibatch, cut into whatever fits in memory.

zero_grad forget the minibatch before
backward  the loss of a micro-batch, and its gradient
step      clip the sums, refuse what is not finite, and take the step
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from align.config import PPOConfig
from align.maths.losses import LossOutput
from align.messages.errors import DivergedError
from align.ppo.roles import Roles


class Optimiser:
    """Adam for one role: exact accumulation, a clipped gradient, and nothing but numbers."""

    def __init__(
        self, role: str, parameters: list[nn.Parameter], *, lr: float, eps: float, max_norm: float
    ) -> None:
        if not parameters:
            raise ValueError(f"the {role} has no trainable parameter")
        self.role, self.parameters, self.lr, self.max_norm = role, parameters, lr, max_norm
        self.adam: torch.optim.Optimizer = torch.optim.Adam(parameters, lr=lr, eps=eps, fused=True)

    def zero_grad(self) -> None:
        """Forget the minibatch before."""
        self.metrics: dict[str, Tensor] = {}
        self.adam.zero_grad(set_to_none=True)

    def backward(self, output: LossOutput) -> None:
        """The loss of a micro-batch, which is its share of the mean over the minibatch."""
        output.loss.backward()
        parts = {"loss": output.loss.detach()} | output.metrics
        self.metrics = add_up(self.metrics, parts)

    def clip(self) -> dict[str, float]:
        """Clip the gradient; the readings of the minibatch, if they are numbers."""
        # Each role by its own norm: together, a critic far off would shrink the policy's step.
        norm = nn.utils.clip_grad_norm_(self.parameters, self.max_norm)
        metrics = self.metrics | {"grad_norm": norm}
        readings = {name: value.item() for name, value in metrics.items()}
        for name in ("loss", "grad_norm"):
            if not math.isfinite(readings[name]):
                raise DivergedError(
                    "{role} {name}={value}, so the step was not taken; lower ppo.learning_rate "
                    "or ppo.value_learning_rate, or raise ppo.kl_coef",
                    role=self.role,
                    name=name,
                    value=readings[name],
                )
        return {f"ppo/{self.role}/{name}": reading for name, reading in readings.items()}


class Optimisers(NamedTuple):
    """Policy and critic learn apart, each at its own rate."""

    policy: Optimiser
    value: Optimiser

    @classmethod
    def of(cls, roles: Roles, config: PPOConfig) -> Optimisers:
        shared = {"eps": config.adam_eps, "max_norm": config.max_grad_norm}
        return cls(
            Optimiser("policy", roles.policy_parameters, lr=config.learning_rate, **shared),
            Optimiser("value", roles.value_parameters, lr=config.value_learning_rate, **shared),
        )

    def zero_grad(self) -> None:
        for optimiser in self:
            optimiser.zero_grad()

    def step(self, *, train_policy: bool) -> dict[str, float]:
        """The readings of both; none has moved if one of them diverged."""
        learning = (self.value, self.policy) if train_policy else (self.value,)
        readings = [optimiser.clip() for optimiser in learning]
        for optimiser in learning:
            optimiser.adam.step()
        return {name: reading for each in readings for name, reading in each.items()}

    def scale_learning_rates(self, share: float) -> None:
        """Set each rate to `share` of its full rate."""
        for optimiser in self:
            for group in optimiser.adam.param_groups:
                group["lr"] = optimiser.lr * share

    def learning_rates(self) -> dict[str, float]:
        return {
            f"ppo/{optimiser.role}/learning_rate": optimiser.adam.param_groups[0]["lr"]
            for optimiser in self
        }


def add_up(totals: dict[str, Tensor], part: dict[str, Tensor]) -> dict[str, Tensor]:
    """Combine the metrics of micro-batches: they add up, those ending in `_max` by maximum."""
    if not totals:
        return part
    return {
        name: torch.maximum(value, part[name]) if name.endswith("_max") else value + part[name]
        for name, value in totals.items()
    }
