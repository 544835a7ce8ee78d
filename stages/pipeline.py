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
from pathlib import Path
from typing import Any

from align.config import DataSource, Recipe, methods
from align.data import load_instructions, load_preferences, load_prompts
from align.messages import Window, clock, counted, say, tell
from align.runs.command import Command, command_line, exit_code_of, read_command
from align.runs.contract import Stage
from align.runs.freshness import State
from align.runs.inputs import local_path
from align.runs.preflight import check_sources
from align.runs.run_dir import lock
from align.runs.runner import check, make
from align.runs.threads import set_threads
from align.runs.tracking import silence_telemetry
from align.scoring.checks import load_checked_prompts
from stages import evaluate, report, reward, rlhf, sft
from stages.support.libraries import load_libraries

_BY_NAME = {
    stage.name: stage
    for stage in (sft.STAGE, reward.STAGE, *rlhf.STAGES, evaluate.STAGE, report.STAGE)
}
STAGES = tuple(_BY_NAME[name] for name in methods.STAGES)
LOADERS: dict[str, Callable[[DataSource], list[Any]]] = {
    "instructions": load_instructions,
    "preferences": load_preferences,
    "preferences_heldout": load_preferences,
    "prompts": load_checked_prompts,
    "evaluation": load_checked_prompts,
}
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
                if not ran:
                    silence_telemetry()
                    set_threads(command.recipe.model.threads)  # before torch is there
                    with Window(stage.name):
                        check_data(command.recipe)
                ran += 1
                code = in_child(stage, command, state)
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


def check_data(recipe: Recipe) -> None:
    """Read every local file that a stage will read: a bad row is told now, not in an hour.

    So is one whose messages the chat template of the recipe's model refuses.
    """
    sources: dict[str, DataSource | None] = {}
    for stage in needed(recipe):
        sources |= stage.data(recipe)
    rows = [
        row
        for name, source in counted(sources.items(), say("reading data"))
        if source is not None and local_path(name, source) is not None
        for row in LOADERS[name](source)
    ]
    if "sft" in recipe.parents:  # its tokenizer counts, and the recipe's model may be elsewhere
        return
    preload(stage.name for stage in needed(recipe))
    from align.data.chat import check_rows

    check_rows(base_tokenizer(recipe), rows)


def base_tokenizer(recipe: Recipe) -> Any:
    """The tokenizer of the recipe's model with the chat template that SFT will give it."""
    from align.models.load import load_tokenizer

    model = recipe.model
    return load_tokenizer(model.path, revision=model.revision, chat_template=model.chat_template)


def preload(names: Iterable[str]) -> None:
    """Import what these stages need, once for all the children to come."""
    load_libraries(names, "wandb")


def check_model(recipe: Recipe) -> None:
    """Refuse a base model that a stage of this run could not use, before the first one trains."""
    from align.sampling.self_check import check_fit

    stages = needed(recipe)
    prompts = {
        name: [row.messages for row in load_prompts(source)]
        for stage in stages
        for name, source in stage.data(recipe).items()
        if name in ("prompts", "evaluation") and source and local_path(name, source) is not None
    }
    check_fit(base_tokenizer(recipe), recipe, [stage.name for stage in stages], prompts=prompts)


def in_child(stage: Stage, command: Command, state: State) -> int:
    """Run a stage in a forked child and return its exit code; stop signals are passed on."""
    with Window(stage.name):  # closed before the fork, which has a window of its own
        preload(each.name for each in needed(command.recipe))
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _die_with(parent)
        os._exit(_child(stage, command, state))

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


def _child(stage: Stage, command: Command, state: State) -> int:
    """Make the stage; whatever happens, end here and never run on as a second parent."""
    try:
        code = exit_code_of(lambda: _made(stage, command, state))
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _made(stage: Stage, command: Command, state: State) -> int:
    if stage is sft.STAGE:
        check_model(command.recipe)
    make(stage, command, state)
    return 0


def _die_with(parent: int) -> None:
    """Have the kernel kill this child with the pipeline, so that the same command can go on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGKILL)


def show_table(run_dir: Path) -> None:
    """Print the report's table and verdict, if this run has one."""
    folder = run_dir / "report"
    if report.STAGE.text is not None and (folder / report.STAGE.text).is_file():
        tell((folder / report.STAGE.text).read_text(encoding="utf-8"), end="", laid_out=True)
        tell(say("report: {path}", path=folder / "report.html"))


if __name__ == "__main__":
    raise SystemExit(main())
