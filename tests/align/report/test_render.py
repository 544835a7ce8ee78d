"""The page: self-contained, closed to what models write, the same facts in both files."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import Any

import pytest

from align.report.render import render
from align.report.text import NAMES
from tests import summaries

VOID = {"meta", "wbr", "br", "rect", "line", "path", "circle", "polyline"}
PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><style>*{display:none}</style>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "\u202eevil\u2066 \x1b[2J\x00",
    "| a | b |\n\n# heading\n[x](http://x.y) <http://x.y>",
    "&lt;b&gt;",
)


class Page(HTMLParser):
    """Elements, attributes and text of a page, and whether its tags are balanced."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.style = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(key, value or "") for key, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(key, value or "") for key, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            self.style += data
        else:
            self.text.append(data)


def rendered(**changed: Any) -> tuple[str, str]:
    given = {
        "summary": summaries.summary(),
        "samples": summaries.sample_rows(),
        "metrics": summaries.METRICS,
    } | changed
    return render(
        given["summary"],
        given["samples"],
        given["metrics"],
        showcase=12,
        made=summaries.MADE,
        again="make pipeline RECIPE=runs/tiny/report/recipe.yaml RUN=tiny-again",
    )


@pytest.fixture(scope="module")
def clean() -> tuple[str, str]:
    return rendered()


def test_the_page_asks_for_nothing_and_runs_nothing(clean: tuple[str, str]) -> None:
    page = Page(clean[0])
    assert not {"script", "link", "img", "iframe", "object", "embed", "form", "base"} & set(
        page.tags
    )
    names = {name for name, _ in page.attributes}
    assert not {name for name in names if name.startswith("on")} | names & {"src", "style"}
    ids = {value for name, value in page.attributes if name == "id"}
    anchors = [value for name, value in page.attributes if name == "href"]
    assert len(anchors) > 6 and not [one for one in anchors if one[:1] != "#" or one[1:] not in ids]
    assert "http" not in clean[0].replace("http-equiv", "")
    assert "@import" not in page.style and "url(" not in page.style


def test_the_policy_allows_the_pages_own_style_only(clean: tuple[str, str]) -> None:
    page = Page(clean[0])
    policy = next(value for _, value in page.attributes if value.startswith("default-src"))
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_models_and_users_write_stays_text(clean: tuple[str, str], payload: str) -> None:
    samples = summaries.sample_rows(dict.fromkeys(summaries.MEANS, payload), prompt=payload)
    page, notes = rendered(samples=samples)
    assert Page(page).tags == Page(clean[0]).tags
    told = "".join(Page(page).text)
    first_line = payload.split("\n")[0]
    if first_line.isprintable():
        assert first_line in told
    for character in "\u202e\u2066\x1b\x00":
        assert character not in page + notes
    assert not re.search(r"(?<!\\)<(?!br)", notes)
    assert notes.count("\n# ") == 0 and notes.count("\n## ") == clean[1].count("\n## ")
    assert "](http" not in notes


def test_family_names_and_metric_names_are_foreign_text_too(
    clean: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        summaries, "FAMILIES", ("<script>x</script>", "a|b", "c", "d", "e", "f", "g")
    )
    metrics = {"sft": summaries.metric_rows("sft", {"<img src=x>/loss": (1, 0)}, steps=5)}
    page, notes = rendered(
        summary=summaries.summary(), samples=summaries.sample_rows(), metrics=metrics
    )
    assert not {"script", "img"} & set(Page(page).tags)
    assert "<script>" not in notes and "<img" not in notes


def test_page_and_markdown_hold_the_same_numbers(clean: tuple[str, str]) -> None:
    summary = summaries.summary()
    text = "".join(Page(clean[0]).text)
    notes = clean[1].replace("\\", "")
    for policy in summary["policies"].values():
        family = policy["gold"]["family"]["dangerous"]
        for estimate in (policy["gold"]["all"], policy["kl_token"], policy["stop_rate"], family):
            ends = f"[{estimate['low']:.2f}, {estimate['high']:.2f}]"
            assert ends in text and f"{estimate['mean']:.2f} {ends}" in notes
    assert f"n = {summary['policies']['sft']['gold']['all']['n']}" in text
    for answer in summaries.ANSWERS.values():
        assert answer in text and answer in notes
    for fact in ("2026-01-02", "tokenizer hash", "aaaaaaaaaaaa", "RUN=tiny-again", "✗ polite"):
        assert fact in text and fact in notes


def test_tables_of_the_markdown_have_one_width(clean: tuple[str, str]) -> None:
    blocks = re.findall(r"(?:^\|.*\n)+", clean[1], flags=re.MULTILINE)
    assert len(blocks) > 15
    for block in blocks:
        rows = block.splitlines()
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1, rows[0]
        assert set(rows[1]) <= set("|-: ")


@pytest.mark.parametrize(
    "names", [["sft"], ["sft", "rloo"], ["sft", "best_of_n", "grpo"], summaries.EVERY]
)
def test_any_policies_make_a_whole_page(names: list[str]) -> None:
    found = summaries.summary({name: summaries.EVERY[name] for name in names}, per_family=4)
    samples = summaries.sample_rows(dict.fromkeys(names, "an answer"))
    page, notes = rendered(summary=found, samples=samples)
    text = "".join(Page(page).text)
    for name in found["policies"]:
        assert NAMES[name] in text and NAMES[name] in notes
        assert f"\n.{name} {{ --c: var(--look-" in Page(page).style
    for height in set(re.findall(r'class="row h(\d+)"', page)):
        assert f".h{height} {{ height: {height}px; }}" in Page(page).style
    assert ("difference to SFT" in text) == ("Against SFT" in notes) == (len(names) > 1)
    assert ("best-of-n" in text) == ("best-of-n" in notes) == ("best_of_n" in names)
    assert not re.search(r"\bnan\b|None", page + notes)
    for block in re.findall(r"(?:^\|.*\n)+", notes, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in block.splitlines()}) == 1, block


def test_without_gold_pairs_curves_or_samples_the_page_still_stands() -> None:
    bare = summaries.summary({"sft": 0.5, "ppo": 0.7}, gold=False, per_family=2)
    page, notes = rendered(summary=bare | {"reward_model": None}, samples=[], metrics={})
    assert "No held-out preference pairs" in page and "No held-out preference pairs" in notes
    assert "How training went" not in page and "side by side" not in page
    assert not re.search(r"\bnan\b|None", page + notes)
    Page(page)


def test_the_same_input_gives_the_same_bytes(clean: tuple[str, str]) -> None:
    assert rendered() == clean


def test_the_report_loads_no_torch() -> None:
    code = "import sys, align.report.render, align.report.terminal; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
