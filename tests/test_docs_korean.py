"""The Korean pages say what the English ones say: the same commands, the same figures."""

from __future__ import annotations

import re

import pytest

from align.messages.say import korean
from tests.documented import DOCS, ROOT, blocks, commands, prose

PAIRS = {
    "README": (ROOT / "README.md", ROOT / "README.ko.md"),
    "quickstart": (DOCS / "quickstart.md", DOCS / "ko" / "quickstart.md"),
    "own data": (DOCS / "own-data.md", DOCS / "ko" / "own-data.md"),
    "report": (DOCS / "tutorials" / "reading-the-report.md", DOCS / "ko" / "reading-the-report.md"),
    "troubleshooting": (DOCS / "troubleshooting.md", DOCS / "ko" / "troubleshooting.md"),
}
OWN_EXAMPLE = {"own data"}
"""Pages whose example is another one, with figures of its own."""


def told(page):
    """The commands of a page, without what is said of them."""
    lines = [line for b in blocks(page) if b.language == "sh" for line in commands(b)]
    return {re.sub(r"\s+#.*", "", line) for line in lines}


def figures(page):
    """Numbers with their point, of a page without code, addresses of links and the licence."""
    text = re.sub(r"\]\([^)]*\)|`[^`]*`|Apache-2.0", "", prose(page).split("## Project layout")[0])
    return set(re.findall(r"\d+(?:[.,:]\d+)*", text))


@pytest.mark.parametrize("name", PAIRS)
def test_both_languages_give_the_same_commands(name):
    english, korean = map(told, PAIRS[name])
    assert english == korean
    assert english or name == "troubleshooting"


@pytest.mark.parametrize("name", sorted(PAIRS.keys() - OWN_EXAMPLE))
def test_both_languages_give_the_same_figures(name):
    english, korean = map(figures, PAIRS[name])
    assert english == korean and len(english) > 3


def test_both_readmes_show_the_same_results_and_recipe():
    shown = []
    for page in PAIRS["README"]:
        own = [block.text for block in blocks(page) if block.language in ("", "yaml")][:2]
        shown.append([re.sub(r" *#.*", "", text) for text in own])
    assert shown[0] == shown[1] and "gold [95 %]" in shown[0][0]


def test_every_korean_page_that_mirrors_an_english_one_is_compared():
    mirrored = {korean.name for _, korean in PAIRS.values()}
    here = {page.name for page in (DOCS / "ko").glob("*.md")}
    assert here - mirrored == {"windows-wsl.md"}


def test_messages_of_the_korean_page_are_those_that_are_told():
    """What stands between the dots is in one sentence of the catalogue, letter for letter."""
    rows = re.findall(r"^\|(.*?)\|", PAIRS["troubleshooting"][1].read_text("utf-8"), re.MULTILINE)
    messages = [told for row in rows for told in re.findall("`([^`]*[가-힣]{2}[^`]*)`", row)]
    known = [re.sub(r"\{.*?\}", "…", sentence) for sentence in korean().values()]
    assert len(messages) > 8
    for message in messages:
        parts = re.split("…|오류: |경보 ", message)
        parts = [part.strip() for part in parts if re.search("[가-힣]", part)]
        assert any(all(part in sentence for part in parts) for sentence in known), message
