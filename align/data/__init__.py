"""Instructions, preference pairs and prompts: read from files or the hub, checked row by row."""

from align.data.load import (
    load_instructions,
    load_preferences,
    load_prompts,
    prompt_key,
    with_unseen_prompts,
)
from align.data.rows import EncodedPrompt, Instruction, Preference, Prompt, spread

__all__ = [
    "EncodedPrompt",
    "Instruction",
    "Preference",
    "Prompt",
    "load_instructions",
    "load_preferences",
    "load_prompts",
    "prompt_key",
    "spread",
    "with_unseen_prompts",
]
