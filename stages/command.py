"""The command `align`: a recipe run, written, explained, examined; what came of a run.

    align run RECIPE key=value…     python -m stages.command run RECIPE key=value…

Thin over the library: `run` is stages.pipeline, and nothing here trains. Each command imports what
it needs when it is called, so that help and completion answer at once; only `run` loads torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from align.messages import say

app = typer.Typer(
    name="align",
    help=say("SFT, reward model, PPO and DPO, and a report that says whether alignment worked."),
    epilog=say(
        "In order: align new mine · align doctor mine.yaml · align run mine.yaml · align show "
        "mine. ALIGN_LANG=ko speaks Korean. Documentation: docs/index.md"
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit code."""
    try:
        app(list(sys.argv[1:] if argv is None else argv), prog_name="align")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def _end(action: Callable[[], int]) -> NoReturn:
    """Act; end with the exit code, what a user can act on told in one line."""
    from align.runs.command import exit_code_of

    raise typer.Exit(exit_code_of(action))


# ---------------------------------------------------------------------------- completion


def _run_names(incomplete: str) -> list[str]:
    return [path.parent.name for path in Path("runs").glob(f"{incomplete}*/.lock")]


def _keys(incomplete: str) -> list[str]:
    from stages.cli.explain import find

    return [found.key for found in find() if found.key.startswith(incomplete)]


def _items(incomplete: str) -> list[str]:
    return [f"{key}=" for key in _keys(incomplete)]


Recipe = Annotated[
    Path, typer.Argument(metavar="RECIPE", help=say("recipe file, as stages/recipes/tiny.yaml"))
]
Items = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="key=value…",
        help=say("settings; also run=NAME, runs_dir=DIR, force=true"),
        autocompletion=_items,
    ),
]
RunsDir = Annotated[Path, typer.Option(help=say("folder of the runs, as runs_dir= of `align run`"))]


# ---------------------------------------------------------------------------- commands


@app.command(
    help=say(
        "Run a recipe: all stages, then table and verdict.\n\nWhat is up to date is left as it is; "
        "a stopped run resumes."
    )
)
def run(recipe: Recipe, settings: Items = None) -> None:
    from stages import pipeline

    raise typer.Exit(pipeline.main([str(recipe), *(settings or [])]))


@app.command(
    help=say(
        "Write a recipe for your own model and files.\n\nOn a terminal it asks for what was not "
        "given; every file is read before the recipe is written."
    )
)
def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help=say("of the recipe, NAME.yaml, and of its runs"))
    ],
    base: Annotated[
        str | None, typer.Option(help=say("base model: a folder or a hub name"))
    ] = None,
    revision: Annotated[str | None, typer.Option(help=say("commit or tag of a hub model"))] = None,
    instructions: Annotated[
        str | None, typer.Option(help=say("file of requests and answers"))
    ] = None,
    preferences: Annotated[
        str | None, typer.Option(help=say("file of pairs: prompt, chosen, rejected"))
    ] = None,
    prompts: Annotated[str | None, typer.Option(help=say("file of prompts for PPO"))] = None,
    evaluation: Annotated[str | None, typer.Option(help=say("file of held-out prompts"))] = None,
    language: Annotated[str | None, typer.Option(help=say("of the comments: en or ko"))] = None,
    lora: Annotated[
        bool | None, typer.Option("--lora/--full", help=say("train adapters, or all weights"))
    ] = None,
    device: Annotated[str | None, typer.Option(help=say("auto, cpu or cuda"))] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help=say("ask nothing, take defaults"))
    ] = False,
) -> None:
    def act() -> int:
        from stages.cli.new import Options
        from stages.cli.new import new as write

        options = Options(
            base, revision, instructions, preferences, prompts, evaluation, language, lora, device
        )
        return write(name, options, ask=not yes and sys.stdin.isatty() and sys.stdout.isatty())

    _end(act)


@app.command("settings", help=say("Explain the settings: range, default, meaning."))
def explain(
    key: Annotated[
        str,
        typer.Argument(
            metavar="STAGE",
            help=say("only these, as ppo, data, sft.lora; sft.trainer: fields of TRL's class"),
            autocompletion=_keys,
        ),
    ] = "",
) -> None:
    def act() -> int:
        from stages.cli.explain import explain

        return explain(key)

    _end(act)


@app.command(help=say("Examine this machine, and what a recipe lacks."))
def doctor(
    recipe: Annotated[
        Path | None, typer.Argument(metavar="RECIPE", help=say("also examine this recipe"))
    ] = None,
    settings: Items = None,
    torch: Annotated[
        bool, typer.Option("--torch", help=say("also ask torch for the device (takes seconds)"))
    ] = False,
) -> None:
    def act() -> int:
        from stages.cli.doctor import doctor

        return doctor(recipe, settings or [], ask_torch=torch)

    _end(act)


@app.command(help=say("Show the table and the verdict of a run."))
def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help=say("its name, as `align runs` lists it"),
            autocompletion=_run_names,
        ),
    ],
    runs_dir: RunsDir = Path("runs"),
) -> None:
    def act() -> int:
        from stages.cli.runs import show

        return show(runs_dir, name)

    _end(act)


@app.command(help=say("List the runs: when, stages done, figures."))
def runs(runs_dir: RunsDir = Path("runs")) -> None:
    def act() -> int:
        from stages.cli.runs import list_runs

        return list_runs(runs_dir)

    _end(act)


if __name__ == "__main__":
    raise SystemExit(main())
