"""What the policies of a run answered, side by side on a few prompts: the end of a run."""

from __future__ import annotations

import json
from pathlib import Path

from align.data import spread
from align.evaluation import SAMPLES
from align.messages import one_line, say, tell
from align.messages.columns import pad, width
from align.report.text import name

SHOWN = 3
"""Prompts, evenly spaced over the evaluation."""


def show_answers(evaluation: Path) -> None:
    """Print the prompts and the greedy answer of each policy, if there is an evaluation."""
    file = evaluation / SAMPLES
    rows = file.read_bytes().splitlines() if file.is_file() else []
    if not rows:
        return
    tell(say("answers without sampling to {count} of the prompts:", count=min(SHOWN, len(rows))))
    for line in spread(rows, SHOWN)[:SHOWN]:
        row = json.loads(line)
        tell(f"  {one_line(str(row['prompt'][-1]['content']))}")
        labels = {policy: name(policy) for policy in row["responses"]}
        columns = max(map(width, labels.values()))
        for policy, label in labels.items():
            text = row["responses"][policy]["greedy"]["text"]
            shown = one_line(text.strip()) or say("(nothing)")
            tell(f"    {pad(label, columns)}  {shown}")
