"""Figures of the pages that count what the tests try: as many as there are."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.align.data import test_injection
from tests.align.report import test_hostile_page
from tests.align.runs import test_faults
from tests.documented import ROOT
from tests.stages import test_changed_inputs, test_drift, test_finite_weights

MISUSE = yaml.safe_load((ROOT / "tests" / "stages" / "misuse.yaml").read_text("utf-8"))
COUNTS = [
    ("docs/reliability.md", r"\| files added to an artifact .*?\| (\d+) \|", test_faults.ADDED),
    ("docs/reliability.md", r"\| links in a run directory .*?\| (\d+) \|", 3 * test_faults.LINKS),
    ("docs/reliability.md", r"last step ruined .*?\| (\d+) \|", test_finite_weights.CASES),
    ("docs/reliability.md", r"\| files written anew .*?\| (\d+) stages", test_changed_inputs.FILES),
    (
        "docs/reliability.md",
        r"\| one change at a time.*?\| (\d+) \|",
        [*test_drift.SETTINGS, *test_drift.CHANGES],
    ),
    (".github/SECURITY.md", r"text; (\d+) payloads", test_hostile_page.PAYLOADS),
    (".github/SECURITY.md", r"say, in (\d+) spellings", test_injection.SPELLINGS),
    ("CHANGELOG.md", r"(\d+) such mistakes", MISUSE),
]


@pytest.mark.parametrize(("page", "told", "tried"), COUNTS, ids=[told for _, told, _ in COUNTS])
def test_a_page_counts_what_is_tried(page, told, tried):
    (figure,) = re.findall(told, (ROOT / page).read_text("utf-8"))
    assert int(figure) == len(tried)
