"""Write report.html, report.md and report.txt: did it align, and how is that known?

    python -m stages.report stages/recipes/tiny.yaml

Reads the evaluation and every stage's metrics.jsonl; loads no model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from align.config import EvaluateConfig, Recipe
from align.config.methods import TRAINED
from align.evaluation import SAMPLES, SUMMARY
from align.messages import visible
from align.messages.errors import ConfigError
from align.runs.contract import Stage, StageContext, StageResult
from align.runs.runner import main
from align.runs.tracking import METRICS_FILE, read_metrics
from stages.support import reward_source

PAGE, TEXT = "report.html", "report.txt"
RECIPE = "recipe.yaml"


def parents(recipe: Recipe) -> tuple[str, ...]:
    """The evaluation, and every stage it rests on for its curves."""
    used = {*reward_source.parents(recipe), *recipe.evaluate.policies}
    return ("evaluate", *(name for name in TRAINED if name in used))


def run(context: StageContext) -> StageResult:
    from align.evaluation.summary import FORMAT
    from align.messages.columns import wrap
    from align.report.frontier import words
    from align.report.lineage import again, lineage
    from align.report.render import render
    from align.report.terminal import table
    from align.report.verdict import verdict

    evaluation = context.parents["evaluate"].path
    summary = json.loads((evaluation / SUMMARY).read_text(encoding="utf-8"))
    if summary["format"] != FORMAT:
        raise ConfigError(
            "{name}/summary.json: format={format}, expected {expected}; make the evaluation again",
            name=evaluation.name,
            format=summary["format"],
            expected=FORMAT,
        )
    samples = _rows(evaluation / SAMPLES)
    metrics = {
        name: read_metrics(context.parents[name].path / METRICS_FILE)
        for name in TRAINED
        if name in context.parents
    }
    context.confirm()
    showcase = context.recipe.evaluate.showcase
    recipe = context.recipe.model_dump(mode="json")
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
    (context.out / RECIPE).write_text(text, encoding="utf-8")
    manifests = [context.parents[name].manifest for name in (*metrics, "evaluate")]
    page, notes = render(
        summary,
        samples,
        metrics,
        showcase=showcase,
        made=lineage(manifests, summary["provenance"]["base_model"]),
        again=again(context.out.parent, RECIPE),
    )
    (context.out / PAGE).write_text(page, encoding="utf-8")
    (context.out / "report.md").write_text(notes, encoding="utf-8")
    found = verdict(summary)
    sentences = (found.headline, *found.sentences, *words(summary))
    lines = [table(summary), "", *(line for told in sentences for line in wrap(told, 100))]
    (context.out / TEXT).write_text(visible("\n".join(lines)) + "\n", encoding="utf-8")
    return StageResult(metrics={"report/costs/found": len(found.costs)})


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


STAGE = Stage(
    name="report",
    section="evaluate",
    in_words=True,
    unread=tuple(sorted({*EvaluateConfig.model_fields} - {"policies", "showcase"})),
    parents=parents,
    run=run,
    text=TEXT,
)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
