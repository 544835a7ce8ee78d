"""The page has no sentence of its own beside the catalogue, and is Korean where it is asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from align import report
from align.report.render import render
from tests import summaries

FOLDER = Path(report.__file__).parent


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
