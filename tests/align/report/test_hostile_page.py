"""The page in a browser: nothing that models, data or names hold is run, with and without its
policy."""

from __future__ import annotations

import copy
import re

import pytest

from align.messages import visible
from align.report.render import render
from tests import summaries
from tests.browser import needs_chromium, opened

RUN = "document.documentElement.setAttribute('data-ran',1)"
PAYLOADS = [
    f"<script>{RUN}</script>",
    f"<ScRiPt>{RUN}</sCrIpT>",
    f"<script\n>{RUN}</script\n>",
    f"<script/x>{RUN}</script>",
    f"<scr<script>ipt>{RUN}</script>",
    f'"><script>{RUN}</script>',
    f"'><script>{RUN}</script>",
    f"`><script>{RUN}</script>",
    f"</style><script>{RUN}</script>",
    f"</title><script>{RUN}</script>",
    f"</textarea><script>{RUN}</script>",
    f"</p></article></main><script>{RUN}</script>",
    f"--><script>{RUN}</script>",
    f"]]><script>{RUN}</script>",
    f"<!--><script>{RUN}</script>-->",
    f"<![CDATA[<script>{RUN}</script>]]>",
    f"<noscript><p title='</noscript><script>{RUN}</script>'>",
    f"<template><script>{RUN}</script></template><script>{RUN}</script>",
    f"<img src=x onerror={RUN}>",
    f'<img src="x" onerror="{RUN}">',
    f"<img/src=x/onerror={RUN}>",
    f'" onerror="{RUN}" x="',
    f'" onmouseover="{RUN}" style="position:fixed;inset:0',
    f"' autofocus onfocus='{RUN}",
    f"<svg onload={RUN}>",
    f"<svg><script>{RUN}</script></svg>",
    f"<svg><animate onbegin={RUN} attributeName=x dur=1s>",
    f"<svg><set onbegin={RUN} attributeName=x>",
    f"<math><mtext></form><form><mglyph><style></math><img src onerror={RUN}>",
    f"<body onload={RUN}>",
    f"<details open ontoggle={RUN}>",
    f"<video><source onerror={RUN}></video>",
    f"<audio src=x onerror={RUN}>",
    f"<input autofocus onfocus={RUN}>",
    f"<marquee onstart={RUN}>x</marquee>",
    f"<iframe srcdoc='<script>parent.{RUN}</script>'></iframe>",
    f'<iframe src="javascript:parent.{RUN}"></iframe>',
    f'<object data="javascript:{RUN}"></object>',
    f'<embed src="javascript:{RUN}">',
    f'<meta http-equiv="refresh" content="0;url=javascript:{RUN}">',
    "<base href='http://evil.example/'>",
    "<link rel=stylesheet href='http://evil.example/x.css'>",
    f"<a href='javascript:{RUN}' id=x>x</a><style>@keyframes a{{}}</style>",
    f"<style>*{{animation:a}}@keyframes a{{}}</style><b onanimationstart={RUN}>",
    f"&lt;script&gt;{RUN}&lt;/script&gt;",
    f"&#60;script&#62;{RUN}&#60;/script&#62;",
    f"\\u003cscript\\u003e{RUN}\\u003c/script\\u003e",
    f"{{{{ ''.__class__ }}}}{{% raw %}}<script>{RUN}</script>",
    f"\x00<script>{RUN}</script>\x1b\u202e",
    f"＜script＞{RUN}＜/script＞\ufeff<script\ufeff>{RUN}</script>",
]


@pytest.fixture(scope="module")
def hostile() -> tuple[str, str]:
    """Page and markdown of a report in which every foreign text is a payload."""
    assert len(PAYLOADS) == 50
    patch = pytest.MonkeyPatch()
    patch.setattr(summaries, "FAMILIES", tuple(PAYLOADS))
    try:
        summary = copy.deepcopy(summaries.summary())
        samples = [
            row
            for payload in PAYLOADS
            for row in summaries.sample_rows(
                dict.fromkeys(summaries.MEANS, payload), prompt=payload, per_family=1
            )[:1]
        ]
    finally:
        patch.undo()
    for key in ("run", "recipe", "device", "base_model"):
        summary["provenance"][key] = PAYLOADS[0] + PAYLOADS[5] + PAYLOADS[21]
    return render(summary, samples, summaries.METRICS, showcase=len(samples))


@needs_chromium
@pytest.mark.parametrize("policy", ["as published", "without its policy"])
def test_a_browser_runs_nothing(hostile, tmp_path, policy):
    page = hostile[0]
    if policy == "without its policy":
        page, count = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
        assert count == 1
    told = opened(page, tmp_path)
    assert "data-ran" not in told.split("<head>")[0]
    assert "evil.example" in told  # as text: the page is whole
    live = page.replace("<main>", f"<main><script>{RUN}</script>", 1)
    ran = "data-ran" in opened(live, tmp_path).split("<head>")[0]
    assert ran == (policy == "without its policy")  # the test can fail, and the policy holds


def test_no_acting_character_is_left_in_page_and_markdown(hostile):
    for text in hostile:
        assert visible(text) == text
