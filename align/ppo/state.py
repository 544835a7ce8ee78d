"""What the rest of a PPO run depends on, as one record that can be written down and read back.

Beside it stand only what a run is made from anyway: recipe, prompts, frozen weights. No part of PPO
draws from torch's global generator, so its state is not among these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from align.config import PPOConfig
from align.data import EncodedPrompt
from align.ppo.optimiser import Optimiser, Optimisers
from align.ppo.roles import Roles
from align.runs.checkpoints import Saved


@dataclass
class TrainState:
    """The loop between two iterations."""

    optimisers: Optimisers
    """Weights of policy and critic, their moments and learning rates."""
    generator: torch.Generator
    """Draws the order of the prompts, the responses and the minibatches."""
    kl_coef: float
    """Of the next iteration."""
    iteration: int = 0
    """Iterations completed."""
    waiting: list[int] = field(default_factory=list)
    """Indices of the prompts that this pass over them has still to visit, in order."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last iteration."""
    monitor: dict[str, Any] = field(default_factory=dict)
    """What the alarms remember: plain numbers, lists and mappings."""

    @classmethod
    def start(cls, roles: Roles, config: PPOConfig, *, seed: int) -> TrainState:
        """Before the first iteration."""
        generator = torch.Generator().manual_seed(seed)
        return cls(Optimisers.of(roles, config), generator, config.kl_coef)


def draw(prompts: Sequence[EncodedPrompt], size: int, state: TrainState) -> list[EncodedPrompt]:
    """The next `size` prompts: every prompt comes once before any comes again."""
    while len(state.waiting) < size:
        state.waiting += torch.randperm(len(prompts), generator=state.generator).tolist()
    batch, state.waiting = state.waiting[:size], state.waiting[size:]
    return [prompts[index] for index in batch]


PLAIN = ("kl_coef", "iteration", "waiting", "metrics", "monitor")
"""Fields that JSON holds exactly."""


def capture(state: TrainState) -> Saved:
    """The state as tensors and plain values. The weights are the live ones, not copies."""
    values: dict[str, Any] = {name: getattr(state, name) for name in PLAIN}
    tensors = {"generator": state.generator.get_state()}
    for optimiser in state.optimisers:
        tensors |= dict(_tensors(optimiser))
        values[f"{optimiser.role}/lr"] = [group["lr"] for group in optimiser.adam.param_groups]
    return Saved(tensors, values)


def restore(state: TrainState, saved: Saved) -> None:
    """Make `state`, as it was before the first iteration, the one that was captured."""
    for name in PLAIN:
        setattr(state, name, saved.values[name])
    state.generator.set_state(saved.tensors["generator"])
    for optimiser in state.optimisers:
        _restore_optimiser(optimiser, saved)


def _tensors(optimiser: Optimiser) -> Iterator[tuple[str, Tensor]]:
    """Weights as `policy/weight/0`, and what Adam keeps of each as `policy/adam/0/exp_avg`."""
    for index, parameter in enumerate(optimiser.parameters):
        yield f"{optimiser.role}/weight/{index}", parameter.detach()
    for index, moments in optimiser.adam.state_dict()["state"].items():
        for name, moment in moments.items():
            yield f"{optimiser.role}/adam/{index}/{name}", moment


def _restore_optimiser(optimiser: Optimiser, saved: Saved) -> None:
    weight, adam = f"{optimiser.role}/weight/", f"{optimiser.role}/adam/"
    weights = [name for name in saved.tensors if name.startswith(weight)]
    assert len(weights) == len(optimiser.parameters), f"{len(weights)} weights of other models"
    with torch.no_grad():
        for index, parameter in enumerate(optimiser.parameters):
            assert parameter.shape == saved.tensors[f"{weight}{index}"].shape
            parameter.copy_(saved.tensors[f"{weight}{index}"])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, moment in saved.tensors.items():
        if name.startswith(adam):
            place, kind = name.removeprefix(adam).split("/")
            moments.setdefault(int(place), {})[kind] = moment
    groups = optimiser.adam.state_dict()["param_groups"]
    optimiser.adam.load_state_dict({"state": moments, "param_groups": groups})
    for group, lr in zip(
        optimiser.adam.param_groups, saved.values[f"{optimiser.role}/lr"], strict=True
    ):
        group["lr"] = lr
