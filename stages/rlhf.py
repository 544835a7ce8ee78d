"""RLHF: the SFT policy aligned with preferences, by PPO on a reward model or by DPO on pairs.

    python -m stages.rlhf stages/recipes/tiny.yaml method=ppo kl_coef=0.3
    python -m stages.rlhf stages/recipes/tiny.yaml method=dpo trainer.beta=0.1

PPO reads data.prompts and is our own (align/ppo/train.py); DPO reads data.preferences and is
trained by TRL. Both start from the published SFT policy, and both have it as their reference.
method=rloo and method=grpo are PPO without a critic, on its terms (stages/baselines.py).
"""

from __future__ import annotations

import math
from typing import Any

from align.config import DataSource, Recipe
from align.data import load_preferences, load_prompts
from align.ppo.metrics import HEADLINE
from align.runs.runner import Stage, StageContext, StageResult, main
from stages.baselines import GRPO, RLOO
from stages.support import reward_source

STEP_ZERO_TOLERANCE = 1e-4
"""Nats; TRL logs four decimals."""


def run_ppo(context: StageContext) -> StageResult:
    source, config = context.recipe.data.prompts, context.recipe.ppo
    assert source is not None, "the runner refuses a recipe without it"
    rows = load_prompts(source, warn=print)

    from align.data import chat
    from align.ppo import train as ppo
    from align.ppo.probe import hold_back
    from stages.support.ppo_monitor import build_monitor
    from stages.support.ppo_roles import build_roles
    from stages.support.reward_setup import reward_setup
    from stages.support.training import TrainingSetup, within

    setup = TrainingSetup.of(context, "ppo")
    reward = reward_setup(setup, rows)
    trained_on, held = hold_back(reward.rows, config.probe_prompts)
    encoded = [chat.prompt_ids(setup.tokenizer, row.messages) for row in trained_on]
    longest = setup.max_length - config.max_new_tokens
    prompts = within(encoded, len, longest, "prompts")
    roles = build_roles(setup, reward)
    monitor = build_monitor(setup, roles, held)
    checkpoints = context.checkpoints
    assert checkpoints is not None, "the runner makes them for a stage with checkpoint_every"
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


def dpo_data(recipe: Recipe) -> dict[str, DataSource | None]:
    return {"preferences": recipe.data.preferences}


def run_dpo(context: StageContext) -> StageResult:
    source = context.recipe.data.preferences
    assert source is not None, "the runner refuses a recipe without it"
    pairs = load_preferences(source, warn=print)

    from trl import DPOConfig, DPOTrainer

    from align.models import load as models
    from stages.support import trl as support
    from stages.support.training import TrainingSetup, encode_pairs

    class EncodedDPOTrainer(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset  # encoded by us; TRL would render and tokenise it again

    setup = TrainingSetup.of(context, "dpo")
    kept, encoded = encode_pairs(setup, pairs, "preferences")
    # With LoRA the reference is the policy with its adapter off. Without, it is a second copy: left
    # to itself, TRL would load whatever the model's config names.
    policy, reference = setup.load(), setup.load() if setup.lora is None else None
    for model in filter(None, (policy, reference)):
        models.disable_dropout(model)
    trainer = support.trainer(
        EncodedDPOTrainer, DPOConfig, setup, encoded, model=policy, ref_model=reference
    )
    metrics = support.fit(trainer, setup)
    first = next(row for row in trainer.state.log_history if row["step"] == 1)
    check_first_step(trainer.args.loss_type, first)
    setup.publish(trainer.model)
    metrics |= {"dpo/first/loss": first["loss"], "dpo/first/margin": first["rewards/margins"]}
    metrics |= {"dpo/data/rows": len(pairs), "dpo/data/too_long": len(pairs) - len(kept)}
    rows = [[p.prompt, p.chosen, p.rejected] for p in pairs]
    return StageResult(metrics, setup.handoff(preferences=rows))


def check_first_step(loss_types: list[str], first: dict[str, float]) -> None:
    """Before the first update the policy is the reference: rewards 0, loss ln 2."""
    rewards = max(abs(first["rewards/chosen"]), abs(first["rewards/rejected"]))
    assert rewards < STEP_ZERO_TOLERANCE, f"the reference is not the policy's start: {first}"
    if loss_types == ["sigmoid"]:
        assert abs(first["loss"] - math.log(2)) < STEP_ZERO_TOLERANCE, first


PPO = Stage(
    name="ppo",
    run=run_ppo,
    section="ppo",
    parents=reward_source.parents,
    data=reward_source.data,
    models=reward_source.external_models,
    headline=HEADLINE,
    checkpoint_every=lambda recipe: recipe.ppo.checkpoint_every,
)
DPO = Stage(
    name="dpo",
    run=run_dpo,
    section="dpo",
    parents=("sft",),
    data=dpo_data,
    headline=("dpo/train/loss", "dpo/rewards/accuracies", "dpo/rewards/margins"),
)
STAGES = (PPO, DPO, RLOO, GRPO)

if __name__ == "__main__":
    raise SystemExit(main(*STAGES))
