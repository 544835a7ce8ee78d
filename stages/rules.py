"""Write the rules of a recipe's chain for make: which stages there are, what each waits for.

    python -m stages.rules stages/recipes/tiny.yaml run=first evaluate.policies='[sft, dpo]'

The Makefile includes what this prints. What a stage waits for is what the stage itself says it
builds on; an artifact taken from elsewhere (`parents.sft=FOLDER`) is waited for by nothing. Loads
no heavy library: make asks each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from align.config import Recipe
from align.config.methods import ALIGNED
from align.runs.command import command_line, read_command, take
from align.runs.dependencies import changed_unseen
from align.runs.manifest import MANIFEST
from stages.pipeline import STAGES


def main(argv: Sequence[str] | None = None) -> int:
    return command_line(__doc__ or "", _main, argv)


def _main(recipe_path: Path, items: Sequence[str]) -> int:
    chosen, rest = take(items, {"goals": ""})
    # Short keys (`make sft SET=trainer.max_steps=9`) are read as the stage that is asked for would.
    sections = [stage.section for stage in STAGES if stage.name == chosen["goals"]]
    command = read_command(recipe_path, rest, section=sections[0] if sections else None)
    print(rules(command.recipe, command.run_dir), end="")
    return 0


def rules(recipe: Recipe, run_dir: Path) -> str:
    """The chain as make reads it; `inputs` and `stage` are defined in the Makefile."""
    made = {stage.name: (run_dir / stage.name / MANIFEST).as_posix() for stage in STAGES}
    lines = [f"override run := {run_dir.as_posix()}", f"stages := {' '.join(made)}"]
    for stage in STAGES:
        name, target = stage.name, made[stage.name]
        parents = {*stage.parent_names(recipe)} - {*recipe.parents}
        command = f"rlhf,method={name}" if name in ALIGNED else name
        lines += [
            "",
            f"{name}: {target}",
            " ".join([f"{target}:", "$(inputs)", *(made[p] for p in made if p in parents)]),
            f"\t@$(call stage,{command})",
        ]
        if changed_unseen(run_dir, name):
            lines.append(f"{target}: FORCE")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
