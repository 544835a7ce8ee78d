"""The heavy libraries, imported one by one and counted: it takes seconds, and longer from a disk
that has not read them yet."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from align.config.methods import TRL
from align.messages import counted, say

HEAVY = ("torch", "transformers", "datasets", "peft")


def load_libraries(stages: Iterable[str], *more: str) -> None:
    """Import what these stages need; a stage that TRL trains needs its trainer."""
    trainers = (f"trl.trainer.{TRL[name].lower()}_trainer" for name in stages if name in TRL)
    for module in counted((*HEAVY, *more, *trainers), say("loading libraries")):
        importlib.import_module(module)
