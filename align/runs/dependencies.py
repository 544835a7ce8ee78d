"""What a stage was made from, written down for make."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path

from align.runs.command import Command
from align.runs.contract import Stage
from align.runs.hashing import HashCache, folder_files
from align.runs.inputs import ROOT, library_versions, stage_code
from align.runs.manifest import MANIFEST


def write_dependencies(stage: Stage, command: Command, cache: HashCache) -> None:
    """Tell make what the stage was made from (as `gcc -MD` does), then mark it as up to date.

    The file is runs/RUN/.deps/STAGE.mk. It asks make to run the stage anyway when the recipe is
    another one than last time, or when last time had `key=value` settings.
    """
    recipe_path, recipe, run_dir = command.recipe_path, command.recipe, command.run_dir
    manifest = run_dir / stage.name / MANIFEST
    sources = [source for source in stage.data(recipe).values() if source is not None]
    local = [Path(s.path) for s in sources if s.revision is None]
    files = [recipe_path, *local, *(ROOT / name for name in stage_code(stage, recipe, cache))]
    files += filter(None, [recipe.model.template_file])
    models = stage.all_models(recipe).values()
    files += [model.witness for model in models if model.revision is None]
    target = _escape(manifest)
    names = list(dict.fromkeys(_escape(path) for path in files))
    wanted = str(recipe_path).replace("$", "$$")
    lines = [
        f"{target}: \\",
        *(f"  {name} \\" for name in names),
        "",
        *(f"{name}:" for name in names),  # a file that is gone is the stage's to complain about
        f'ifneq "$(RECIPE)" "{wanted}"' if not command.overridden else "ifeq (,)",
        f"{target}: FORCE",
        "endif",
        "",
    ]
    text = "\n".join(lines)
    place = run_dir / ".deps" / f"{stage.name}.mk"
    place.parent.mkdir(exist_ok=True)
    _write_if_other(place, text)
    models_files = [p for m in models if m.revision is None for p in _files_of(Path(m.path))]
    _note_stamps(place.with_suffix(".json"), [*files, *models_files], command.began)
    os.utime(manifest)


def changed_unseen(run_dir: Path, stage: str) -> bool:
    """Whether something that a stage was made from is another without being newer.

    make goes by what is newer: a file put back with its old date, also while the stage ran, another
    size under the same date and another version of a library are nothing to it.
    """
    try:
        known = json.loads((run_dir / ".deps" / f"{stage}.json").read_text(encoding="utf-8"))
        return bool(known["versions"] != library_versions()) or any(
            _stamp(Path(name)) != stamp for name, stamp in known["files"].items()
        )
    except FileNotFoundError:  # it never ran
        return False
    except (ValueError, KeyError, TypeError, AttributeError):  # torn
        return True


def _note_stamps(place: Path, files: Iterable[Path], began: float) -> None:
    """Note each file as it was when the command began; one touched since is known to nobody."""
    stamps = {os.path.relpath(file): _stamp(file, until=began) for file in files}
    _write_if_other(place, json.dumps({"versions": library_versions(), "files": stamps}))


def _write_if_other(place: Path, text: str) -> None:
    if not place.is_file() or place.read_text(encoding="utf-8") != text:
        place.write_text(text, encoding="utf-8")


def _stamp(file: Path, *, until: float = math.inf) -> list[int] | None:
    try:
        stat = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return [stat.st_size, stat.st_mtime_ns] if stat.st_ctime <= until else None


def _files_of(model: Path) -> list[Path]:
    return folder_files(model) if model.is_dir() else [model]


def _escape(path: Path) -> str:
    """Write a path as make reads it, relative to the directory the command runs in."""
    text = os.path.relpath(path).replace("$", "$$")
    for character in " #:%":
        text = text.replace(character, f"\\{character}")
    return text
