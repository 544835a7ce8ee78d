"""Render the report: one HTML page without scripts or requests, and the same facts as markdown.

Every text that a model or a user wrote is escaped (autoescape; `visible` for control characters,
once more over the whole page),
and the page's policy allows its own style, named by hash, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from align.messages import language, say, visible
from align.report import facts, frontier, pictures, sentences, signs, templates, text
from align.report.alarms import stage_alarms
from align.report.checks import graded
from align.report.curves import StageCurves, stage_curves
from align.report.lineage import Made
from align.report.provenance import provenance
from align.report.verdict import listed_in_full, verdict

FOLDER = Path(templates.__file__).parent


def render(
    summary: Mapping[str, Any],
    samples: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    showcase: int,
    made: Sequence[Made] = (),
    again: str = "",
) -> tuple[str, str]:
    """Return report.html and report.md.

    Args:
        summary: summary.json of the evaluation.
        samples: rows of its samples.jsonl.
        metrics: rows of metrics.jsonl by stage, in the order they ran.
        showcase: how many prompts to show side by side.
        made: what each stage was made from.
        again: the command that makes the run once more.
    """
    context = _context(summary, samples, metrics, showcase) | {"made": made, "again": again}
    page = _environment(autoescape=True).get_template("report.html.j2").render(context)
    notes = _environment(autoescape=False).get_template("report.md.j2").render(context)
    return visible(page), visible(notes)


def _environment(*, autoescape: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "visible": text.visible,
        "md": text.markdown,
        "number": text.number,
        "interval": text.interval,
        "whole": text.whole,
        "breakable": text.breakable,
        "policy": text.name,
        "scores": facts.scores,
        "crowded": facts.crowded,
        "graded": graded,
        "outline": signs.outline,
    }
    environment.globals |= {"say": say, "language": language()}
    return environment


def _context(
    summary: Mapping[str, Any],
    samples: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Sequence[Mapping[str, Any]]],
    showcase: int,
) -> dict[str, Any]:
    policies = summary["policies"]
    card = summary["reward_model"]
    judge = "gold" if policies["sft"]["gold"] is not None else "reward"
    judged = verdict(dict(summary))
    forests = [pictures.overview(policies, judge), pictures.families(policies, judge)]
    card_picture = None if card is None else pictures.reward_accuracy(card)
    drawn = [*forests, *([card_picture] if card_picture else [])]
    style = (FOLDER / "report.css").read_text(encoding="utf-8")
    style += signs.rules(picture.row_height for picture in drawn)
    seed = summary["provenance"]["seed"]
    parts: dict[str, Any] = {
        "panels": frontier.panels(summary),
        "alarms": [found for stage in metrics if (found := stage_alarms(stage, metrics[stage]))],
        "stages": _curves(metrics),
        "showcase": facts.showcase(samples, count=showcase, seed=seed),
    }
    anchors = {"panels": "distance", "stages": "training", "showcase": "answers"}
    shown = {anchors.get(part, part): found for part, found in parts.items()}
    return parts | {
        "style": style,
        "style_hash": base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        "summary": summary,
        "titles": sentences.titles(shown, len(parts["showcase"])),
        "said": _said(summary, judge, len(forests[1].rows)),
        "verdict": judged,
        "all_costs": listed_in_full(judged),
        "overview": forests[0],
        "families": forests[1],
        "tables": facts.numbers(summary),
        "family_tables": _family_tables(summary),
        "quantities": list(map(frontier.quantity_name, frontier.quantities(summary))),
        "at_kl": frontier.rows(summary),
        "words": frontier.words(summary),
        "card": card,
        "card_picture": card_picture,
        "provenance": provenance(summary),
    }


def _said(summary: Mapping[str, Any], judge: str, rows: int) -> dict[str, Any]:
    """The sentences around the numbers."""
    found = summary["best_of_n"]
    return {
        "asked": sentences.asked(summary),
        "overview": sentences.overview(summary, judge),
        "parts": sentences.parts(judge, rows),
        "best_of_n": sentences.best_of_n(found["drawn"]) if found else "",
        "reward_model": sentences.reward_model(summary["reward_model"]),
        "showcase": sentences.showcase(),
        "again": sentences.again(),
        "glossary": sentences.glossary(summary["setup"]["bootstrap"]),
    }


def _family_tables(summary: Mapping[str, Any]) -> list[tuple[str, list[facts.Line]]]:
    tables = (
        (say("Gold by family"), "gold"),
        (say("Gold by family, difference to SFT"), "gold_gain"),
        (say("Reward by family"), "reward"),
    )
    return [(title, lines) for title, key in tables if (lines := facts.by_family(summary, key))]


def _curves(metrics: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[StageCurves]:
    found = [stage_curves(stage, rows) for stage, rows in metrics.items()]
    return [stage for stage in found if stage.curves]
