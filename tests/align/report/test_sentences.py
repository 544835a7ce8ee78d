"""What the page says around its numbers is said in both languages, with the same values."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from align import report
from align.messages.say import korean
from align.report.render import render
from tests import summaries

FOLDER = Path(report.__file__).parent
OWN = ("sentences.py", "checks.py", "lineage.py", "render.py")


def said() -> set[str]:
    """The literal sentences of the page's modules and templates."""
    found = set()
    for name in OWN:
        for node in ast.walk(ast.parse((FOLDER / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "say":
                found.add(ast.literal_eval(node.args[0]))
    for template in (FOLDER / "templates").glob("*.j2"):
        found |= set(re.findall(r'\bsay\("([^"]+)"', template.read_text(encoding="utf-8")))
    return found


def test_every_sentence_of_the_page_has_its_korean_with_the_same_values():
    sentences = said()
    assert len(sentences) > 80
    assert not [sentence for sentence in sentences if sentence not in korean()]
    values = re.compile(r"\{\w+\}")
    assert not [
        sentence
        for sentence in sentences
        if sorted(values.findall(sentence)) != sorted(values.findall(korean()[sentence]))
    ]


def test_the_templates_hold_no_english_of_their_own():
    for name in ("report.html.j2", "report.md.j2", "pictures.html.j2"):
        text = (FOLDER / "templates" / name).read_text(encoding="utf-8")
        text = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<style>.*?</style>", " ", text, flags=re.S)
        text = re.sub(r"<[^>]*>", " ", text)
        assert set(re.findall(r"[A-Za-z]{3,}", text)) <= {"doctype"}, name


def test_the_page_is_korean_where_korean_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGN_LANG", "ko")
    page, notes = render(
        summaries.summary(), summaries.sample_rows(), summaries.METRICS, showcase=1
    )
    assert '<html lang="ko">' in page
    for told in ("정렬되었는가?", "나란히 보는 질문 1개", "수치 읽는 법", "서울 / Seoul 포함"):
        assert told in page and told in notes
