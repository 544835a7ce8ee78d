"""The mutations, read from the .txt files beside this one.

    @ align/maths/kl.py  tests/align/maths/test_kl.py    what is changed; who should notice

    # what the fault would mean, in a few words
    - the true text, which must be there exactly once
    + the changed text

Either text may have several lines; without `+` the true text is left out. Whoever changes a formula
changes its lines there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.mutants.engine import Mutant


def read(path: Path) -> Iterator[Mutant]:
    """Yield the mutants of one file; the error names the line that is of no known kind."""
    file, tests = "", ()
    for number, block in enumerate(path.read_text("utf-8").split("\n\n"), 1):
        lines: dict[str, list[str]] = {"@": [], "#": [], "-": [], "+": []}
        for line in block.strip("\n").split("\n"):
            if line[:1] not in lines:
                raise ValueError(f"{path.name}: block {number}: {line!r} starts with none of @#-+")
            lines[line[0]].append(line[2:])
        if lines["@"]:
            file, *tests = lines["@"][0].split()
        else:
            fault, old, new = ("\n".join(lines[sign]) for sign in "#-+")
            yield Mutant(file, fault, old, new, tuple(tests))


MUTANTS = [mutant for path in sorted(Path(__file__).parent.glob("*.txt")) for mutant in read(path)]
