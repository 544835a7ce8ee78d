"""The sentences that the code says to people, found where they are written.

An error is given its sentence, `say` is given one, and a row's error a problem and a remedy. Each
is a literal, or is looked up in a table of literals of the same file.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[3]
CATALOGUE = ROOT / "align" / "messages" / "ko"
ARGUMENTS = {"RowError": (1, 2), "_LimitError": (1, 2)}
"""Which arguments are sentences; of `say` and of other errors it is the first."""


class Said(NamedTuple):
    """One sentence, or None where the code does not say which."""

    sentence: str | None
    place: str
    folder: str
    """Of the code, and the file of the catalogue that has its Korean."""


def said() -> Iterator[Said]:
    """What every error and every call of `say` says, in the order of the files."""
    files = sorted([*(ROOT / "align").rglob("*.py"), *(ROOT / "stages").rglob("*.py")])
    trees = {path.relative_to(ROOT): ast.parse(path.read_text("utf-8")) for path in files}
    kind = "kind"  # of an error, where it is looked up first
    speaking = {"say", "Sentence", kind, *ARGUMENTS, *error_names(trees.values())}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if node.func.id not in speaking or path == Path("align/messages/say.py"):
                continue
            for number in ARGUMENTS.get(node.func.id, (0,)):
                for sentence in written(node.args[number], tree):
                    yield Said(sentence, f"{path}:{node.lineno}", folder_of(path))
    for path in sorted((ROOT / "align").rglob("*.j2")):
        for sentence in re.findall(r'\bsay\("([^"]+)"', path.read_text("utf-8")):
            yield Said(sentence, path.name, folder_of(path.relative_to(ROOT)))


def written(node: ast.expr, tree: ast.Module) -> Iterator[str | None]:
    """The sentences that an argument can be."""
    match node:
        case ast.Constant(value=str(sentence)):
            yield sentence
        case ast.Subscript(value=ast.Name(id=name)) | ast.Name(id=name) if name.isupper():
            yield from table(name, tree)
        case ast.IfExp(body=one, orelse=other):
            yield from written(one, tree)
            yield from written(other, tree)
        case ast.Call(func=ast.Attribute(value=ast.Constant(), attr="join")):
            return  # lines that were said before
        case ast.Attribute(value=ast.Name(id="error" | "self"), attr="sentence"):
            return  # an error's own
        case _:
            yield None


def table(name: str, tree: ast.Module) -> Iterator[str]:
    """The texts of a table of this file: of a mapping its values."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            value = node.value
            values = value.values if isinstance(value, ast.Dict) else [value]
            for each in values:
                texts = each.args[1:] if isinstance(each, ast.Call) else [each]
                for text in texts:
                    yield from (n.value for n in ast.walk(text) if isinstance(n, ast.Constant))


def folder_of(path: Path) -> str:
    inside = path.parts[1] if path.parts[0] == "align" and len(path.parts) > 2 else path.parts[0]
    return "messages" if inside == "align" else inside


def error_names(trees: Iterable[ast.Module]) -> set[str]:
    """Names of `UserError` and of all classes that come from it."""
    names = {"UserError"}
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    while found := {name for name, its in bases.items() if its & names} - names:
        names |= found
    return names
