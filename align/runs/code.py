"""The code that a stage's result depends on: what it imports, found without running it."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Sequence
from os.path import isfile
from pathlib import Path

from align.runs.hashing import HashCache

TEMPLATES = (".j2", ".css")
CHECKS = ("field_validator", "model_validator")


def code_files(
    modules: Sequence[str],
    *,
    root: Path,
    cache: HashCache,
    plumbing: tuple[str, ...] = (),
    declarations: str = "",
) -> dict[str, str]:
    """Return {file relative to root: hash} of modules and all of `root`'s modules they import.

    Imports inside functions count, names imported from a package may be modules of it. Comments,
    docstrings and layout do not count: the hash is of the syntax tree. Templates that lie in a
    package that is imported count whole.

    Args:
        modules: dotted names of the modules to start from.
        root: folder that holds the packages.
        plumbing: modules, or packages with all that is in them, whose code cannot change a result;
            not followed, not hashed.
        declarations: a package whose classes declare fields. The fields of a class, their checks
            and the package's own file, which gathers all of them, do not count: the values do.
    """
    hashes: dict[str, str] = {}
    ours = {path.name for path in root.iterdir()}
    waiting, seen = list(modules), set(modules)
    while waiting:
        name = waiting.pop()
        path = _module_file(name, root)
        left_out = name == declarations or any(f"{name}.".startswith(f"{p}.") for p in plumbing)
        if path is None or left_out:
            continue
        if declarations and name.startswith(f"{declarations}."):
            digest, imports = cache.fact("logic", path, _read_logic)
        else:
            digest, imports = cache.fact("code", path, _read_code)
        hashes[path.relative_to(root).as_posix()] = digest
        for beside in _templates(path):
            hashes[beside.relative_to(root).as_posix()] = cache.file(beside)
        package = name.rpartition(".")[0]
        for found in [package, *imports]:
            if found not in seen and found.partition(".")[0] in ours:
                seen.add(found)
                waiting.append(found)
    return dict(sorted(hashes.items()))


def _module_file(name: str, root: Path) -> Path | None:
    base = f"{root}/{name.replace('.', '/')}"
    files = (f"{base}.py", f"{base}/__init__.py")
    return next((Path(file) for file in files if isfile(file)), None)  # noqa: PTH113  asked often


def _templates(path: Path) -> list[Path]:
    """Files beside a package's `__init__.py` that its code renders."""
    if path.name != "__init__.py":
        return []
    return sorted(p for p in path.parent.iterdir() if p.suffix in TEMPLATES)


def _read_code(path: Path) -> tuple[str, list[str]]:
    """Return the hash of a source file's meaning, and the dotted names that it may import."""
    return _digest(ast.parse(path.read_text(encoding="utf-8")))


def _read_logic(path: Path) -> tuple[str, list[str]]:
    """The same of a file that declares settings, without these."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            node.body = [item for item in node.body if not _is_declaration(item)]
    return _digest(tree)


def _digest(tree: ast.AST) -> tuple[str, list[str]]:
    imports = sorted(set(_imported(tree)))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [item for item in body if not _is_docstring(item)]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode("utf-8")).hexdigest(), imports


def _is_declaration(node: ast.stmt) -> bool:
    """Whether part of a class is a field, or checks one."""
    if isinstance(node, ast.FunctionDef):
        called = (d.func for d in node.decorator_list if isinstance(d, ast.Call))
        return any(isinstance(name, ast.Name) and name.id in CHECKS for name in called)
    return isinstance(node, ast.AnnAssign)


def _imported(tree: ast.AST) -> Iterator[str]:
    """What stands below `if TYPE_CHECKING` is never imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from (name for other in node.orelse for name in _imported(other))
        else:
            yield from _imported(node)


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
