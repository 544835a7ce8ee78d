"""Content hashes of values and files, remembered by file size and time of change.

What a hash says must not depend on where or when it was computed, so paths never enter one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HASHES = ".hashes.json"
"""Of a run directory: what was computed from files."""
SETTLED_SECONDS = 2.0
"""A file changed this recently may change again within the same time stamp: not remembered."""


UNREAD = (
    *(".md", ".rst", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".py", ".ipynb"),
    *(".bin", ".pt", ".pth", ".h5", ".msgpack", ".ot", ".onnx", ".tflite", ".gguf"),
)
"""Beside a model, nothing reads these: pages, pictures, its own code, weights but safetensors."""


def value_hash(value: Any) -> str:
    """Return the sha256 of a JSON value; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def file_hash(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class HashCache:
    """Facts computed from files, kept until a file's size, times of change or inode differ.

    An up-to-date check of a large run would otherwise read gigabytes. The cache is a convenience:
    deleting it, or failing to write it, only costs time. Its own file carries a checksum: a wrong
    hash in it would make good files look damaged.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, Any] = {}
        self._seen: dict[Path, list[int]] = {}
        self._places: dict[Path, str] = {}
        self._changed = False
        if path is not None:
            try:
                known = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError):
                known = None
            if isinstance(known, dict) and isinstance(facts := known.get("facts"), dict):
                self._known = facts if known.get("checksum") == value_hash(facts) else {}

    def file(self, path: Path, *, again: bool = False) -> str:
        """Return the sha256 of a file; `again`: read it whatever is known, and know that."""
        return self.fact("sha256", path, file_hash, again=again)

    def fact(
        self, kind: str, path: Path, compute: Callable[[Path], Any], *, again: bool = False
    ) -> Any:
        """Return `compute(path)`, or what it returned for the same unchanged file."""
        stat = path.stat()
        stamp = self._seen[path] = _stamp(stat)
        key = f"{kind} {self._place(path)}"
        known = self._known.get(key)
        if known is not None and known[0] == stamp and not again:
            return known[1]
        value = compute(path)
        if time.time() - max(stat.st_mtime, stat.st_ctime) > SETTLED_SECONDS:
            self._known[key] = [stamp, value]
            self._changed = True
        elif known is not None:
            del self._known[key]
            self._changed = True
        return value

    def _place(self, path: Path) -> str:
        if path not in self._places:
            self._places[path] = str(path.resolve())
        return self._places[path]

    def changed(self) -> list[Path]:
        """Return the files that were asked for and are no longer as they were when last asked."""
        return [path for path, stamp in self._seen.items() if _stamp_now(path) != stamp]

    def save(self) -> None:
        if self._path is None or not self._changed:
            return
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        content = {"facts": self._known, "checksum": value_hash(self._known)}
        try:
            temporary.write_text(json.dumps(content), encoding="utf-8")
            temporary.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _stamp(stat: os.stat_result) -> list[int]:
    # The time of change of the inode too: a program can set the other one back.
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _stamp_now(path: Path) -> list[int]:
    try:
        return _stamp(path.stat())
    except FileNotFoundError:
        return []


def folder_files(folder: Path) -> list[Path]:
    """Return the files under a folder in a fixed order, hidden ones left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def path_hash(path: Path, cache: HashCache) -> str:
    """Return the hash of a file, or of a folder's relative names and contents."""
    if path.is_file():
        return cache.file(path)
    return value_hash({str(p.relative_to(path)): cache.file(p) for p in folder_files(path)})


def model_hash(path: Path, cache: HashCache) -> str:
    """Return the hash of a model's file, or of what a library may load from a model's folder."""
    if path.is_file():
        return cache.file(path)
    papers = ("readme", "license", "notice")
    loaded = [
        p
        for p in folder_files(path)
        if p.suffix.lower() not in UNREAD and not p.name.lower().startswith(papers)
    ]
    return value_hash({p.relative_to(path).as_posix(): cache.file(p) for p in loaded})
