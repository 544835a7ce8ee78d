"""Content hashes of values, files and code, remembered by file size and time of change.

What a hash says must not depend on where or when it was computed, so paths never enter one.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TEMPLATES = (".j2", ".css")
SETTLED_SECONDS = 2.0
"""A file changed this recently may change again within the same time stamp: not remembered."""


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
        # The time of change of the inode too: a program can set the other one back.
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        key = f"{kind} {path.resolve()}"
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


def code_files(
    module: str, *, root: Path, cache: HashCache, plumbing: tuple[str, ...] = ()
) -> dict[str, str]:
    """Return {file relative to root: hash} of a module and all of `root`'s modules it imports.

    Imports inside functions count, names imported from a package may be modules of it. Comments,
    docstrings and layout do not count: the hash is of the syntax tree. Templates that lie in a
    package that is imported count whole.

    Args:
        module: dotted name of the module to start from.
        root: folder that holds the packages.
        plumbing: modules, or packages with all that is in them, whose code cannot change a result;
            not followed, not hashed.
    """
    hashes: dict[str, str] = {}
    waiting, seen = [module], {module}
    while waiting:
        name = waiting.pop()
        path = _module_file(name, root)
        if path is None or any(f"{name}.".startswith(f"{each}.") for each in plumbing):
            continue
        digest, imports = cache.fact("code", path, _read_code)
        hashes[path.relative_to(root).as_posix()] = digest
        for beside in _templates(path):
            hashes[beside.relative_to(root).as_posix()] = cache.file(beside)
        package = name.rpartition(".")[0]
        for found in [package, *imports]:
            if found and found not in seen:
                seen.add(found)
                waiting.append(found)
    return dict(sorted(hashes.items()))


def _module_file(name: str, root: Path) -> Path | None:
    base = root.joinpath(*name.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def _templates(path: Path) -> list[Path]:
    """Files beside a package's `__init__.py` that its code renders."""
    if path.name != "__init__.py":
        return []
    return sorted(p for p in path.parent.iterdir() if p.suffix in TEMPLATES)


def _read_code(path: Path) -> tuple[str, list[str]]:
    """Return the hash of a source file's meaning, and the dotted names that it may import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = sorted(set(_imported(tree)))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [item for item in body if not _is_docstring(item)]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode("utf-8")).hexdigest(), imports


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
