"""GRPO: the advantage of an answer is its score, standardised among the answers to its prompt.

    python -m stages.rlhf stages/recipes/tiny.yaml method=grpo trainer.num_generations=16

Trained by TRL with PPO's settings (stages/support/baselines.py).

Source: Shao 2024, arXiv:2402.03300.
"""

from __future__ import annotations

from align.runs.contract import StageContext, StageResult
from stages.support.aligned import aligned_stage
from stages.support.baselines import BORROWED, headline, run_baseline
from stages.support.libraries import load_libraries


def run(context: StageContext) -> StageResult:
    load_libraries(("grpo",))

    from trl import GRPOConfig, GRPOTrainer

    return run_baseline("grpo", GRPOTrainer, GRPOConfig, context)


STAGE = aligned_stage("grpo", run, headline=headline("grpo"), borrowed=BORROWED)
