"""README, CONTRIBUTING, SECURITY and docs/ taken apart: links, anchors, blocks of code, marks.

A block that the tests do not run says why in a comment above it, `<!-- not run: needs a GPU -->`;
a block that is a file of the example names it, `<!-- file: my.yaml -->`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = (
    *(ROOT / name for name in ("README.md", "README.ko.md", "CONTRIBUTING.md")),
    ROOT / ".github" / "SECURITY.md",
    *sorted(DOCS.rglob("*.md")),
)
REASONS = ("a GPU", "a hub", "a network", "Windows", "long")
"""What a command may need that a test does not have."""
BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>not run|file): (?P<note>[^\n]+?) -->\n)?"
    r"```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
LINK = re.compile(r"\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """One fenced block of a page."""

    page: Path
    language: str
    text: str
    mark: str
    """`not run`, `file` or nothing."""
    note: str
    """The reason, or the file's name."""


def blocks(page: Path) -> list[Block]:
    return [
        Block(page, m["language"], m["text"], m["mark"] or "", m["note"] or "")
        for m in BLOCK.finditer(page.read_text(encoding="utf-8"))
    ]


def commands(block: Block) -> list[str]:
    """The lines of a shell block that do something."""
    return [line for line in block.text.splitlines() if line.strip() and line[0] != "#"]


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """Targets of a page's links that stay in the repository."""
    return [link for link in LINK.findall(prose(page)) if "://" not in link]


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as Python-Markdown and GitHub both write them."""
    found = set()
    for title in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        plain = re.sub(r"[^\w\s-]", "", title.lower()).strip()
        if plain.isascii():  # Python-Markdown numbers the others
            found.add(re.sub(r"[\s]", "-", plain))
    return found
