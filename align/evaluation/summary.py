"""From scored answers to summary.json: every number with its interval and its n. No model, no I/O.

    summary = {format, provenance, setup, policies: {name: {...}}, best_of_n, reward_model}

Shapes: p = prompts, s = samples of one prompt. An `Estimate` is {mean, low, high, n} with n in
prompts. A `Slices` is {all, seen, unseen: Estimate | None, family, language: {name: Estimate}}:
one quantity over all prompts and over parts of them. What cannot be known is None, never a number:
gold without checks, seen and unseen without `seen` in the rows.

`X_gain` is a policy's X less the reference's on the same prompts. What is said of a change rests on
its interval: prompts differ in difficulty by more than policies do, and that cancels within a pair,
but not between two intervals that were each taken alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from align.config.methods import ALIGNED
from align.evaluation import best_of_n
from align.evaluation.statistics import Estimate, Floats, bootstrap, distinct, wins
from align.messages import Sentence

FORMAT = 3
"""Counts up whenever an entry comes or means something else; the report reads this one only."""
REFERENCE = "sft"
"""The policy that the others are compared with."""

Indices = NDArray[np.int64]
Slices = dict[str, Any]


@dataclass(frozen=True)
class Scored:
    """The responses of one policy in numbers, each [p, s] unless said otherwise."""

    gold: Floats | None
    """Rule judge in [0, 1]; NaN at prompts without checks, None if no prompt has any."""
    reward: Floats
    kl: Floats | None
    """Nats per answer, [p, the first of s]; None where it was not measured (greedy, best-of-n)."""
    length: Floats
    """Tokens, the stop token included."""
    stopped: Floats
    """1 if the answer ended by itself, 0 if the length limit cut it."""
    ids: Sequence[Sequence[int]]
    """Token ids of all answers, stop tokens left out."""
    kl_bound: float | None = None
    """Nats per answer that `kl` cannot exceed, where no more is known."""

    def means(self) -> dict[str, Floats]:
        """Reward, and gold where there is any, by prompt [p]."""
        gold = {} if self.gold is None else {"gold": self.gold.mean(axis=1)}
        return gold | {"reward": self.reward.mean(axis=1)}


class Measure(NamedTuple):
    """One quantity of every answer that is no judge's opinion; the report prints it by itself."""

    key: str
    label: Sentence
    unit: Sentence
    of: Callable[[Scored], Floats]
    """[p, s], a number for each answer."""
    digits: int = 2


MEASURES = (
    Measure(
        "length", Sentence("length"), Sentence("tokens"), lambda scored: scored.length, digits=1
    ),
    Measure(
        "stop_rate",
        Sentence("stop rate"),
        Sentence("answers that end by themselves"),
        lambda one: one.stopped,
    ),
)
"""Each becomes an entry, an Estimate, and its difference to the reference as `KEY_gain`."""


@dataclass(frozen=True)
class Groups:
    """Which prompts belong to which part, as row indices."""

    flat: Mapping[str, Indices]
    """all, seen, unseen"""
    named: Mapping[str, Mapping[str, Indices]]
    """family, language"""

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> Groups:
        """Read `seen`, `family` and `language` from the prompts' rows, where they have them."""
        seen = [row.get("seen") for row in rows]
        flat = {
            "all": np.arange(len(rows)),
            "seen": _where(seen, True),
            "unseen": _where(seen, False),
        }
        named = {}
        for key in ("family", "language"):
            values = [row.get(key) for row in rows]
            names = sorted({str(value) for value in values if value is not None})
            named[key] = {name: _where([str(v) for v in values], name) for name in names}
        return cls(flat, named)

    def within(self, kept: NDArray[np.bool_]) -> Groups:
        """The same parts, of the rows that are kept."""

        def of_kept(rows: Indices) -> Indices:
            return rows[kept[rows]]

        return Groups(
            {name: of_kept(rows) for name, rows in self.flat.items()},
            {
                key: {name: of_kept(rows) for name, rows in parts.items()}
                for key, parts in self.named.items()
            },
        )


def _where(values: Sequence[Any], wanted: Any) -> Indices:
    return np.array([row for row, value in enumerate(values) if value == wanted], dtype=np.int64)


