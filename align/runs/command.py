"""Read a command line, act, and end with an exit code: what all stages and commands share.

Errors a user can act on end as one line and a code: 0 done, 2 usage or recipe, 3 data, 4 diverged,
5 corrupt artifact, 75 full disk, 143 and 130 stopped by a signal.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from align.config import Recipe
from align.config.recipe import load_recipe, split_override
from align.messages import say, tell
from align.messages.errors import ConfigError, RetryableError, UserError, fault
from align.runs.artifacts import RETRYABLE
from align.runs.run_dir import open_run
from align.runs.signals import STOP, Stopped
from align.runs.tracking import silence_telemetry

WHERE = {"run": "", "runs_dir": "runs", "force": "false"}
"""Where and how to run: what beside the recipe's own keys is given as key=value."""


@dataclass(frozen=True)
class Command:
    """A command line, read: the recipe and where to run it."""

    recipe_path: Path
    recipe: Recipe
    run_dir: Path
    force: bool
    overridden: bool
    began: float
    """When the recipe was read, in seconds: what was touched since may be another by now."""


def take(items: Sequence[str], defaults: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Take the named keys out of `key=value` items; return their values and the other items."""
    values, rest = dict(defaults), []
    for item in items:
        key, value = split_override(item)
        if key in values:
            values[key] = value
        else:
            rest.append(item)
    return values, rest


def read_command(recipe_path: Path, items: Sequence[str], *, section: str | None = None) -> Command:
    """Read the recipe and the keys that say where and how to run: run, runs_dir, force."""
    began = time.time()
    chosen, rest = take(items, WHERE)
    if chosen["force"] not in ("true", "false"):
        raise ConfigError("force={force}: choose true or false", force=chosen["force"])
    recipe = load_recipe(recipe_path, rest, section=section, fallback_name=chosen["run"])
    run_dir = open_run(Path(chosen["runs_dir"]), chosen["run"] or recipe.name)
    return Command(recipe_path, recipe, run_dir, chosen["force"] == "true", bool(rest), began)


def command_line(
    help_text: str, action: Callable[[Path, list[str]], int], argv: Sequence[str] | None = None
) -> int:
    """Parse `RECIPE key=value…`, act, and turn what a user can act on into lines and a code."""
    import typer

    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

    recipe_file = say("recipe file, as stages/recipes/tiny.yaml")
    keys = say("settings; also run=NAME, runs_dir=DIR, force=true")

    @app.command(help=help_text)
    def command(
        recipe: Path = typer.Argument(metavar="RECIPE", help=recipe_file),  # noqa: B008
        settings: list[str] = typer.Argument(  # noqa: B008
            None,
            metavar="key=value…",
            help=keys,
        ),
    ) -> None:
        raise typer.Exit(exit_code_of(lambda: action(recipe, settings or [])))

    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        app(arguments, prog_name=f"python -m {_program()}")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def exit_code_of(action: Callable[[], int]) -> int:
    """Run an action under our signal handlers; return its exit code, errors told in one line."""
    silence_telemetry()  # what an action imports first would else have read the environment
    try:
        with STOP.handled():
            return action()
    except UserError as error:
        return _tell(error)
    except PermissionError as error:
        return _tell(
            UserError(
                "{file}: {reason}; change its permissions, or give another path",
                file=error.filename,
                reason=fault(error),
            )
        )
    except OSError as error:
        if error.errno not in RETRYABLE:
            raise
        return _tell(RetryableError("{error}; free what is short and run again", error=error))
    except Stopped as stop:
        tell(
            say(
                "stopped by {signal}; nothing half-done was published, the same command goes on",
                signal=stop,
            ),
            error=True,
        )
        return stop.exit_code


def _tell(error: UserError) -> int:
    for line in error.told().split("\n"):
        tell(say("error: {line}", line=line), error=True)
    return error.exit_code


def _program() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec is not None else "stages"
