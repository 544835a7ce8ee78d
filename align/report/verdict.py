"""Did it align? Three sentences that say no more than the numbers do.

Everything said of a policy rests on the interval of its differences to SFT on the same prompts. A
policy is `better` or `worse` if that interval excludes 0; otherwise there is `no measurable
change`, whatever the means are. Costs are found in align/report/costs.py; one that the interval
does not show is told as possible.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from align.config.methods import METHODS
from align.messages import say
from align.report.costs import LEAST_PROMPTS, Change, Cost, Estimate, change, costs_of
from align.report.text import interval, listing, name, number

COSTS_TOLD = 4
"""Of the costs, in the third sentence; the report lists them all."""
AIMED = {method.name for method in METHODS if method.scored or method.role == "selected"}
"""Policies that were trained, or picked, by the reward model's score."""


@dataclass(frozen=True)
class Verdict:
    """What the report says first."""

    headline: str
    sentences: tuple[str, str, str]
    """What changed; whether it holds on new templates; what it cost."""
    changes: dict[str, Change]
    costs: tuple[str, ...]
    not_shown: tuple[str, ...]
    """Costs that the means suggest and the intervals do not show."""


def verdict(summary: dict[str, Any]) -> Verdict:
    """Judge the trained policies (all but base and SFT) against SFT."""
    policies = summary["policies"]
    trained = [key for key in policies if key not in ("base", "sft")]
    judge = "gold" if policies["sft"]["gold"] is not None else "reward"
    changes = {key: change(policies[key][f"{judge}_gain"]["all"]) for key in trained}
    paid = {key: list(costs_of(policies[key], policies["sft"])) for key in trained}
    found = [
        Cost(say("{policy} {cost}", policy=name(key), cost=cost.words), cost.shown)
        for key in trained
        for cost in paid[key]
    ]
    costly = any(cost.shown for key in trained if changes[key] == "better" for cost in paid[key])
    costs = tuple(cost.words for cost in found if cost.shown)
    not_shown = tuple(cost.words for cost in found if not cost.shown)
    return Verdict(
        _headline(changes, judge, costly=costly),
        (
            _what_changed(policies, changes, judge),
            _elsewhere(policies, trained, judge),
            _what_it_cost(policies, trained, costs, not_shown, judge),
        ),
        changes,
        costs,
        not_shown,
    )


def listed_in_full(found: Verdict) -> list[tuple[str, tuple[str, ...]]]:
    """The costs, with a title, that the third sentence has no room for."""
    return [
        (f"{title} ({len(costs)})", costs)
        for title, costs in (
            (say("All costs"), found.costs),
            (say("All costs that are possible, but not shown"), found.not_shown),
        )
        if len(costs) > COSTS_TOLD
    ]


def _headline(changes: dict[str, Change], judge: str, *, costly: bool) -> str:
    if not changes:
        return say("Nothing to compare: no policy beyond SFT was evaluated.")
    found = {
        wanted: [name(key) for key, one in changes.items() if one == wanted]
        for wanted in ("better", "worse", "unclear", "undecided")
    }
    better, worse = listing(found["better"]), listing(found["worse"])
    if judge == "reward" and better:
        return say("Only the reward model says so: {better} above SFT.", better=better)
    if worse and better:
        return say(
            "No: {worse} became worse than SFT, {better} better.", worse=worse, better=better
        )
    if worse:
        return say("No: {worse} became worse than SFT.", worse=worse)
    if not better:
        if found["unclear"]:
            return say("No measurable change.")
        return say("Not decided: the prompts cannot tell.")
    if len(found["better"]) == len(changes):
        return _yes(found["better"], costly)
    rest = listing([*_unclear(found["unclear"]), *_undecided(found["undecided"])])
    if costly:
        return say("In part, at a cost: {better} did, {rest}.", better=better, rest=rest)
    return say("In part: {better} did, {rest}.", better=better, rest=rest)


def _yes(better: list[str], costly: bool) -> str:
    if len(better) == 1:
        told = say("{better} answers better than SFT.", better=better[0])
    else:
        told = say("{better} answer better than SFT.", better=listing(better))
    return say("Yes, at a cost: {told}", told=told) if costly else say("Yes: {told}", told=told)


def _unclear(names: list[str]) -> Iterable[str]:
    if len(names) == 1:
        yield say("{policy} shows no measurable change", policy=names[0])
    elif names:
        yield say("{policies} show no measurable change", policies=listing(names))


