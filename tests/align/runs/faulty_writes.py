"""Writes that fail: the n-th call that changes a folder is met by a full disk, or by a signal."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import safetensors.torch
from safetensors import SafetensorError

CHANGING = ("mkdir", "rename", "replace", "chmod", "fsync", "pwrite", "ftruncate")


def disk_full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FaultyWrites:
    """Counts calls that write to a folder or below it; the n-th meets `happens`."""

    def __init__(self, folder: Path, at: int = 0, happens: Callable[[], None] = disk_full) -> None:
        self.folder, self.at, self.happens = f"{folder.resolve()}/", at, happens
        self.calls: list[str] = []

    def called(self, what: str, path: Any) -> None:
        if isinstance(path, int):  # a descriptor
            path = Path(f"/proc/self/fd/{path}").readlink()
        if isinstance(path, str | os.PathLike):
            if not f"{Path.cwd() / path}/".startswith(self.folder):
                return
            path = Path(re.sub(r"^\.tmp-.*", ".tmp", Path(path).name))
        self.calls.append(f"{what} {path}")
        if len(self.calls) == self.at:
            self.happens()

    @contextlib.contextmanager
    def injected(self) -> Iterator[FaultyWrites]:
        """Within, calls are counted and the chosen one is met."""

        def counted(what: str, true: Callable[..., Any]) -> Callable[..., Any]:
            def call(path: Any, *args: Any, **kwargs: Any) -> Any:
                self.called(what, path)
                return true(path, *args, **kwargs)

            return call

        true_open, true_save = io.open, safetensors.torch.save_file

        def opened(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if not set(mode) & set("wax+"):
                return true_open(path, mode, *args, **kwargs)
            self.called("open", path)
            file = true_open(path, mode, *args, **kwargs)
            true_write = file.write

            def write(content: Any) -> Any:
                self.called("write", path)
                return true_write(content)

            file.write = write
            return file

        def saved(tensors: Any, path: Any) -> None:
            true_save(tensors, path)
            try:
                self.called("save_file", path)
            except OSError as error:  # as safetensors tells it, half of the file written
                os.truncate(path, Path(path).stat().st_size // 2)
                raise SafetensorError(f"I/O error: full (os error {error.errno})") from None

        with contextlib.ExitStack() as stack:
            for name in CHANGING:
                patch = mock.patch.object(os, name, counted(name, getattr(os, name)))
                stack.enter_context(patch)
            stack.enter_context(mock.patch.object(io, "open", opened))
            stack.enter_context(mock.patch("builtins.open", opened))
            stack.enter_context(mock.patch.object(safetensors.torch, "save_file", saved))
            yield self
