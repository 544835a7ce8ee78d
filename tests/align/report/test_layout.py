"""The page on a phone, a tablet and a desk, as Chromium lays it out.

The page stands in frames of these widths within a page that measures them: it lets no script run in
itself. Model text is left out of what may not break: it may hold words of any length.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from align.report.render import render
from tests import summaries
from tests.browser import needs_chromium, opened

WIDTHS = (390, 768, 1280)
MEASURE = """
const INTERVAL = /\\[[^\\[\\]]{1,40}\\]/g;
const WORD = /(?:(?<!\\w)[-−+](?=\\d))?[A-Za-z0-9]+(?:[.,:]\\d+)*/g;
const name = node => node.parentElement.closest('[class],p,td,th,li,dd').outerHTML.slice(0, 90);
function lines(node, start, end) {
  const range = node.ownerDocument.createRange();
  range.setStart(node, start); range.setEnd(node, end);
  return [...range.getClientRects()].filter(r => r.width > 0 && r.height > 0);
}
function measure(page, wide) {
  const walk = page.createTreeWalker(page.body, 4);
  const boxes = [], found = {broken: [], out: [], over: [], cut: []};
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const text = node.data, parent = node.parentElement;
    if (!text.trim() || parent.closest('style,script,title')) continue;
    if (!parent.closest('.text,.prompt'))
      for (const wanted of [INTERVAL, WORD])
        for (const hit of text.matchAll(wanted)) {
          const rows = lines(node, hit.index, hit.index + hit[0].length);
          if (rows.some(r => r.top > rows[0].top + r.height / 2))
            found.broken.push([hit[0], name(node)]);
        }
    for (const r of lines(node, 0, text.length)) {
      if (!parent.closest('.scroll') && (r.right > wide + 0.5 || r.left < -0.5))
        found.out.push([text.slice(0, 40), r.left, r.right]);
      const rest = r.height / 4;  // a line's box is taller than its letters
      const upright = {top: r.top + rest, bottom: r.bottom - rest};
      boxes.push({node, left: r.left + 1, right: r.right - 1, ...upright});
    }
  }
  boxes.sort((a, b) => a.top - b.top);
  boxes.forEach((a, i) => {
    for (let j = i + 1; j < boxes.length && boxes[j].top < a.bottom; j++) {
      const b = boxes[j];
      if (a.node !== b.node && a.left < b.right && b.left < a.right)
        found.over.push([a.node.data.slice(0, 30), b.node.data.slice(0, 30), name(a.node)]);
    }
  });
  for (const box of page.body.querySelectorAll('*'))
    if (getComputedStyle(box).overflowX === 'hidden' && box.scrollWidth > box.clientWidth)
      found.cut.push([box.outerHTML.slice(0, 90), box.scrollWidth, box.clientWidth]);
  found.scrolls = page.documentElement.scrollWidth;
  found.boxes = boxes.length;
  return found;
}
onload = () => {
  const frames = [...document.querySelectorAll('iframe')];
  const told = frames.map(frame => measure(frame.contentDocument, frame.clientWidth));
  document.querySelector('pre').textContent = JSON.stringify(told);
};
"""


def measured(page: str, folder: Path) -> list[dict[str, Any]]:
    """What Chromium says of the page at each width, with all details open."""
    shown = html.escape(page.replace("<details>", "<details open>"), quote=True)
    frames = "".join(
        f'<iframe width="{width}" height="900" srcdoc="{shown}"></iframe>' for width in WIDTHS
    )
    around = (
        f'<!doctype html><meta charset="utf-8"><style>iframe {{ border: 0 }}</style>{frames}'
        f"<pre></pre><script>{MEASURE}</script>"
    )
    loaded = opened(around, folder, "--hide-scrollbars")
    return json.loads(html.unescape(re.findall(r"<pre>(.*)</pre>", loaded, re.DOTALL)[-1]))


@needs_chromium
@pytest.mark.parametrize(("language", "gold"), [("en", True), ("ko", True), ("ko", False)])
def test_nothing_runs_out_is_cut_overlaps_or_breaks_within_a_number(
    language: str, gold: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without gold the pictures show rewards, whose numbers are longer: about −20 here."""
    monkeypatch.setenv("ALIGN_LANG", language)
    means = {key: mean if gold else mean - 5 for key, mean in summaries.EVERY.items()}
    found = summaries.summary(means, gold=gold)
    samples = summaries.sample_rows(dict.fromkeys(summaries.EVERY, "가" * 90 + " " + "w" * 90))
    again = "make pipeline RECIPE=runs/tiny/report/recipe.yaml RUN=tiny-again"
    page, _ = render(
        found, samples, summaries.METRICS, showcase=3, made=summaries.MADE, again=again
    )
    for width, at in zip(WIDTHS, measured(page, tmp_path), strict=True):
        assert at["boxes"] > 1000
        assert at["scrolls"] == width
        assert (at["broken"], at["out"], at["over"], at["cut"]) == ([], [], [], []), width
