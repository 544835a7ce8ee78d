"""How the numbers of a report were made, as the pairs of its list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from align.messages import say
from align.report.text import name


def provenance(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs of a name and a value."""
    made, setup = summary["provenance"], summary["setup"]
    base = made["base_model"]
    if made["base_revision"]:
        base += f" @ {made['base_revision']}"
    pairs = [
        (say("run"), made["run"]),
        (say("recipe"), made["recipe"]),
        (say("seed"), str(made["seed"])),
        (say("date"), f"{made['date']} (UTC)"),
        (say("device"), made["device"]),
        (say("base model"), base),
        (say("policies"), ", ".join(name(key) for key in summary["policies"])),
        *_asked(setup),
    ]
    for library, version in made["versions"].items():
        pairs.append((say("{library} version", library=library), version))
    if made["tokenizer_hash"]:
        pairs.append((say("tokenizer hash"), made["tokenizer_hash"][:16]))
    if made["template_hash"]:
        pairs.append((say("template hash"), made["template_hash"][:16]))
    return pairs


def _asked(setup: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Prompts, pairs and samples, with what was left out."""
    prompts, left_out = setup["prompts"], setup["left_out"]
    return [
        (
            say("prompts"),
            say(
                "{held_out} held out, {judged} with checks, {long} left out as too long",
                held_out=prompts["all"],
                judged=prompts["judged"],
                long=left_out["prompts"],
            ),
        ),
        (
            say("held-out pairs"),
            say(
                "{trained_on} left out as trained on, {too_long} as too long",
                trained_on=left_out["pairs"]["trained_on"],
                too_long=left_out["pairs"]["too_long"],
            ),
        ),
        (
            say("sampling"),
            say(
                "{samples} answers a prompt at temperature {temperature:g}, at most {tokens} "
                "tokens",
                samples=setup["samples_per_prompt"],
                temperature=setup["temperature"],
                tokens=setup["max_new_tokens"],
            ),
        ),
        (
            say("bootstrap"),
            say(
                "{resamples} resamples of the prompts, 95 % intervals",
                resamples=setup["bootstrap"],
            ),
        ),
    ]
