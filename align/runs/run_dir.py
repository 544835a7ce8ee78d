"""A run directory: named safely, held by one process at a time, with no links that lead out."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from align.config import RUN_NAME, composed
from align.messages import say
from align.messages.errors import ConfigError, UserError
from align.runs.artifacts import recover, retryable
from align.runs.hashing import HASHES

DYING_SECONDS = 5.0
OURS = (".deps", "failed", "quarantine", ".checkpoints")
"""Folders that stages write into beside their artifacts."""
NOTES = {".lock", HASHES}
"""What every command leaves there."""


def open_run(runs_dir: Path, name: str) -> Path:
    """Return the run directory, made if needed; refuse names and links that lead elsewhere."""
    if not re.fullmatch(RUN_NAME, name):
        raise ConfigError(
            "run={name}: a run name is at most 64 letters, digits, `.`, `_`, `-`, and "
            "starts with a letter or digit",
            name=name,
        )
    path = runs_dir / composed(name)
    if path.is_symlink():
        raise ConfigError("{path}: is a symbolic link; give another run=NAME", path=path)
    with retryable(say("{path}: cannot be made", path=path)):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def lock(run_dir: Path) -> Iterator[None]:
    """Hold a run directory; the kernel frees it when the process ends, however it ends."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with retryable(say("{path}: cannot be opened", path=run_dir / ".lock")):
        descriptor = os.open(run_dir / ".lock", flags, 0o644)
    try:
        _acquire(descriptor, run_dir)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        _refuse_links(run_dir)
        recover(run_dir)
        try:
            yield
        except UserError:
            forget_untouched(run_dir)
            raise
    finally:
        os.close(descriptor)  # a forked child that still has it open keeps the lock


def forget_untouched(run_dir: Path) -> None:
    """Remove a run directory in which nothing was made: a refused command leaves nothing behind."""
    if {path.name for path in run_dir.iterdir()} <= NOTES:
        shutil.rmtree(run_dir)


def _refuse_links(run_dir: Path) -> None:
    """Refuse a link where stages write: they would write through it, anywhere."""
    folders = [run_dir, *(run_dir / name for name in OURS)]
    folders += (run_dir / ".checkpoints").glob("*")
    for folder in folders:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as all_:
            for entry in all_:
                if entry.is_symlink():
                    raise ConfigError(
                        "{path}: is a symbolic link, and a run directory holds none; remove it and "
                        "run again",
                        path=entry.path,
                    )


def remove_run(path: Path) -> bool:
    """Remove a run directory that no process is using; tell whether there was anything in it.

    Every command leaves its lock there: a folder without one was made by somebody else.
    """
    if not any(path.iterdir()):
        path.rmdir()
        return False
    if not (path / ".lock").is_file():
        raise ConfigError(
            "{path}: no stage ever ran here, so it is not removed; give RUN=NAME", path=path
        )
    with lock(path), retryable(say("{path}: cannot be removed", path=path)):
        shutil.rmtree(path)
    return True


def _acquire(descriptor: int, run_dir: Path) -> None:
    """Take the lock; a holder that was just killed is given the moment its children need to end."""
    patience = time.monotonic() + DYING_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pid = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            if _lives(pid) or time.monotonic() > patience:
                raise UserError(
                    "{run_dir}: in use by process {pid}; wait for it, or give another run=NAME",
                    run_dir=run_dir,
                    pid=pid or "unknown",
                ) from None
            time.sleep(0.05)


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError):  # of another user; not written yet
        pass
    return True
