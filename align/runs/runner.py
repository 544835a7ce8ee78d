"""Run one stage: `python -m stages.sft RECIPE.yaml key=value…`.

The runner tells `up to date` or which input changed, runs the stage in a private folder and
publishes the result by one rename. When a stage fails or is stopped nothing is published, and what
was published before stays.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from align.config import Recipe
from align.messages import Window, clock, doing, say, tell
from align.messages.errors import ConfigError, RetryableError
from align.runs import space
from align.runs.artifacts import Artifact, publish, workspace
from align.runs.checkpoints import Checkpoints, forget
from align.runs.command import Command, command_line, read_command, take
from align.runs.contract import Stage, StageContext, StageResult
from align.runs.dependencies import write_dependencies
from align.runs.freshness import Reading, State, examine
from align.runs.hashing import HASHES, HashCache
from align.runs.inputs import ROOT, library_versions
from align.runs.machine import computer, cpu_capability, device, git_revision
from align.runs.manifest import Handoff, Manifest, how_to_keep
from align.runs.mirror import WandbMirror
from align.runs.movement import curve_of, standstill
from align.runs.run_dir import lock
from align.runs.signals import STOP
from align.runs.threads import set_threads
from align.runs.tracking import METRICS_FILE, Tracker, silence_telemetry


def main(*stages: Stage, help_text: str | None = None, argv: Sequence[str] | None = None) -> int:
    """Bring one stage up to date from the command line; with several, `method=NAME` picks one.

    Args:
        help_text: what `--help` says; by default the docstring of the stage's module.
    """
    help_text = help_text or sys.modules[stages[0].run.__module__].__doc__ or ""
    return command_line(help_text, lambda recipe, items: _main(stages, recipe, items), argv)


def _main(stages: Sequence[Stage], recipe_path: Path, items: Sequence[str]) -> int:
    names = [stage.name for stage in stages]
    chosen, rest = take(items, {"method": names[0] if len(names) == 1 else ""})
    if chosen["method"] not in names:
        raise ConfigError(
            "method={method}: choose one of {names}",
            method=chosen["method"],
            names=", ".join(names),
        )
    stage = stages[names.index(chosen["method"])]
    command = read_command(recipe_path, rest, section=stage.section)
    with lock(command.run_dir):
        artifact = bring_up_to_date(stage, command)
    if stage.text is not None:
        tell((artifact.path / stage.text).read_text(encoding="utf-8"), end="", laid_out=True)
    return 0


def bring_up_to_date(stage: Stage, command: Command) -> Artifact:
    """Return the stage's artifact, made anew only if something it depends on changed."""
    state = check(stage, command)
    return state.artifact if not state.reasons and state.artifact else make(stage, command, state)


def check(stage: Stage, command: Command) -> State:
    """Find out whether a stage must run, and say so in one line."""
    cache = HashCache(command.run_dir / HASHES)
    with Window(stage.name, logs=False), doing(say("comparing with what is published")):
        state = examine(stage, command.recipe, command.run_dir, cache, force=command.force)
    cache.save()
    if state.reasons:
        shown = state.reasons[:3]
        more = len(state.reasons) - 3
        told = ", ".join(shown) + (say(" and {more} more", more=more) if more > 0 else "")
        tell(f"{stage.name:<9}{say('runs: {reasons}', reasons=told)}")
        published = state.artifact and state.artifact.manifest
        if published and (line := how_to_keep(published, state.inputs)) is not None:
            tell(f"{'':<9}{line}")
    else:
        tell(f"{stage.name:<9}{say('up to date')}")
        forget(command.run_dir, stage.name)  # left over if it was killed just after publishing
        write_dependencies(stage, command, cache)
    return state


def make(stage: Stage, command: Command, state: State) -> Artifact:
    """Run a stage in a private folder and publish what it left there."""
    silence_telemetry()
    set_threads(command.recipe.model.threads)
    with Window(stage.name, stage.headline) as window:
        return _made(stage, command, state, window)


