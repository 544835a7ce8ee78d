"""What every section of a recipe is made of: strict values with their ranges."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

RUN_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
"""What the libraries below count in 32 bits."""
Names = Annotated[tuple[str, ...], Field(strict=False)]


class Section(BaseModel):
    """Frozen, no unknown keys, no silent conversion (`"3"` is not 3; 3 is a fine float)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
