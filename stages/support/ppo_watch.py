"""What watches a PPO stage: the alarms, and the probe where prompts carry checks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from align.data import Prompt, chat
from align.ppo.monitor import Watch
from align.ppo.probe import GoldProbe, Question
from align.ppo.roles import Roles
from stages.support.base import Base


def build_watch(base: Base, roles: Roles, held: Sequence[Prompt]) -> Watch:
    """The watch of this stage's run, with a probe on the prompts that were held back for it."""
    context, config = base.context, base.context.recipe.ppo
    room = base.max_length - config.max_new_tokens
    encoded = [Question(chat.prompt_ids(base.tokenizer, row.messages), row.checks) for row in held]
    questions = [question for question in encoded if len(question.ids) <= room]
    probe = None
    if questions:
        decode = partial(chat.decode, base.tokenizer)
        probe = GoldProbe(roles, questions, config, decode=decode)
    exact = base.arithmetic == torch.float32
    return Watch(config, probe, exact=exact, tell=context.tracker.note)
