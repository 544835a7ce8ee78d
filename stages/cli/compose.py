"""The text of a new recipe: sections, starting values, and comments in one's own language."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass

from align.messages import Language
from stages.cli.texts import text

HOLDOUT = 0.2
SMALL = 100_000_000
"""Bytes of weights below which a model is trained at the rates of the tiny recipe."""
RATES = {
    "few": {"ppo": "1e-4", "value": "5e-4"},
    "small": {"ppo": "2e-4", "value": "5e-4"},
    "lora": {"ppo": "1e-5", "value": "2e-5"},
    "full": {"ppo": "1e-6", "value": "5e-6"},
}
"""Learning rates of PPO: small as in stages/recipes/tiny.yaml, lora as in qwen3-0.6b.yaml; full is
a usual start for a billion parameters. Starting values, not tuned ones."""
FEW_PROMPTS = 400
"""Below this PPO asks each prompt again and again, and drifts: fewer iterations, a higher price.

On 34 Korean pairs of one's own and the embedded base, ten iterations at 2e-4 and kl_coef 0.1 ended
9.6 nats from SFT with 75 % of the answers complete; at 1e-4 and 0.3, 4.5 nats and 88 % (one seed).
"""
TRAINED = ("sft", "reward", "dpo")
COMMENT_COLUMN = 44


@dataclass(frozen=True)
class Plan:
    """All that decides the text."""

    name: str
    language: Language
    base: str
    revision: str | None
    weights: int
    """Bytes."""
    longest: int
    """Tokens of the longest row that is trained on."""
    given: dict[str, str]
    """One's own files, by their key under `data`."""
    embedded: dict[str, str]
    """Files of the embedded world, by the same keys."""
    lora: bool
    device: str
    shared_prompts: bool
    """Whether own instructions ask what other own files ask."""
    few_prompts: bool
    """Whether PPO has few prompts, all one's own."""

    def say(self, key: str, /, **values: object) -> str:
        return text(key, self.language, **values)


def compose(plan: Plan) -> str:
    """Return the recipe as YAML."""
    quoted = shlex.quote(f"{plan.name}.yaml")
    header = plan.say("header", name=plan.name, quoted=quoted).splitlines()
    lines = [f"# {line}".rstrip() for line in header]
    lines += ["", f"name: {_yaml(plan.name)}", "seed: 0", "", *_model(plan), "", *_data(plan)]
    for section in TRAINED:
        lines += ["", *_trained(plan, section)]
    lines += ["", *_ppo(plan), "", *_evaluate(plan)]
    return "\n".join(lines) + "\n"


def _model(plan: Plan) -> list[str]:
    revision = [f"  revision: {_yaml(plan.revision)}"] if plan.revision else []
    return [
        "model:",
        _line(f"  path: {_yaml(plan.base)}", plan.say("base")),
        *revision,
        _line(f"  device: {plan.device}", plan.say("device")),
    ]


def _data(plan: Plan) -> list[str]:
    """Own files first; a fifth of their prompts is held out where nothing else is to evaluate on.

    Which side a prompt is on is decided by its hash, so all files agree on it.
    """
    given, kept = plan.given, f"holdout: {HOLDOUT}"
    own_pairs = "preferences" in given
    asked = given.get("prompts") or (None if own_pairs else given.get("instructions"))
    from_pairs = own_pairs and asked is None
    heldout = "evaluation" not in given and (own_pairs or asked is not None)
    shared = plan.shared_prompts or (asked is not None and asked == given.get("instructions"))

    def source(path: str, *, parts: bool) -> str:
        return f"{{path: {_yaml(path)}, {kept}}}" if parts else _yaml(path)

    def sets(key: str, value: str, comment: str = "") -> str:
        return _line(f"  {key}: {value}", plan.say(comment or key))

    lines = ["data:"] + ([f"  # {plan.say('heldout')}"] if own_pairs or heldout else [])
    if "instructions" in given:
        told = source(given["instructions"], parts=shared and heldout)
        lines.append(sets("instructions", told))
    elif own_pairs:
        lines.append(sets("instructions", "{}", "chosen"))
    else:
        lines.append(sets("instructions", _yaml(plan.embedded["instructions"])))
    pairs = given.get("preferences", plan.embedded["preferences"])
    lines.append(sets("preferences", source(pairs, parts=own_pairs)))
    unseen = "{part: heldout}" if own_pairs else _yaml(plan.embedded["preferences_heldout"])
    lines.append(f"  preferences_heldout: {unseen}")
    if from_pairs:
        prompts, unseen = "{}", "{part: heldout}"
    elif asked is not None:
        prompts = source(asked, parts=heldout)
        unseen = f"{{path: {_yaml(asked)}, {kept}, part: heldout}}"
    else:
        prompts, unseen = (_yaml(plan.embedded[key]) for key in ("prompts", "evaluation"))
    unseen = _yaml(given["evaluation"]) if "evaluation" in given else unseen
    return [*lines, sets("prompts", prompts), sets("evaluation", unseen)]


def _trained(plan: Plan, section: str) -> list[str]:
    """SFT, the reward model or DPO: how long and how fast is chosen by the rows when it runs."""
    return [
        f"{section}:",
        *_lora(plan),
        _line(f"  max_length: {plan.longest}", plan.say("max_length")),
        *(f"  # {line}" for line in plan.say("trainer", section=section).splitlines()),
    ]


def _ppo(plan: Plan) -> list[str]:
    rates = _rates(plan)
    iterations, kl_coef = (10, 0.3) if plan.few_prompts else (30, 0.1)
    return [
        "ppo:",
        *_lora(plan),
        _line(f"  iterations: {iterations}", plan.say("iterations")),
        "  rollout_batch_size: 64",
        "  micro_batch_size: 8",
        f"  learning_rate: {rates['ppo']}",
        f"  value_learning_rate: {rates['value']}",
        _line(f"  kl_coef: {kl_coef}", plan.say("kl_coef")),
        _line(f"  max_new_tokens: {_answer(plan)}", plan.say("max_new_tokens")),
    ]


def _evaluate(plan: Plan) -> list[str]:
    return [
        "evaluate:",
        _line("  samples_per_prompt: 4", plan.say("samples")),
        f"  max_new_tokens: {_answer(plan)}",
    ]


def _lora(plan: Plan) -> list[str]:
    if not plan.lora:
        return [f"  # {plan.say('full')}"]
    return [_line("  lora: {r: 16, alpha: 32}", plan.say("lora"))]


def _answer(plan: Plan) -> int:
    """Tokens of an answer, which leave room for its prompt."""
    return min(64, plan.longest // 4)


def _rates(plan: Plan) -> dict[str, str]:
    if plan.weights < SMALL:
        return RATES["few" if plan.few_prompts else "small"]
    return RATES["lora" if plan.lora else "full"]


def _line(setting: str, comment: str) -> str:
    return f"{setting:<{COMMENT_COLUMN}} # {comment}"


def _yaml(value: str) -> str:
    """A text as YAML: plain where that reads back as the same text, quoted otherwise."""
    plain = re.fullmatch(r"[A-Za-z가-힣_./][\w./+-]*", value) and not re.fullmatch(
        r"(?i)null|true|false|[.\d].*", value.removeprefix("./")
    )
    return value if plain else json.dumps(value, ensure_ascii=False)
