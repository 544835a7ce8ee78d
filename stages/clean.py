"""Remove a run directory, and nothing else.

make clean RUN=first
python -m stages.clean stages/recipes/tiny.yaml run=first
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from align.messages import say, tell
from align.runs.command import command_line, read_command
from align.runs.run_dir import remove_run


def main(argv: Sequence[str] | None = None) -> int:
    return command_line(__doc__ or "", _main, argv)


def _main(recipe_path: Path, items: Sequence[str]) -> int:
    run_dir = read_command(recipe_path, items).run_dir
    done = say("removed") if remove_run(run_dir) else say("nothing was made here yet")
    tell(f"{run_dir}: {done}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
