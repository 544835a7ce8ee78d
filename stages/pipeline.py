"""Bring every stage of a recipe up to date: sft, reward, dpo, ppo, evaluate, report.

    make pipeline                          the tiny recipe
    python -m stages.pipeline RECIPE.yaml key=value…

One process examines the stages in order. The first one that must run makes it import the heavy
libraries, once; each stage then runs in a forked child, so that it starts at once and starts clean:
nothing is trained before a fork. When nothing changed, torch is never loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from align.config import Recipe, methods
from align.messages import Window, clock, say, tell
from align.runs.command import Command, command_line, exit_code_of, read_command
from align.runs.contract import Stage
from align.runs.freshness import State, examine, find_parent
from align.runs.hashing import HASHES, HashCache
from align.runs.preflight import check_sources
from align.runs.run_dir import forget_untouched, lock
from align.runs.runner import check, make
from align.runs.threads import set_threads
from align.runs.tracking import silence_telemetry
from stages import evaluate, report, reward, rlhf, sft
from stages.answers import show_answers
from stages.preflight.rows import read
from stages.support.libraries import load_libraries

_BY_NAME = {
    stage.name: stage
    for stage in (sft.STAGE, reward.STAGE, *rlhf.STAGES, evaluate.STAGE, report.STAGE)
}
STAGES = tuple(_BY_NAME[name] for name in methods.STAGES)
PR_SET_PDEATHSIG = 1


def main(argv: Sequence[str] | None = None) -> int:
    return command_line(__doc__ or "", _main, argv)


def _main(recipe_path: Path, items: Sequence[str]) -> int:
    command = read_command(recipe_path, items)
    start, ran = time.monotonic(), 0
    with lock(command.run_dir):
        check_sources(needed(command.recipe), command.recipe, command.run_dir)
        for stage in needed(command.recipe):
            state = check(stage, command)
            if state.reasons:
                if not ran and (code := preflight(stage, command)):
                    forget_untouched(command.run_dir)
                    return code
                ran += 1
                action = partial(_made, stage, command, state)
                code = in_child(stage.name, action, command.recipe)
                if code:
                    return code
    if ran:
        tell(say("{ran} stages in {time}", ran=ran, time=clock(time.monotonic() - start)))
    show_table(command.run_dir)
    return 0


def needed(recipe: Recipe) -> list[Stage]:
    """Return the stages that the report of a recipe rests on, in order; taken ones left out."""
    wanted, waiting = set(), ["report"]
    while waiting:
        name = waiting.pop()
        if name not in wanted and name not in recipe.parents:
            wanted.add(name)
            waiting += _BY_NAME[name].parent_names(recipe)
    return [stage for stage in STAGES if stage.name in wanted]


def preload(names: Iterable[str]) -> None:
    """Import what these stages need, once for all the children to come."""
    load_libraries(names, "wandb")


def to_run(first: Stage, command: Command) -> list[Stage]:
    """The stages that this call will run: the first that must, and what rests on such a one."""
    cache = HashCache(command.run_dir / HASHES)
    stages, found = needed(command.recipe), {first.name}
    for stage in stages[stages.index(first) + 1 :]:
        if (
            command.force
            or found.intersection(stage.parent_names(command.recipe))
            or examine(stage, command.recipe, command.run_dir, cache).reasons
        ):
            found.add(stage.name)
    cache.save()
    return [stage for stage in stages if stage.name in found]


def preflight(first: Stage, command: Command) -> int:
    """Refuse, before the first stage, whatever would end a later one; tell the plan."""
    with Window("plan"):
        rows = read(needed(command.recipe), command.recipe)
    names = [stage.name for stage in to_run(first, command)]
    if names == [report.STAGE.name]:
        return 0
    sft_model = None
    if sft.STAGE.name not in names:
        cache = HashCache(command.run_dir / HASHES)
        sft_model = find_parent(sft.STAGE.name, command.recipe, command.run_dir, cache).model

    def planned() -> int:
        from stages.preflight.plan import examine as plan

        with Window("plan"):
            plan(command.recipe, names, rows, command.run_dir, sft_model)
        return 0

    return in_child("plan", planned, command.recipe)


def in_child(name: str, action: Callable[[], int], recipe: Recipe) -> int:
    """Act in a forked child and return its exit code; stop signals are passed on."""
    silence_telemetry()
    set_threads(recipe.model.threads)  # before torch is there
    with Window(name):  # closed before the fork, which has a window of its own
        preload(each.name for each in needed(recipe))
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _die_with(parent)
        os._exit(_child(action))

    received: list[int] = []

    def pass_on(number: int, _: object) -> None:
        received.append(number)
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(child, number)

    handlers = {n: signal.signal(n, pass_on) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        _, status = os.waitpid(child, 0)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    code = os.waitstatus_to_exitcode(status)
    if code == 0 and received:  # the stage got done first, but the pipeline was told to stop
        return 128 + received[0]
    return code if code >= 0 else 128 - code


def _child(action: Callable[[], int]) -> int:
    """Act; whatever happens, end here and never run on as a second parent."""
    try:
        code = exit_code_of(action)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _made(stage: Stage, command: Command, state: State) -> int:
    make(stage, command, state)
    return 0


def _die_with(parent: int) -> None:
    """Have the kernel kill this child with the pipeline, so that the same command can go on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGKILL)


def show_table(run_dir: Path) -> None:
    """Print a few answers and the report's table and verdict, if this run has them."""
    folder = run_dir / "report"
    if report.STAGE.text is not None and (folder / report.STAGE.text).is_file():
        show_answers(run_dir / evaluate.STAGE.name)
        tell((folder / report.STAGE.text).read_text(encoding="utf-8"), end="", laid_out=True)
        tell(say("report: {path}", path=folder / report.PAGE))


if __name__ == "__main__":
    raise SystemExit(main())
