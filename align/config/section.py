"""What every section of a recipe is made of: strict values with their ranges."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from align.messages import say

RUN_NAME = r"[^\W_][\w.-]{0,63}"
"""Letters and digits of any script: no path, no control or invisible character matches `\\w`."""
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
"""What the libraries below count in 32 bits."""
Names = Annotated[tuple[str, ...], Field(strict=False)]


def composed(name: str) -> str:
    """A name in Unicode's composed form, NFC: 한 typed or stored as three letters is one name."""
    return unicodedata.normalize("NFC", name)


class Section(BaseModel):
    """Frozen, no unknown keys, no silent conversion (`"3"` is not 3; 3 is a fine float)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def suggest(word: str, known: Sequence[str]) -> str:
    """What to do about a word that is not known: the nearest one that is, or all of them."""
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return say("did you mean `{name}`?", name=near[0])
    return say("known: {names}", names=", ".join(known))
