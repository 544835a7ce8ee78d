"""RLHF: the SFT policy aligned with preferences, by the method that is asked for.

    python -m stages.rlhf stages/recipes/tiny.yaml method=ppo kl_coef=0.3
    python -m stages.rlhf stages/recipes/tiny.yaml method=dpo trainer.beta=0.1

Every method starts from the published SFT policy and has it as its reference. DPO and KTO read
data.preferences and are trained by TRL; PPO, our own (align/ppo/train.py), and its baselines RLOO
and GRPO read data.prompts and maximise the reward model. Each has a file in stages/methods/.
"""

from __future__ import annotations

from importlib import import_module

from align.config.methods import ALIGNED
from align.runs.contract import Stage
from align.runs.runner import main

STAGES: tuple[Stage, ...] = tuple(import_module(f"stages.methods.{name}").STAGE for name in ALIGNED)

if __name__ == "__main__":
    raise SystemExit(main(*STAGES, help_text=__doc__))
