"""What a person reads, in their language: English as it stands in the code, Korean from ko/."""

from align.messages.language import Language, language
from align.messages.say import say

__all__ = ["Language", "language", "say"]
