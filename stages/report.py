"""Write report.html and report.md: did it align, and how is that known?

    python -m stages.report stages/recipes/tiny.yaml

Reads the evaluation and every stage's metrics.jsonl; loads no model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from align.config import Recipe
from stages.runner import Stage, StageContext, StageResult, main

ORDER = ("sft", "reward", "dpo", "ppo")


def parents(recipe: Recipe) -> tuple[str, ...]:
    """The evaluation, and every stage it rests on for its curves."""
    used = {"sft", "reward", *recipe.evaluate.policies}
    return ("evaluate", *(name for name in ORDER if name in used))


def run(context: StageContext) -> StageResult:
    from align.report.render import render
    from align.report.terminal import table
    from align.report.text import wrap
    from align.report.verdict import verdict

    evaluation = context.parents["evaluate"].path
    summary = json.loads((evaluation / "summary.json").read_text(encoding="utf-8"))
    samples = _rows(evaluation / "samples.jsonl")
    metrics = {
        name: _rows(context.parents[name].path / "metrics.jsonl")
        for name in ORDER
        if name in context.parents
    }
    showcase = context.recipe.evaluate.showcase
    page, notes = render(summary, samples, metrics, showcase=showcase)
    (context.out / "report.html").write_text(page, encoding="utf-8")
    (context.out / "report.md").write_text(notes, encoding="utf-8")
    print(table(summary))
    found = verdict(summary)
    for sentence in (found.headline, *found.sentences):
        print("\n".join(wrap(sentence, 100)))
    return StageResult(metrics={"report/costs/found": len(found.costs)})


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


STAGE = Stage(name="report", section="evaluate", parents=parents, run=run)

if __name__ == "__main__":
    raise SystemExit(main(STAGE))
