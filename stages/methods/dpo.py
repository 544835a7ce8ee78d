"""DPO: the SFT policy aligned with preference pairs, trained by TRL, without a reward model.

    python -m stages.rlhf stages/recipes/tiny.yaml method=dpo trainer.beta=0.1

Reads data.preferences. The published SFT policy is the start and the reference.

Source: Rafailov 2023, arXiv:2305.18290; the loss as a formula: `dpo_loss` in align/maths/losses.py.
"""

from __future__ import annotations

from typing import Any

from align.data import load_preferences
from align.messages import tell
from align.runs.contract import StageContext, StageResult
from stages.support.aligned import aligned_stage
from stages.support.libraries import load_libraries


def run(context: StageContext) -> StageResult:
    pairs = load_preferences(context.recipe.data.given("preferences"), warn=tell)

    load_libraries(("dpo",))

    from trl import DPOConfig, DPOTrainer

    from stages.support import trl as support
    from stages.support.compact_head import score_labels_only
    from stages.support.encoded import encode_pairs
    from stages.support.preferences import policy_and_reference, published, rewards_are_zero
    from stages.support.training import TrainingSetup

    class EncodedDPOTrainer(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset  # encoded by us; TRL would render and tokenise it again

    setup = TrainingSetup.of(context, "dpo")
    kept, encoded = encode_pairs(setup, pairs, "preferences")
    policy, reference = policy_and_reference(setup)
    trainer = support.trainer(
        EncodedDPOTrainer, DPOConfig, setup, encoded, model=policy, ref_model=reference
    )
    weights = ("log_sum_sq_probs",) if trainer.use_weighting else ()
    score_labels_only(trainer, outputs=("entropy", "is_top1", "mean_logits", *weights))
    with support.prompts_shared(trainer):
        metrics = support.fit(trainer, setup, check_start=rewards_are_zero(setup))
    return published(setup, trainer.model, metrics, pairs, too_long=len(pairs) - len(kept))


STAGE = aligned_stage(
    "dpo", run, headline=("dpo/train/loss", "dpo/rewards/accuracies", "dpo/rewards/margins")
)