def _made(stage: Stage, command: Command, state: State, window: Window) -> Artifact:
    start = time.monotonic()
    with doing(say("verifying what is about to be read")):
        reading = _reading(stage, command, state)
    if command.force:
        forget(command.run_dir, stage.name)
    parent = state.parents.get("sft")
    model = parent.model if parent else Path(command.recipe.model.path)
    if (line := space.check(stage, command.recipe, model, command.run_dir)) is not None:
        tell(f"{stage.name:<9}{line}")
    with workspace(command.run_dir / stage.name) as work:
        checkpoints = _checkpoints(stage, command, state, work / METRICS_FILE)
        # Closed after publishing: a tracker that does not answer holds no model back.
        with _mirror(stage, command, checkpoints) as mirror:
            try:
                with Tracker(work, stage.name, mirror=mirror, window=window) as tracker:
                    result = stage.run(
                        StageContext(
                            command.recipe,
                            work,
                            state.parents,
                            tracker,
                            command.recipe.seed,
                            checkpoints,
                            reading.confirm,
                        )
                    )
            except BaseException:
                _keep_metrics(work, command.run_dir / "failed" / f"{stage.name}.{METRICS_FILE}")
                raise
            with doing(say("publishing")):
                seconds = time.monotonic() - start
                manifest = _manifest(stage, command.recipe, state, result, seconds, checkpoints)
                target, curve = command.run_dir / stage.name, curve_of(work)
                artifact = publish(
                    work, target, manifest, step=curve[-1]["step"] if curve else None
                )
                forget(command.run_dir, stage.name)
                write_dependencies(stage, command, HashCache(command.run_dir / HASHES))
            _tell_done(stage, artifact, curve)
    return artifact


def _reading(stage: Stage, command: Command, state: State) -> Reading:
    try:
        return Reading(stage, command.recipe, command.run_dir, state)
    except RetryableError:  # a remembered hash may be the one that is wrong
        (command.run_dir / HASHES).unlink(missing_ok=True)
        raise


def _tell_done(stage: Stage, artifact: Artifact, curve: Sequence[Mapping[str, Any]]) -> None:
    took = clock(artifact.manifest.wall_seconds)
    done = say("done in {took} → {path}", took=took, path=artifact.path)
    tell(f"{stage.name:<9}{done}")
    if (line := standstill(stage.name, curve)) is not None:
        tell(f"{stage.name:<9}{line}")


def _manifest(
    stage: Stage,
    recipe: Recipe,
    state: State,
    result: StageResult,
    seconds: float,
    checkpoints: Checkpoints | None,
) -> Manifest:
    return Manifest(
        **Handoff.model_validate(result.handoff).model_dump(),
        stage=stage.name,
        fingerprint=state.fingerprint,
        inputs=state.inputs,
        config=recipe.model_dump(mode="json", include={"seed", "model", "data"} | stage.sections),
        parents={name: parent.manifest.fingerprint for name, parent in state.parents.items()},
        seed=recipe.seed,
        metrics=result.metrics,
        wall_seconds=round(seconds, 3),
        device=device(recipe),
        cpu=cpu_capability(),
        computers=[] if checkpoints is None else checkpoints.computers,
        threads=recipe.model.threads,
        versions={k.removeprefix("versions."): v for k, v in library_versions().items()},
        git_revision=git_revision(ROOT),
    )


def _checkpoints(stage: Stage, command: Command, state: State, curve: Path) -> Checkpoints | None:
    if not stage.resumes:
        return None
    section = getattr(command.recipe, stage.section or "", None)
    return Checkpoints(
        command.run_dir,
        stage.name,
        state.inputs,
        every=getattr(section, "checkpoint_every", 1),
        minutes=getattr(section, "checkpoint_minutes", None),
        curve=curve,
        stop=STOP,
        computer=lambda: computer(command.recipe),
    )


@contextmanager
def _mirror(
    stage: Stage, command: Command, checkpoints: Checkpoints | None
) -> Iterator[WandbMirror | None]:
    tracking = command.recipe.tracking
    if tracking.wandb == "off":
        yield None
        return
    mirror = WandbMirror(
        command.run_dir,
        group=command.run_dir.name,
        stage=stage.name,
        project=tracking.project,
        mode=tracking.wandb,
        config=command.recipe.model_dump(mode="json"),
        run_id=None if checkpoints is None else checkpoints.attempt,
    )
    try:
        yield mirror
    finally:
        with doing(say("sending the rest to wandb")):
            mirror.close()


def _keep_metrics(work: Path, place: Path) -> None:
    """Keep the curve of a failed attempt: it is what one looks at first."""
    if (work / METRICS_FILE).is_file() and (work / METRICS_FILE).stat().st_size:
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(work / METRICS_FILE, place)
