"""What the report says around its numbers, once for the page and for the markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from align.messages import say
from align.report.costs import LEAST_PROMPTS, tolerated
from align.report.text import interval, number


def titles(shown: Mapping[str, object], prompts_shown: int) -> dict[str, str]:
    """The sections by their anchors, in their order; those of `shown` only where it has any."""
    named = {
        "numbers": say("The numbers"),
        "changed": say("Where it changed"),
        "distance": say("What the distance bought"),
        "alarms": say("Alarms while it trained"),
        "training": say("How training went"),
        "reward": say("The reward model"),
        "answers": say("{count} prompts side by side", count=prompts_shown),
        "made": say("How it was made"),
        "reading": say("How to read the numbers"),
    }
    return {key: title for key, title in named.items() if shown.get(key, True)}


def asked(summary: Mapping[str, Any]) -> str:
    """What every policy was asked."""
    setup = summary["setup"]
    told = say(
        "Every policy answered the same {prompts} held-out prompts, {samples} times at temperature "
        "{temperature} and once greedily. In brackets stands the 95 % interval over prompts.",
        prompts=setup["prompts"]["all"],
        samples=setup["samples_per_prompt"],
        temperature=f"{setup['temperature']:g}",
    )
    judged = setup["prompts"]["judged"]
    if 0 < judged < setup["prompts"]["all"]:
        told += " " + say("Gold rests on the {judged} prompts that carry checks.", judged=judged)
    return told


def overview(summary: Mapping[str, Any], judge: str) -> str:
    """Below the picture at the top."""
    prompts = summary["setup"]["prompts"]
    if judge == "gold":
        told = [say("Gold: the rule judge’s score of the answers, 0 to 1.")]
    else:
        told = [say("The reward model’s score; these prompts carry no checks.")]
    if prompts["unseen"]:
        told.append(
            say(
                "A large sign is the mean over all {prompts} prompts, the small one below it over "
                "the {unseen} whose template no training split had.",
                prompts=prompts["all"],
                unseen=prompts["unseen"],
            )
        )
    else:
        told.append(say("A sign is the mean over all {prompts} prompts.", prompts=prompts["all"]))
    told.append(
        say(
            "Lines are 95 % intervals, the band is SFT’s. The verdict rests on the differences on "
            "the same prompts, whose intervals are shorter."
        )
    )
    return " ".join(told)


def parts(judge: str, rows: int) -> str:
    """Above the picture of the parts."""
    told = [
        say("Gold by part of the prompts.")
        if judge == "gold"
        else say("Reward by part of the prompts.")
    ]
    if rows > 5:
        told.append(say("The families stand in the order of SFT’s score, best first."))
    told.append(
        say(
            "A family is small, so its lines are long; the differences on the same prompts, in the "
            "tables below, are sharper."
        )
    )
    return " ".join(told)


def best_of_n(drawn: int) -> str:
    return say(
        "The line is best-of-n: the reward model picks one of n of SFT’s answers, for the n beside "
        "each dot, estimated from {drawn} answers a prompt. It is drawn at the largest KL that it "
        "can have, log n − (n − 1)/n. Where answers repeat it is nearer to SFT than drawn: as long "
        "as the line rises, a policy below it is below it all the more, and one above it may owe "
        "some of that to the bound. Differences are taken prompt by prompt.",
        drawn=drawn,
    )


def reward_model(card: Mapping[str, Any] | None) -> str:
    """How good the judge is that PPO follows."""
    if card is None:
        return say(
            "No held-out preference pairs were given (data.preferences_heldout), so its accuracy "
            "is unknown."
        )
    told = [
        say(
            "Of {pairs} held-out pairs, from {prompts} prompts, it scores the annotator’s choice "
            "above the other answer in {accuracy}.",
            pairs=card["pairs"],
            prompts=card["accuracy"]["n"],
            accuracy=interval(card["accuracy"], 3),
        )
    ]
    if card["ceiling"] is not None:
        told.append(
            say(
                "The labels are noisy: no model can be expected to agree with more than {ceiling} "
                "of them, the Bayes ceiling. It reaches {ratio} of that.",
                ceiling=number(card["ceiling"], 3),
                ratio=interval(card["ratio"]),
            )
        )
    told.append(
        say(
            "Always preferring the longer answer would score {longer}.",
            longer=interval(card["longer_wins"], 3),
        )
    )
    if card["chosen_longer"] and card["chosen_shorter"]:
        told.append(
            say(
                "It is right in {longer} of the pairs whose better answer is the longer one, and "
                "in {shorter} where it is the shorter.",
                longer=interval(card["chosen_longer"]),
                shorter=interval(card["chosen_shorter"]),
            )
        )
    return " ".join(told)


def showcase() -> str:
    return say(
        "Chosen over the families by the seed, not by hand; each policy’s first sample, whatever "
        "it is worth. Characters that would act unseen are shown as ⟨U+…⟩."
    )


def again() -> str:
    return say(
        "recipe.yaml beside this page holds the whole recipe with all settings. From the folder of "
        "the project, with the same code and data:"
    )


def glossary(resamples: int) -> list[tuple[str, str]]:
    """Terms and what they mean here."""
    return [
        (
            say("Gold"),
            say(
                "The rule judge’s score of an answer, 0 to 1: the product of its core checks, "
                "times one half plus half the weighted mean of the other checks. No stage trains "
                "on it."
            ),
        ),
        (
            say("Intervals"),
            say(
                "Taken by drawing the prompts anew {resamples} times (bootstrap, percentiles "
                "widened for few prompts); samples of one prompt count as one observation. One "
                "without width means that all prompts scored alike, which in a small group is no "
                "certainty. They cover the choice of prompts, not of the training seed.",
                resamples=resamples,
            ),
        ),
        (
            say("Better, worse"),
            say(
                "Said where the interval of the differences to SFT on the same prompts leaves "
                "out 0. That is sharper than to compare two intervals, which may overlap all the "
                "same. Fewer than {least} prompts decide nothing. By chance one in 40 "
                "policies that are like SFT is called better.",
                least=LEAST_PROMPTS,
            ),
        ),
        (
            say("Cost"),
            say(
                "Named where such an interval lies wholly beyond what is tolerated: {tolerated}. "
                "By chance about one in 20 policies that are like SFT is said to cost something.",
                tolerated=tolerated(),
            ),
        ),
        (
            say("KL to SFT"),
            say(
                "How far a policy has moved: whole next-token distributions are compared at every "
                "token of the sampled answers, and summed."
            ),
        ),
        (say("Win rate"), say("Pairs answers to one prompt; a tie counts half.")),
        (
            say("distinct-2"),
            say(
                "The share of different neighbouring token pairs in all answers. It falls as "
                "policies repeat themselves, and as there are more answers."
            ),
        ),
        (say("Reward"), say("What training raised. It is not evidence of better answers.")),
    ]
