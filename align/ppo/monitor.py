"""Watching a PPO run: its metrics are judged, written down, and told when they alarm.

    metrics of an iteration → the probe, if due → the rules of align/ppo/alarms.py → metrics.jsonl

An alarm is told once when it begins and once when it is over. In metrics.jsonl `ppo/alarm/NAME` is
1 from the iteration in which it began, and 0 in the one in which it was over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from align.config import PPOConfig
from align.messages import say, tell
from align.messages.errors import DivergedError
from align.ppo.alarms import RULES
from align.ppo.metrics import listed
from align.ppo.rule import Setting

CALM = 3
"""Iterations in a row in which a rule does not hold before its alarm is over."""


class Alarm(NamedTuple):
    """One rule that has begun to hold."""

    name: str
    cause: str
    remedy: str


class MetricsLog(Protocol):
    """Where the metrics of an iteration go."""

    def log(self, step: int, metrics: Mapping[str, float], *, total: int | None = None) -> None: ...


class Probe(Protocol):
    """A look at the policy from outside, now and then; its memory is plain numbers."""

    def __call__(self, iteration: int) -> dict[str, float]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Monitor:
    """The rules applied to one run as it goes on."""

    def __init__(
        self,
        config: PPOConfig,
        probe: Probe | None = None,
        *,
        exact: bool = True,
        warn: Callable[[str], None] = tell,
    ) -> None:
        """`exact`: the forward passes are in float32. `warn` gets one line per alarm."""
        self.config, self.probe, self.warn = config, probe, warn
        self.setting = Setting(
            config.rollout_batch_size, config.max_new_tokens, config.critic_warmup, exact
        )
        self.rows: list[dict[str, float]] = []
        self.calm: dict[str, int] = {}
        """Of each alarm that is on, the iterations since its rule held."""

    def record(
        self, tracker: MetricsLog, iteration: int, metrics: Mapping[str, float]
    ) -> dict[str, float]:
        """Judge and log the metrics of an iteration (the first is 1); return all that was logged.

        Raises:
            DivergedError: an alarm began, and ppo.on_alarm=stop.
        """
        readings = dict(metrics) | (self.probe(iteration) if self.probe is not None else {})
        before = set(self.calm)
        begun = self.check(iteration, readings)
        over = before - self.calm.keys()
        readings |= dict.fromkeys((f"ppo/alarm/{name}" for name in self.calm), 1.0)
        readings |= dict.fromkeys((f"ppo/alarm/{name}" for name in over), 0.0)
        tracker.log(iteration, listed(readings), total=self.config.iterations)
        for name in sorted(over):
            self.warn(
                say(
                    "alarm    {name}: over at iteration {iteration}", name=name, iteration=iteration
                )
            )
        for name, cause, remedy in begun:
            self.warn(
                say(
                    "alarm    {name}, iteration {iteration}: {cause}; {remedy}",
                    name=name,
                    iteration=iteration,
                    cause=cause,
                    remedy=remedy,
                )
            )
        if begun and self.config.on_alarm == "stop":
            names = ", ".join(alarm.name for alarm in begun)
            raise DivergedError(
                "ppo.on_alarm=stop and the alarm {names} began at iteration {iteration} "
                "(above); do what it says, or set ppo.on_alarm=warn",
                names=names,
                iteration=iteration,
            )
        return readings

    def check(self, iteration: int, metrics: Mapping[str, float]) -> list[Alarm]:
        """Take the metrics of an iteration, the first being 1; return the alarms that begin."""
        self.rows[iteration - 1 :] = [dict(metrics)]
        begun = []
        for rule in RULES:
            if rule.holds(self.rows, self.setting):
                if rule.name not in self.calm:
                    begun.append(Alarm(rule.name, rule.told(self.rows), rule.advice()))
                self.calm[rule.name] = 0
            elif rule.name in self.calm:
                self.calm[rule.name] += 1
                if self.calm[rule.name] == CALM:
                    del self.calm[rule.name]
        return begun

    def state_dict(self) -> dict[str, Any]:
        """All that `restore` needs to go on as if nothing had happened: plain numbers."""
        probe = self.probe.state_dict() if self.probe is not None else {}
        return {"rows": list(self.rows), "calm": dict(self.calm), "probe": probe}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rows = [dict(row) for row in state["rows"]]
        self.calm = dict(state["calm"])
        if self.probe is not None:
            self.probe.load_state_dict(state["probe"])
