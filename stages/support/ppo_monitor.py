"""The monitor of a PPO stage: the alarms, and the probe where prompts carry checks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from align.data import Prompt, chat
from align.ppo.monitor import Monitor
from align.ppo.probe import GoldProbe, Question
from align.ppo.roles import Roles
from stages.support.training import TrainingSetup


def build_monitor(setup: TrainingSetup, roles: Roles, held: Sequence[Prompt]) -> Monitor:
    """The monitor of this stage's run, with a probe on the prompts that were held back for it."""
    context, config = setup.context, setup.context.recipe.ppo
    room = setup.max_length - config.max_new_tokens
    encoded = [Question(chat.prompt_ids(setup.tokenizer, row.messages), row.checks) for row in held]
    questions = [question for question in encoded if len(question.ids) <= room]
    probe = None
    if questions:
        decode = partial(chat.decode, setup.tokenizer)
        probe = GoldProbe(roles, questions, config, decode=decode)
    exact = setup.compute_dtype == torch.float32
    return Monitor(config, probe, exact=exact, warn=context.tracker.note)
