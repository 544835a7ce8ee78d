"""The monitor of a PPO stage: the alarms, and the probe where prompts carry checks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from align.data import Prompt, chat
from align.ppo.monitor import Monitor
from align.ppo.probe import GoldProbe
from align.ppo.roles import Roles
from stages.support.training import TrainingSetup


def build_monitor(setup: TrainingSetup, roles: Roles, held: Sequence[Prompt]) -> Monitor:
    """The monitor of this stage's run, with a probe on the prompts that were held back for it."""
    context, config = setup.context, setup.context.recipe.ppo
    room = setup.max_length - config.max_new_tokens
    encoded = chat.encode_prompts(setup.tokenizer, held)
    prompts = [prompt for prompt in encoded if len(prompt.ids) <= room]
    probe = None
    if prompts:
        decode = partial(chat.decode, setup.tokenizer)
        probe = GoldProbe(roles, prompts, config, decode=decode)
    exact = setup.compute_dtype == torch.float32
    return Monitor(config, probe, exact=exact, warn=context.tracker.note)
