"""Artifacts on disk: published whole or not at all, verified when read.

The commit protocol: build in a fresh folder beside the target, sync every file, write the manifest
last, sync the folder, rename. A crash at any point leaves the old artifact, or the new one, or
(between two renames) the old one under a hidden name that `recover` moves back.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from align.messages import say
from align.messages.errors import (
    ConfigError,
    CorruptArtifactError,
    RetryableError,
    UnlistedFileError,
    UserError,
    fault,
)
from align.runs.finite import check_files
from align.runs.hashing import HashCache
from align.runs.manifest import (
    MANIFEST,
    FileRecord,
    Manifest,
    dump_manifest,
    load_manifest,
    reading,
)

WORK, OLD = ".tmp-", ".old-"
RETRYABLE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE, errno.ETIMEDOUT),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EBUSY),
}


@dataclass(frozen=True)
class Artifact:
    """A verified folder: `model/` (and `adapter/`), metrics.jsonl, manifest.json."""

    path: Path
    manifest: Manifest

    @property
    def model(self) -> Path:
        """Full weights and tokenizer, loadable by plain transformers."""
        return self.path / "model"

    @property
    def adapter(self) -> Path | None:
        """The LoRA adapter, where the stage trained one."""
        return self.path / "adapter" if self.manifest.kind == "adapter" else None


def recover(run_dir: Path) -> None:
    """Clear what a killed process left: half-built folders go, a moved-aside artifact returns."""
    for path in run_dir.glob(f"{WORK}*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in sorted(run_dir.glob(f"{OLD}*")):
        target = run_dir / path.name.removeprefix(OLD).rpartition("-")[0]
        if target.exists():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.rename(target)


@contextlib.contextmanager
def retryable(what: str) -> Iterator[None]:
    """Turn a full disk, a quota or an I/O fault into one line with exit code 75."""
    try:
        yield
    except OSError as error:
        kind = RetryableError if error.errno in RETRYABLE else UserError
        raise kind(
            "{what}: {reason}{place}; put that right and run again",
            what=what,
            reason=fault(error),
            place=f" ({error.filename})" if error.filename and error.filename not in what else "",
        ) from error


@contextlib.contextmanager
def safetensors_faults() -> Iterator[None]:
    """Give back the OSError that safetensors wraps up when a disk is full."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


# ---------------------------------------------------------------------------- publishing


@contextlib.contextmanager
def workspace(target: Path) -> Iterator[Path]:
    """Yield a fresh private folder beside `target`, removed afterwards unless it was published."""
    _refuse_link(target)
    with retryable(say("{path}: cannot be written", path=target.parent)):
        work = Path(tempfile.mkdtemp(prefix=f"{WORK}{target.name}-", dir=target.parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def publish(work: Path, target: Path, manifest: Manifest, *, step: int | None = None) -> Artifact:
    """Make `work` the artifact at `target` by one rename; the manifest is the last file written.

    Args:
        step: how far the stage is, to say when a tensor that is not finite became so.

    Raises:
        DivergedError: a tensor in a file of `work` is not finite.
    """
    _refuse_link(target)
    check_files(work, what=manifest.stage, step=step)
    with retryable(say("{path}: cannot be published", path=target)):
        manifest = manifest.model_copy(update={"files": _seal(work)})
        (work / MANIFEST).write_text(dump_manifest(manifest), encoding="utf-8")
        _sync(work / MANIFEST)
        for folder in [p for p in work.rglob("*") if p.is_dir()] + [work]:
            _sync(folder)
        work.chmod(0o755)  # mkdtemp makes it private
        aside = target.with_name(f"{OLD}{target.name}-{os.getpid()}")
        if target.exists():
            target.rename(aside)
        work.rename(target)
        _sync(target.parent)
    shutil.rmtree(aside, ignore_errors=True)
    return Artifact(target, manifest)


def _seal(work: Path) -> dict[str, FileRecord]:
    """Sync every file to disk and record its size and hash."""
    cache = HashCache()
    records = {}
    for path in sorted(work.rglob("*")):
        if path.is_symlink():
            raise CorruptArtifactError("{path}: a stage may not publish a symbolic link", path=path)
        if path.is_file():
            _sync(path)
            name = path.relative_to(work).as_posix()
            records[name] = FileRecord(sha256=cache.file(path), size=path.stat().st_size)
    return records


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_link(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ConfigError(
            "{target}: is not a plain folder; move it away and run again", target=target
        )


# ---------------------------------------------------------------------------- reading


def exists(path: Path) -> bool:
    """Whether something is there; a fault while looking is no answer."""
    try:
        with reading(path):
            path.lstat()
    except CorruptArtifactError:
        return False
    return True


def read_artifact(path: Path, cache: HashCache | None = None) -> Artifact:
    """Return a verified artifact.

    Args:
        cache: answers for files unchanged since it hashed them; without it every byte is read.

    Raises:
        CorruptArtifactError: naming the first file that differs, also when all is read once more:
            a remembered hash may be wrong, and a disk may read wrongly once.
        UnlistedFileError: there is a file that was not published; those that were are whole.
        RetryableError: something cannot be read, which says nothing about what is there.
    """
    cache = cache or HashCache()
    try:
        return _verified(path, cache, again=False)
    except CorruptArtifactError:
        return _verified(path, cache, again=True)


def _verified(path: Path, cache: HashCache, *, again: bool) -> Artifact:
    manifest = load_manifest(path)
    for name, record in manifest.files.items():
        file = path / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise CorruptArtifactError(
                "{path}: files: {name} leads out of the folder", path=path / MANIFEST, name=name
            )
        with reading(file):
            found = file.lstat()
            if not stat.S_ISREG(found.st_mode):
                raise CorruptArtifactError("{file}: not a plain file", file=file)
            if found.st_size != record.size:
                raise CorruptArtifactError(
                    "{file}: {size} bytes, {published} were published",
                    file=file,
                    size=found.st_size,
                    published=record.size,
                )
            if cache.file(file, again=again) != record.sha256:
                raise CorruptArtifactError("{file}: altered since it was published", file=file)
    with reading(path):
        for name in _names(path):
            if name not in manifest.files and name != MANIFEST:
                raise UnlistedFileError(
                    "{file}: not published with the rest of {folder}, and a library might load "
                    "it; move it out of there and run again",
                    file=path / name,
                    folder=path,
                )
    return Artifact(path, manifest)


def _names(folder: Path, below: str = "") -> Iterator[str]:
    """Whatever is in a folder and is no folder itself, by its name from there."""
    with os.scandir(folder / below) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = f"{below}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from _names(folder, f"{name}/")
            else:
                yield name


def quarantine(path: Path, reason: str, *, shelf: Path | None = None) -> Path:
    """Move a damaged artifact aside, with a line that says why; return where it went.

    Args:
        shelf: the folder for what is damaged; `quarantine` beside the artifact if not given.
    """
    shelf = shelf or path.parent / "quarantine"
    with retryable(say("{path}: cannot be written", path=shelf)):
        shelf.mkdir(exist_ok=True)
        taken = {place.name for place in shelf.iterdir()}
        name = next(
            f"{path.name}-{n}" for n in itertools.count(1) if f"{path.name}-{n}" not in taken
        )
        place = shelf / name
        path.rename(place)
        with (shelf / "reasons.txt").open("a", encoding="utf-8") as file:
            file.write(f"{place.name}: {reason}\n")
    return place
