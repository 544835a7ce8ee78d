"""Every stage's inputs in a made-up project, and what may be changed in it: one thing at a time."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from align.config.recipe import load_recipe
from align.runs import hashing, inputs
from align.runs.artifacts import Artifact
from align.runs.hashing import HashCache, value_hash
from align.runs.manifest import FileRecord, Manifest
from stages.pipeline import STAGES

NAMES = tuple(stage.name for stage in STAGES)
RECIPE = {
    "name": "drift",
    "model": {"path": "base", "chat_template": "template.jinja"},
    "data": {
        name: f"{name}.jsonl"
        for name in ("instructions", "preferences", "preferences_heldout", "prompts", "evaluation")
    },
    "ppo": {"lora": {"r": 4}},
    "evaluate": {"policies": ["base", "sft", "dpo", "kto", "ppo", "rloo", "grpo"]},
}


class Project:
    """A recipe with its files, a copy of this project's code, and an artifact of every stage."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "code"
        for name in ("align", "stages"):
            left_out = shutil.ignore_patterns("__pycache__")
            shutil.copytree(inputs.ROOT / name, self.root / name, ignore=left_out)
        for name in RECIPE["data"].values():
            (folder / name).write_text(json.dumps({"prompt": name}))
        (folder / "template.jinja").write_text("{{ messages }}")
        (folder / "base").mkdir()
        for name in ("config.json", "tokenizer.json", "model.safetensors", "README.md"):
            (folder / "base" / name).write_text(name)
        (folder / "recipe.yaml").write_text(json.dumps(RECIPE))
        self.cache = HashCache()
        self.items: list[str] = []
        self.parents = {name: manifest(name) for name in NAMES}

    def fingerprints(self) -> dict[str, str]:
        """The hash of each stage's inputs, its parents' own apart from it."""
        recipe = load_recipe(self.folder / "recipe.yaml", self.items)
        found = {}
        for stage in STAGES:
            parents = {n: Artifact(Path(n), self.parents[n]) for n in stage.parent_names(recipe)}
            found[stage.name] = value_hash(inputs.stage_inputs(stage, recipe, parents, self.cache))
        return found


def manifest(name: str, **changes: Any) -> Manifest:
    files = {
        "model/w": FileRecord(sha256=name, size=1),
        "metrics.jsonl": FileRecord(sha256="", size=1),
    }
    fields = {"fingerprint": name, "files": files, "inputs": {}, "config": {}, "seed": 0}
    return Manifest(stage=name, **fields | changes)


class Change:
    """One project, one change of it, taken back at the end of a test."""

    def __init__(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        self.project, self.patch = project, monkeypatch
        self.before: dict[Path, bytes | None] = {}

    def set(self, *items: str) -> None:
        """`key=value` on the command line."""
        self.project.items = list(items)

    def write(self, name: str, text: str) -> None:
        """A file of the project."""
        path = self.project.folder / name
        self.before.setdefault(path, path.read_bytes() if path.exists() else None)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def same_size_and_date(self, name: str) -> None:
        path = self.project.folder / name
        stat, text = path.stat(), path.read_text()
        self.write(name, text.swapcase())
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    def touch(self, name: str, seconds: float) -> None:
        stat = (self.project.folder / name).stat()
        os.utime(self.project.folder / name, (stat.st_atime + seconds, stat.st_mtime + seconds))

    def copy(self, name: str, to: str, item: str) -> None:
        """Read the same from another place."""
        source, target = self.project.folder / name, self.project.folder / to
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        self.set(f"{item}={to}")

    def code(self, file: str, old: str, new: str) -> None:
        """An edit of a source file."""
        text = (self.project.root / file).read_text()
        assert old in text, f"{file} has no {old!r}"
        self.write(f"code/{file}", text.replace(old, new, 1))

    def logic(self, file: str) -> None:
        """A line of code at a file's end."""
        text = (self.project.root / file).read_text()
        self.write(f"code/{file}", f"{text}\n_more = 1\n")

    def version(self, name: str) -> None:
        """Another version of a library."""
        true = importlib.metadata.version
        self.patch.setattr(
            importlib.metadata, "version", lambda asked: "9" if asked == name else true(asked)
        )
        inputs.library_versions.cache_clear()

    def parent(self, name: str, **changes: Any) -> None:
        """Another artifact of a stage."""
        self.project.parents[name] = manifest(name, **changes)

    def content(self, name: str, file: str = "model/w") -> None:
        files = {**manifest(name).files, file: FileRecord(sha256="other", size=1)}
        self.parent(name, files=files)

    def gpu(self) -> None:
        """A GPU with a driver, and torch built for it."""
        self.patch.setattr(inputs, "GPU_FILES", (str(self.project.folder),))
        self.version("torch")

    def undo(self) -> None:
        for path, content in self.before.items():
            path.unlink() if content is None else path.write_bytes(content)
        self.project.items = []
        self.project.parents = {name: manifest(name) for name in NAMES}


def settled(monkeypatch: pytest.MonkeyPatch, project: Project) -> None:
    """No GPU, whatever this machine has; hashes are remembered at once."""
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(inputs, "ROOT", project.root)
    monkeypatch.setattr(inputs, "GPU_FILES", ())
    monkeypatch.setattr(hashing, "SETTLED_SECONDS", -1.0)
    monkeypatch.setenv("ALIGN_LANG", "en")
