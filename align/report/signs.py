"""Colour and mark of each policy in the pictures, told apart by shape as well as by colour.

A row of the table of methods (align/config/methods.py) names its look by number; the looks that no
row has yet are spare. Every colour is legible as text on its paper, light or dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from align.config.methods import BY_NAME, METHODS

COLOURS = (
    ("#74777c", "#9a9da2"),
    ("#0067a8", "#62b4ee"),
    ("#c24e00", "#ff9350"),
    ("#007a57", "#3cc79a"),
    ("#8a3f8f", "#d594da"),
    ("#8c6500", "#d9ae3c"),
    ("#a3325f", "#f287ae"),
    ("#4a52a8", "#9aa3f5"),
    ("#5d6c00", "#b3c94a"),
    ("#00737b", "#3fc4cf"),
    ("#7a4b2a", "#d3a07a"),
    ("#b0187c", "#ff8fd0"),
)
"""On light paper and on dark."""


def _regular(corners: int, radius: float) -> tuple[tuple[float, float], ...]:
    """A polygon with a corner at the top; y counts downwards."""
    angles = (2 * math.pi * i / corners for i in range(corners))
    return tuple((radius * math.sin(a), -radius * math.cos(a)) for a in angles)


CROSS = (
    *((-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4)),
    *((0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4)),
)
HEXAGON = ((-0.55, -1.2), (0.55, -1.2), (1.2, 0.0), (0.55, 1.2), (-0.55, 1.2), (-1.2, 0.0))
SHAPES: tuple[tuple[tuple[float, float], ...], ...] = (
    (),
    ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    ((0.0, -1.25), (1.2, 0.85), (-1.2, 0.85)),
    _regular(4, 1.3),
    (),
    ((0.0, 1.25), (1.2, -0.85), (-1.2, -0.85)),
    HEXAGON,
    CROSS,
    _regular(5, 1.25),
    ((-1.25, 0.0), (0.85, -1.2), (0.85, 1.2)),
    ((1.25, 0.0), (-0.85, -1.2), (-0.85, 1.2)),
    ((-1.1, -1.2), (1.1, -1.2), (-1.1, 1.2), (1.1, 1.2)),
)
"""Corners in units of the mark's size; none: a circle. The reward model stands in no picture with
the base."""


def outline(policy: str, size: float) -> str:
    """The outline of a policy's mark as an SVG path around (0, 0); empty for a circle."""
    corners = SHAPES[BY_NAME[policy].look] if policy in BY_NAME else ()
    points = [f"{round(x * size, 2) + 0:g} {round(y * size, 2) + 0:g}" for x, y in corners]
    return f"M{'L'.join(points)}Z" if points else ""


def rules(row_heights: Iterable[int]) -> str:
    """The part of the page's style that depends on the methods, and on how many there are.

    A row's height grows with the policies in it. It stands in a class because the page's policy
    (Content-Security-Policy) lets no element have a style of its own.
    """
    light, dark = (
        " ".join(f"--look-{i}: {pair[paper]};" for i, pair in enumerate(COLOURS))
        for paper in (0, 1)
    )
    lines = [
        f":root {{ {light} }}",
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}",
        *(f".{method.name} {{ --c: var(--look-{method.look}); }}" for method in METHODS),
        *(f".h{height} {{ height: {height}px; }}" for height in sorted(set(row_heights))),
    ]
    return "\n".join(lines) + "\n"
