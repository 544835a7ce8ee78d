"""What a person reads, in their language: English as it stands in the code, Korean from ko/."""

from align.messages.language import Language, language
from align.messages.say import filled, say
from align.messages.visible import json_text, one_line, tell, visible

__all__ = ["Language", "filled", "json_text", "language", "one_line", "say", "tell", "visible"]
