"""Where a run's artifacts come from: each stage, what it was made from, and the command for it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from align.messages import clock, say
from align.report.text import name
from align.runs.manifest import Manifest

SHOWN = 12
"""Hexadecimal digits of a hash."""


@dataclass(frozen=True)
class Made:
    """One stage's artifact."""

    stage: str
    sources: tuple[str, ...]
    """The stages it was made from, and the data with their hashes."""
    fingerprint: str
    took: str
    where: str
    """Device and threads."""
    code: str
    """Git revision."""


def lineage(manifests: Iterable[Manifest], base: str) -> list[Made]:
    """What every stage of a run was made from, in the order of the manifests."""
    return [_made(manifest, base) for manifest in manifests]


def _made(manifest: Manifest, base: str) -> Made:
    parents = [f"{name(stage)} {print_[:SHOWN]}" for stage, print_ in manifest.parents.items()]
    data = [f"data.{source} {hash_[:SHOWN]}" for source, hash_ in manifest.splits.items()]
    if manifest.device == "cpu":
        where = say("cpu, threads: {threads}", threads=manifest.threads)
    else:
        where = manifest.device
    return Made(
        manifest.stage,
        (*(parents or [base]), *data),
        manifest.fingerprint[:SHOWN],
        clock(manifest.wall_seconds),
        where,
        manifest.git_revision or "",
    )


def again(run_dir: Path, recipe: str) -> str:
    """The command that makes the run once more, from the recipe that lies beside the report."""
    folder = Path("runs", run_dir.name) if run_dir.is_absolute() else run_dir
    path = shlex.quote(str(folder / "report" / recipe))
    return f"make pipeline RECIPE={path} RUN={shlex.quote(f'{run_dir.name}-again')}"
