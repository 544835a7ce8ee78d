"""The language of messages, report and verdict."""

from __future__ import annotations

import os
from typing import Literal

Language = Literal["en", "ko"]
ASKED = ("ALIGN_LANG", "LC_ALL", "LC_MESSAGES", "LANG")
"""Environment variables, the first that is set decides."""


def language() -> Language:
    """ALIGN_LANG, or the language of the locale; English for any other."""
    wanted = next(filter(None, map(os.environ.get, ASKED)), "")
    return "ko" if wanted.lower().startswith("ko") else "en"