def _undecided(names: list[str]) -> Iterable[str]:
    if len(names) == 1:
        yield say("{policy} is not decided", policy=names[0])
    elif names:
        yield say("{policies} are not decided", policies=listing(names))


def _why_undecided(gain: Estimate) -> str:
    mean = number(gain["mean"], sign=True)
    if gain["n"] < LEAST_PROMPTS:
        return say(
            "not decided ({mean} on {prompts} prompts, fewer than {least})",
            mean=mean,
            prompts=gain["n"],
            least=LEAST_PROMPTS,
        )
    return say("not decided (every prompt differs by {mean})", mean=mean)


def _what_changed(policies: dict[str, Any], changes: dict[str, Change], judge: str) -> str:
    start = policies["sft"][judge]["all"]
    values = {"prompts": start["n"], "score": interval(start)}
    if judge == "gold":
        parts = [say("On {prompts} held-out prompts the rule judge gives SFT {score}", **values)]
    else:
        parts = [
            say(
                "On {prompts} held-out prompts the reward model (no prompt carries checks) gives "
                "SFT {score}",
                **values,
            )
        ]
    for key, found in changes.items():
        gain = policies[key][f"{judge}_gain"]["all"]
        by = interval(gain, sign=True)
        match found:
            case "better":
                told = say("better by {gain}", gain=by)
            case "worse":
                told = say("worse by {gain}", gain=by)
            case "unclear":
                told = say("no measurable change ({gain})", gain=by)
            case "undecided":
                told = _why_undecided(gain)
        parts.append(f"{name(key)} {number(policies[key][judge]['all']['mean'])}, {told}")
    return "; ".join(parts) + "."


def _elsewhere(policies: dict[str, Any], trained: list[str], judge: str) -> str:
    """Whether the gain is there on templates that no training split had."""
    start = policies["sft"][judge]
    if start["unseen"] is None:
        if start["seen"] is not None:
            return say(
                "Training has seen the templates of all these prompts; new ones are not tried."
            )
        return say(
            "New wordings cannot be told apart: the prompts do not say whether they were seen."
        )
    if not trained:
        return say("On templates that no training split had, there is nothing to compare.")
    parts = []
    for key in trained:
        gain = policies[key][f"{judge}_gain"]["unseen"]
        values = {"policy": name(key), "gain": interval(gain, sign=True)}
        match change(gain):
            case "better":
                told = say("{policy} gains ({gain})", **values)
            case "worse":
                told = say("{policy} loses ({gain})", **values)
            case "unclear":
                told = say("{policy} shows no measurable change ({gain})", **values)
            case "undecided":
                told = say(
                    "{policy} is {undecided}", policy=name(key), undecided=_why_undecided(gain)
                )
        parts.append(told)
    return say("On templates that no training split had, {told}.", told=listing(parts))


def _what_it_cost(
    policies: dict[str, Any],
    trained: list[str],
    costs: tuple[str, ...],
    not_shown: tuple[str, ...],
    judge: str,
) -> str:
    if not trained:
        return say("No policy was trained beyond SFT, so nothing was paid.")
    prompts = policies["sft"]["reward"]["all"]["n"]
    if prompts < LEAST_PROMPTS:
        return say("Fewer than {least} prompts cannot show a cost either.", least=LEAST_PROMPTS)
    if costs:
        told = say("What it cost: {costs}", costs=_first(costs))
    elif judge == "reward":
        told = _only_a_model([name(key) for key in trained if key in AIMED])
    else:
        told = say("No cost is shown in any family, length, stops or KL")
    if not_shown:
        return say("{told}. Possible, but not shown: {costs}.", told=told, costs=_first(not_shown))
    return f"{told}."


def _only_a_model(aimed: list[str]) -> str:
    if not aimed:
        return say(
            "Only a model has judged, so this cannot show that people would agree; no cost is "
            "shown in length, stops or KL"
        )
    return say(
        "{aimed} aimed at that very reward, so this cannot show that people would agree; no cost "
        "is shown in length, stops or KL",
        aimed=listing(aimed),
    )


def _first(costs: tuple[str, ...]) -> str:
    told, more = "; ".join(costs[:COSTS_TOLD]), len(costs) - COSTS_TOLD
    return say("{costs}; and {more} more", costs=told, more=more) if more > 0 else told
