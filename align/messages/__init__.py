"""What a person reads, in their language: English as it stands in the code, Korean from ko/."""

from align.messages.language import Language, language
from align.messages.say import Sentence, filled, say
from align.messages.steps import counted, doing
from align.messages.visible import json_text, one_line, tell, visible
from align.messages.window import Window, clock, tell_amidst

__all__ = [
    "Language",
    "Sentence",
    "Window",
    "clock",
    "counted",
    "doing",
    "filled",
    "json_text",
    "language",
    "one_line",
    "say",
    "tell",
    "tell_amidst",
    "visible",
]
