"""RLOO: the advantage of an answer is its score less the mean of the other answers to its prompt.

    python -m stages.rlhf stages/recipes/tiny.yaml method=rloo

Trained by TRL with PPO's settings (stages/support/baselines.py).

Source: Ahmadian 2024, arXiv:2402.14740.
"""

from __future__ import annotations

from align.runs.contract import StageContext, StageResult
from stages.support.aligned import aligned_stage
from stages.support.baselines import BORROWED, headline, run_baseline
from stages.support.libraries import load_libraries


def run(context: StageContext) -> StageResult:
    load_libraries(("rloo",))

    from trl import RLOOConfig, RLOOTrainer

    return run_baseline("rloo", RLOOTrainer, RLOOConfig, context)


STAGE = aligned_stage("rloo", run, headline=headline("rloo"), borrowed=BORROWED)