@dataclass(frozen=True)
class Summariser:
    """The settings and the prompts that every estimate of one summary shares."""

    groups: Groups
    resamples: int
    seed: int

    def estimate(self, values: Floats, weights: Floats | None = None) -> Estimate:
        return bootstrap(values, weights, resamples=self.resamples, seed=self.seed)

    def slices(self, values: Floats) -> Slices:
        """One number per prompt [p], over all prompts and each part; NaN prompts do not count."""
        groups = self.groups.within(~np.isnan(values))
        found: Slices = {
            name: self.estimate(values[rows]) if len(rows) else None
            for name, rows in groups.flat.items()
        }
        for key, parts in groups.named.items():
            found[key] = {n: self.estimate(values[rows]) for n, rows in parts.items() if len(rows)}
        return found

    def responses(self, scored: Scored) -> dict[str, Any]:
        """What is said of sampled and of greedy answers alike."""
        gold = None if scored.gold is None else self.slices(scored.gold.mean(axis=1))
        return {
            "gold": gold,
            "reward": self.slices(scored.reward.mean(axis=1)),
            **{each.key: self.estimate(each.of(scored).mean(axis=1)) for each in MEASURES},
            "distinct_2": distinct(scored.ids),
        }

    def policy(self, sampled: Scored, greedy: Scored, reference: Scored | None) -> dict[str, Any]:
        """One policy's entry; `reference` is None for the reference itself."""
        entry = self.responses(sampled)
        entry |= {"kl_sequence": None, "kl_token": None, "kl_bound": sampled.kl_bound}
        if sampled.kl is not None:
            nats, tokens = sampled.kl, sampled.length[:, : sampled.kl.shape[1]]
            entry["kl_sequence"] = self.estimate(nats.mean(axis=1))
            entry["kl_token"] = self.estimate(nats.sum(axis=1), tokens.sum(axis=1))
        entry |= dict.fromkeys(("gold_gain", "reward_gain", "win_rate", "length_ratio"))
        entry |= dict.fromkeys(f"{each.key}_gain" for each in MEASURES)
        if reference is not None:
            entry |= self._against(sampled, reference)
        entry["greedy"] = self.responses(greedy)
        return entry

    def _against(self, policy: Scored, reference: Scored) -> dict[str, Any]:
        """Differences paired by prompt, and the win rate: by gold where there is any."""
        compared: dict[str, Any] = {
            "reward_gain": self.slices(policy.reward.mean(axis=1) - reference.reward.mean(axis=1)),
            "length_ratio": self.estimate(
                policy.length.mean(axis=1), reference.length.mean(axis=1)
            ),
        }
        for each in MEASURES:
            gain = each.of(policy).mean(axis=1) - each.of(reference).mean(axis=1)
            compared[f"{each.key}_gain"] = self.estimate(gain)
        judge, mine, theirs = "reward", policy.reward, reference.reward
        if policy.gold is not None and reference.gold is not None:
            judge, mine, theirs = "gold", policy.gold, reference.gold
            compared["gold_gain"] = self.slices(mine.mean(axis=1) - theirs.mean(axis=1))
        judged = ~np.isnan(mine).any(axis=1)
        points, ties = wins(mine[judged], theirs[judged])
        compared["win_rate"] = {**self.estimate(points), "ties": float(ties.mean()), "judge": judge}
        return compared

    def against_picks(self, pool: Scored, sampled: Mapping[str, Scored]) -> dict[str, Any]:
        """The trained policies beside best-of-n at their own KL."""
        values = {"reward": pool.reward} | ({} if pool.gold is None else {"gold": pool.gold})
        trained = {
            name: (float(scored.kl.mean(axis=1).mean()), scored.means())
            for name, scored in sampled.items()
            if scored.kl is not None and name in ALIGNED
        }
        return best_of_n.compare(values, trained, lambda each: self.estimate(each[~np.isnan(each)]))


def summarise(
    rows: Sequence[Mapping[str, Any]],
    sampled: Mapping[str, Scored],
    greedy: Mapping[str, Scored],
    *,
    resamples: int,
    seed: int,
    pool: Scored | None = None,
) -> dict[str, Any]:
    """The entries `policies`, `best_of_n` and `setup.prompts` of the summary.

    Args:
        rows: what is known of each prompt (`family`, `language`, `seen`), [p].
        sampled, greedy: answers by policy, `sft` among them.
        resamples, seed: of the bootstrap.
        pool: all answers that best-of-n picks from.
    """
    groups = Groups.of(rows)
    summariser = Summariser(groups, resamples, seed)
    reference = sampled[REFERENCE]
    policies = {
        name: summariser.policy(scored, greedy[name], None if name == REFERENCE else reference)
        for name, scored in sampled.items()
    }
    judged = 0 if reference.gold is None else int((~np.isnan(reference.gold[:, 0])).sum())
    counts: dict[str, Any] = {name: len(indices) for name, indices in groups.flat.items()}
    for key, parts in groups.named.items():
        counts[key] = {name: len(indices) for name, indices in parts.items()}
    return {
        "policies": policies,
        "best_of_n": None if pool is None else summariser.against_picks(pool, sampled),
        "prompts": {**counts, "judged": judged},
    }


def headlines(summary: Mapping[str, Any]) -> dict[str, float]:
    """The handful of numbers of a summary that a manifest repeats."""
    metrics = {}
    for name, policy in summary["policies"].items():
        for key in ("gold", "reward"):
            if policy[key] is not None:
                metrics[f"evaluate/{key}/{name}"] = policy[key]["all"]["mean"]
        if policy["kl_sequence"] is not None:
            metrics[f"evaluate/kl_sequence/{name}"] = policy["kl_sequence"]["mean"]
    if summary["reward_model"] is not None:
        metrics["evaluate/accuracy/reward"] = summary["reward_model"]["accuracy"]["mean"]
    return metrics
