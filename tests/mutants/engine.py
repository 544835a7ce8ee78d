"""Run tests on a library in which one line is another.

The parent has imported what is heavy (torch, transformers, peft, pytest) and nothing of ours. Each
mutant is one forked child: it imports the library with the changed line in place of the true one,
which never touches a file, runs the tests that should notice, and ends.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
LIMIT = 120
"""Seconds that a child may compute, and a tenth of those that it may take on a busy machine; a
mutant that never ends was not caught by a test."""
ARGUMENTS = ["-q", "-x", "-W", "ignore", "-pno:cacheprovider", "-pno:unraisableexception"]
PASSED, FAILED = 0, 1  # of pytest's exit codes; all others say that it could not run the tests


class Mutant(NamedTuple):
    """`old` → `new` in one file, and the tests of which at least one must fail."""

    file: str
    fault: str  # what the change would mean, in a few words
    old: str
    new: str
    tests: tuple[str, ...]

    def source(self) -> str:
        """The file with the change made."""
        text = (ROOT / self.file).read_text("utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file}: {self.old!r} is there {text.count(self.old)} times")
        return text.replace(self.old, self.new)

    def __str__(self) -> str:
        return f"{self.file}: {self.fault}"


class Changed(SourceFileLoader):
    """Loads a module from its file, with one line of it changed."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self.source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.source, self.path, "exec", dont_inherit=True)


class Finder(MetaPathFinder):
    """Sends the import of one module to `Changed`."""

    def __init__(self, mutant: Mutant) -> None:
        self.name = mutant.file.removesuffix(".py").replace("/", ".")
        self.path, self.source = str(ROOT / mutant.file), mutant.source()

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        loader = Changed(fullname, self.path, self.source)
        return spec_from_file_location(fullname, self.path, loader=loader)


def warm_up() -> None:
    """Import, once for all children, what the tests need and is not ours."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    import peft  # noqa: F401
    import pytest  # noqa: F401
    import torch  # noqa: F401
    import transformers.models.gpt2.modeling_gpt2
    import transformers.models.llama.modeling_llama  # noqa: F401

    gc.freeze()  # what is loaded now is never looked through again


def verdict(tests: Sequence[str], mutant: Mutant | None = None) -> int | None:
    """Exit code of pytest on `tests` in a child with the mutant in place; None = never ended."""
    assert not any(name.split(".")[0] == "align" for name in sys.modules), "loaded unchanged"
    sys.stdout.flush()
    child = os.fork()
    if not child:
        _run_tests(tests, mutant)
    _, status = os.waitpid(child, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else None


def _run_tests(tests: Sequence[str], mutant: Mutant | None) -> None:
    """In the child, which ends here."""
    code = 70
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT + 1))
        signal.alarm(10 * LIMIT)
        os.chdir(ROOT)
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        if mutant:
            sys.meta_path.insert(0, Finder(mutant))
        import pytest

        code = int(pytest.main([*ARGUMENTS, *tests]))
    finally:
        os._exit(code)


def main(mutants: Sequence[Mutant], *, only: Iterable[str] = ()) -> int:
    """Try each mutant of the files `only` (all, when empty); 0 if tests caught every one."""
    wanted = tuple(only)
    chosen = [m for m in mutants if not wanted or m.file in wanted]
    start, survivors = time.monotonic(), []
    for tests in sorted({mutant.tests for mutant in chosen}):
        if (code := verdict(tests)) != PASSED:
            fate = "fails" if code == FAILED else "never ends" if code is None else "does not run"
            print(f"error: {' '.join(tests)} {fate} as the library stands; mend that first")
            return 2
    for mutant in chosen:
        code = verdict(mutant.tests, mutant)
        if code != FAILED:
            survivors.append(mutant)
        fate = {FAILED: "killed", PASSED: "SURVIVED", None: "NEVER ENDED"}
        print(f"{fate.get(code, 'DID NOT RUN'):11} {mutant}", flush=True)
    for mutant in survivors:
        print(f"\n{mutant}\n  - {mutant.old}\n  + {mutant.new}\n  unseen by {mutant.tests}")
    killed = len(chosen) - len(survivors)
    print(f"\n{killed} / {len(chosen)} mutants killed in {time.monotonic() - start:.0f} s")
    return int(bool(survivors) or not chosen)
