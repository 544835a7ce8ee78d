"""`align runs` and `align show`: what the manifests and the report of a run say."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from align.config.methods import POLICIES, STAGES
from align.config.section import suggest
from align.evaluation import SAMPLES
from align.messages import Sentence, say, tell
from align.messages.columns import aligned, is_terminal, terminal_width, width
from align.messages.errors import ConfigError, CorruptArtifactError
from align.report.text import name as label
from align.report.text import number
from align.runs.manifest import MANIFEST, Manifest, load_manifest
from stages.pipeline import show_table
from stages.report import RECIPE

HEADER = (Sentence("run"), Sentence("last stage"), Sentence("stages"), Sentence("figures"))


def show(runs_dir: Path, name: str) -> int:
    """Print table and verdict, and where the things of the run lie."""
    folder = runs_dir / name
    if not _stages(folder):
        known = [path.name for path in _runs(runs_dir)]
        hint = suggest(name, known) if known else say("no run is there yet: align run RECIPE")
        raise ConfigError("{folder}: no such run; {hint}", folder=folder, hint=hint)
    done = _stages(folder)
    if "report" not in done:
        raise ConfigError(
            "{folder}: has no report yet, only {done}; run its recipe to the end",
            folder=folder,
            done=", ".join(done),
        )
    show_table(folder)
    for what, place in _places(folder, done):
        tell(f"{what}: {place}")
    return 0


def _places(folder: Path, done: Sequence[str]) -> list[tuple[str, Path]]:
    """What to look at next, as far as it is there."""
    models = [(label(name), folder / name / "model") for name in done]
    files = [
        (say("all answers"), folder / "evaluate" / SAMPLES),
        (say("whole recipe"), folder / "report" / RECIPE),
    ]
    return [(what, place) for what, place in (*models, *files) if place.exists()]


def list_runs(runs_dir: Path) -> int:
    """Print a line per run, the one that changed last at the end."""
    folders = sorted(_runs(runs_dir), key=_changed)
    if not folders:
        tell(say("{runs_dir}: no runs yet; start one with: align run RECIPE", runs_dir=runs_dir))
        return 0
    rows = [tuple(head.said() for head in HEADER), *map(_row, folders)]
    lines = aligned(rows)
    if is_terminal(sys.stdout) and max(map(width, lines)) > terminal_width(sys.stdout):
        for name, *told in rows[1:]:
            tell("\n".join([name, *(f"    {cell}" for cell in told if cell)]))
        return 0
    tell("\n".join(lines))
    return 0


def _row(folder: Path) -> tuple[str, str, str, str]:
    told, figures = [], ""
    for name in _stages(folder):
        try:
            manifest = load_manifest(folder / name)
        except CorruptArtifactError:
            told.append(say("{stage} (damaged)", stage=name))
            continue
        told.append(name)
        figures = _figures(manifest) if name == "evaluate" else figures
    changed = datetime.fromtimestamp(_changed(folder)).strftime("%Y-%m-%d %H:%M")
    return folder.name, changed, " ".join(told), figures


def _figures(evaluation: Manifest) -> str:
    """Gold of each policy; the reward model's opinion where no rule judges."""
    for key in ("gold", "reward"):
        found = {p: evaluation.metrics.get(f"evaluate/{key}/{p}") for p in POLICIES}
        told = [f"{label(p)} {number(v)}" for p, v in found.items() if v is not None]
        if told:
            return f"{key}: {', '.join(told)}"
    return ""


def _runs(runs_dir: Path) -> list[Path]:
    return [path for path in sorted(runs_dir.glob("*")) if _stages(path)]


def _stages(folder: Path) -> list[str]:
    return [name for name in STAGES if (folder / name / MANIFEST).is_file()]


def _changed(folder: Path) -> float:
    return max((folder / name / MANIFEST).stat().st_mtime for name in _stages(folder))
