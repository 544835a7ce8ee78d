"""PPO: the SFT policy aligned with a reward model, by this project's own align/ppo/train.py.

    python -m stages.rlhf stages/recipes/tiny.yaml method=ppo kl_coef=0.3

Reads data.prompts. The published SFT policy is the start and the reference.
"""

from __future__ import annotations

from align.data import load_prompts
from align.messages import tell
from align.ppo.metrics import HEADLINE
from align.runs.contract import StageContext, StageResult
from stages.support.aligned import aligned_stage
from stages.support.libraries import load_libraries


def run(context: StageContext) -> StageResult:
    config = context.recipe.ppo
    rows = load_prompts(context.recipe.data.given("prompts"), warn=tell)

    load_libraries(("ppo",))

    from align.ppo import train as ppo
    from stages.support.ppo_monitor import build_monitor
    from stages.support.ppo_roles import build_roles
    from stages.support.practice import to_practise
    from stages.support.reward_setup import reward_setup
    from stages.support.training import TrainingSetup

    setup = TrainingSetup.of(context, "ppo")
    reward = reward_setup(setup, rows)
    prompts, held = to_practise(setup, reward)
    roles = build_roles(setup, reward)
    monitor = build_monitor(setup, roles, held)
    context.confirm()
    checkpoints = context.checkpoints
    assert checkpoints is not None, "the runner makes them for a stage that resumes"
    with checkpoints.stop.deferred():  # to the end of an iteration
        metrics = ppo.train(
            roles,
            prompts,
            config,
            tracker=context.tracker,
            seed=context.seed,
            checkpoints=checkpoints,
            monitor=monitor,
        )
    setup.publish(roles.trained_policy())
    metrics |= {"ppo/data/rows": len(rows), "ppo/data/held_back": len(held)}
    metrics |= {"ppo/data/too_long": len(rows) - len(held) - len(prompts)}
    metrics |= {"ppo/score/mean": reward.mean, "ppo/score/std": reward.std}
    return StageResult(metrics, setup.handoff(prompts=[row.messages for row in rows]))


STAGE = aligned_stage("ppo", run, headline=HEADLINE)
