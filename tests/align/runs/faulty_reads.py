"""Reads that fail: the n-th call that looks at a folder raises what a disk may raise."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock


class FaultyReads:
    """Counts calls that read below a folder (open, read, stat, list); the n-th of them fails."""

    def __init__(self, folder: Path, fail_at: int = 0, code: int = 0) -> None:
        self.folder, self.fail_at, self.code = str(folder.resolve()), fail_at, code
        self.calls: list[str] = []

    def called(self, what: str, path: Any) -> None:
        if not isinstance(path, str | os.PathLike):
            return
        place = os.fspath(Path.cwd() / path)
        if not f"{place}/".startswith(f"{self.folder}/"):
            return
        self.calls.append(f"{what} {place.removeprefix(self.folder)}")
        if len(self.calls) == self.fail_at:
            raise OSError(self.code, os.strerror(self.code), place)

    @contextlib.contextmanager
    def injected(self) -> Iterator[FaultyReads]:
        """Within, calls are counted and the chosen one fails."""

        def counted(what: str, true: Callable[..., Any]) -> Callable[..., Any]:
            def call(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
                self.called(what, path)
                return true(path, *args, **kwargs)

            return call

        true_open = io.open

        def opened(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if set(mode) & set("wax+") or not isinstance(path, str | os.PathLike):
                return true_open(path, mode, *args, **kwargs)
            self.called("open", path)
            raw = io.BufferedReader(_Reading(self, path))
            return raw if "b" in mode else io.TextIOWrapper(raw, encoding=kwargs.get("encoding"))

        with contextlib.ExitStack() as stack:
            for name in ("stat", "lstat", "scandir", "listdir"):
                patch = mock.patch.object(os, name, counted(name, getattr(os, name)))
                stack.enter_context(patch)
            stack.enter_context(mock.patch.object(io, "open", opened))
            yield self


class _Reading(io.FileIO):
    def __init__(self, faults: FaultyReads, path: Any) -> None:
        super().__init__(path)
        self._faults, self._path = faults, path

    def readinto(self, buffer: Any) -> int | None:
        self._faults.called("read", self._path)
        return super().readinto(buffer)

    def readall(self) -> bytes:
        self._faults.called("read", self._path)
        return super().readall()
