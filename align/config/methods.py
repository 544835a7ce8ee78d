"""The methods of this pipeline, one row each: every policy it compares, and the reward model.

Whatever lists them is derived from here: the recipe's sections and `parents`, TRL's classes whose
settings are checked, the order of the chain, make's targets, what the evaluation can compare, and
the report's names, colours and marks. To add one, see "add a method" in CONTRIBUTING.md.

Only the standard library is imported, so that `make help` works before anything is installed: it
runs this file, which prints a line for each target.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Method(NamedTuple):
    """One policy, or the reward model, and all that is said of it outside its own stage."""

    name: str
    """Its stage, its section of the recipe, `method=NAME`, and its key in every summary."""
    label: str
    """As the report calls it."""
    role: Literal["base", "sft", "reward", "aligned", "selected"]
    """base, selected: no stage makes it; aligned: a stage trains it from the SFT policy."""
    look: int
    """Colour and mark in the report (align/report/signs.py): a number that no other row has."""
    help: str = ""
    """What its stage makes of what, for `make help`."""
    data: str = ""
    """Key under `data` of the rows that its stage trains on."""
    scored: bool = False
    """Whether its stage asks the reward model."""
    trl: str = ""
    """TRL's name for it, as in `DPOConfig` of dpo_config.py; empty where TRL trains nothing."""


METHODS = (
    Method("base", "base", role="base", look=0),
    Method(
        name="sft",
        label="SFT",
        role="sft",
        look=1,
        help="instructions → policy that answers",
        data="instructions",
        trl="SFT",
    ),
    Method(
        name="reward",
        label="Reward model",
        role="reward",
        look=4,
        help="preference pairs → reward model",
        data="preferences",
        trl="Reward",
    ),
    Method(
        name="dpo",
        label="DPO",
        role="aligned",
        look=2,
        help="preference pairs → aligned policy, without a reward model",
        data="preferences",
        trl="DPO",
    ),
    Method(
        name="kto",
        label="KTO",
        role="aligned",
        look=8,
        help="the same by KTO: each response of a pair is good or bad by itself",
        data="preferences",
        trl="KTO",
    ),
    Method(
        name="ppo",
        label="PPO",
        role="aligned",
        look=3,
        help="prompts + reward model → aligned policy",
        data="prompts",
        scored=True,
    ),
    Method(
        name="rloo",
        label="RLOO",
        role="aligned",
        look=5,
        help="the same by RLOO (TRL), with the settings of ppo",
        data="prompts",
        scored=True,
        trl="RLOO",
    ),
    Method(
        name="grpo",
        label="GRPO",
        role="aligned",
        look=6,
        help="the same by GRPO (TRL), with the settings of ppo",
        data="prompts",
        scored=True,
        trl="GRPO",
    ),
    Method("best_of_n", "best of n", role="selected", look=7),
)
"""In the order in which they are trained and shown."""

BY_NAME = {method.name: method for method in METHODS}
ALIGNED = tuple(method.name for method in METHODS if method.role == "aligned")
"""Policies that a stage trains from SFT."""
POLICIES = tuple(method.name for method in METHODS if method.role != "reward")
"""What can be evaluated."""
(BEST_OF_N,) = (method.name for method in METHODS if method.role == "selected")
TRL = {method.name: method.trl for method in METHODS if method.trl}
"""Sections whose `trainer` is passed to TRL → TRL's name for the method."""
TRAINED = tuple(method.name for method in METHODS if method.data)
"""Stages that train something, in order."""
STAGES = {
    **{name: BY_NAME[name].help for name in TRAINED},
    "evaluate": "all policies on held-out prompts, with confidence intervals",
    "report": "report.html and report.md",
}
"""All stages in order, each with its line of `make help`."""


if __name__ == "__main__":
    for _name, _help in STAGES.items():
        print(f"  {_name:<10} {_help}")
