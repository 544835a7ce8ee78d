"""`align doctor`: what this machine has, and what a recipe would miss on it.

Each line is `ok`, `note` (works, perhaps not as wished) or `fault` (a run would fail). Versions are
read from the packages' metadata and the GPU is asked for by nvidia-smi, so torch is not imported,
unless `--torch` asks it for its own view.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from align.config import Recipe
from align.config.recipe import load_recipe
from align.messages import say, tell
from align.messages.errors import UserError
from align.runs.command import WHERE, take
from align.runs.inputs import LIBRARIES, ROOT
from stages.pipeline import needed
from stages.preflight.rows import LOADERS

PINS = ROOT / "constraints.txt"
GIB = 2**30
FREE_DISK, FREE_MEMORY = 5 * GIB, 3 * GIB
"""Below these a run of the tiny recipe may already fail."""
CGROUP = Path("/sys/fs/cgroup/memory.max")


class Finding(NamedTuple):
    kind: Literal["ok", "note", "fault"]
    told: str
    exit_code: int = 2
    """What a run would end with, if it is a fault."""


def doctor(recipe: Path | None, items: Sequence[str], *, ask_torch: bool) -> int:
    """Print every finding as it is made; return 0, or the exit code of the first fault."""
    code = 0
    for finding in _findings(recipe, items, ask_torch):
        for line in finding.told.splitlines():
            tell(f"{finding.kind:<6}{line}")
        if finding.kind == "fault":
            code = code or finding.exit_code
    return code


def _findings(path: Path | None, items: Sequence[str], ask_torch: bool) -> Iterator[Finding]:
    yield from libraries()
    gpu = nvidia()
    device = gpu or say("CPU; nvidia-smi finds no GPU")
    yield Finding("ok", say("device: {device}", device=device))
    yield from _torch_build(gpu)
    if ask_torch:
        yield _torch_device()
    yield _processors()
    yield from _room()
    if path is None:
        return
    try:
        recipe = load_recipe(path, take(items, WHERE)[1])
    except UserError as error:
        yield Finding("fault", error.told(), error.exit_code)
        return
    yield from examine(recipe, gpu is not None)


# ---------------------------------------------------------------------------- the machine


def libraries() -> Iterator[Finding]:
    """Compare installed versions with the pins; only libraries that compute can be a fault."""
    yield Finding(
        "ok",
        say("python {version} ({path})", version=platform.python_version(), path=sys.executable),
    )
    pins = _pins()
    differ = 0
    for name, pinned in pins.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if name in LIBRARIES:
                yield Finding("fault", say("{name} is not installed; run `make setup`", name=name))
            continue
        if found.partition("+")[0] != pinned:
            differ += 1
            yield Finding(
                "note",
                say(
                    "{name} {found}, tested with {pinned}; `make setup` installs it",
                    name=name,
                    found=found,
                    pinned=pinned,
                ),
            )
    if pins and not differ:
        yield Finding("ok", say("libraries: as pinned in {file}", file=PINS.name))


def _pins() -> dict[str, str]:
    """Return {package: version} of constraints.txt; nothing where the file is not at hand."""
    if not PINS.is_file():
        return {}
    lines = PINS.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("==") for line in lines if "==" in line and not line.startswith("#"))
    return {name.strip(): version.strip() for name, _, version in pairs}


def nvidia() -> str | None:
    """The GPUs that the driver sees, or None."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    names = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return "; ".join(names) if done.returncode == 0 and names else None


def _torch_build(gpu: str | None) -> Iterator[Finding]:
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return  # told among the libraries
    if gpu is not None and version.endswith("+cpu"):
        yield Finding(
            "note",
            say(
                "torch {version} is a build without CUDA and cannot use the GPU; install another",
                version=version,
            ),
        )


def _torch_device() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("ok", say("torch {version} computes on the CPU", version=torch.__version__))
    return Finding(
        "ok",
        say(
            "torch {version} computes on {device}",
            version=torch.__version__,
            device=torch.cuda.get_device_name(),
        ),
    )


def _processors() -> Finding:
    set_to = os.environ.get("OMP_NUM_THREADS")
    if set_to is None:
        return Finding("ok", say("processors: {count}", count=_cores()))
    return Finding(
        "ok",
        say(
            "processors: {count}; OMP_NUM_THREADS={set_to}, which model.threads of a recipe "
            "replaces",
            count=_cores(),
            set_to=set_to,
        ),
    )


def _cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _room() -> Iterator[Finding]:
    memory = _free_memory()
    if memory is not None:
        kind: Literal["ok", "note"] = "ok" if memory >= FREE_MEMORY else "note"
        yield Finding(kind, say("memory: {gib:.1f} GiB free", gib=memory / GIB))
    free = shutil.disk_usage(Path.cwd()).free
    kind = "ok" if free >= FREE_DISK else "note"
    yield Finding(
        kind, say("disk: {gib:.1f} GiB free in {folder}", gib=free / GIB, folder=Path.cwd())
    )


def _free_memory() -> int | None:
    """Bytes that a new process could have, within the limit of a container; None if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    free = next((int(line.split()[1]) * 1024 for line in lines if "MemAvailable" in line), None)
    try:
        limit = CGROUP.read_text(encoding="ascii").strip()
    except OSError:
        return free
    return min(free, int(limit)) if free is not None and limit.isdigit() else free


# ---------------------------------------------------------------------------- the recipe


def examine(recipe: Recipe, gpu: bool) -> Iterator[Finding]:
    """What the stages of a recipe would miss: a device, the model, data and its rows."""
    model = recipe.model
    if model.device == "cuda" and not gpu:
        yield Finding("fault", say("model.device=cuda: no GPU is found; give auto or cpu"))
    if model.threads > _cores():
        yield Finding(
            "note",
            say(
                "model.threads={threads}, but {count} processors are free",
                threads=model.threads,
                count=_cores(),
            ),
        )
    yield _model(recipe)
    readers: dict[str, list[str]] = {}
    for stage in needed(recipe):
        for key in stage.data(recipe):
            readers.setdefault(key, []).append(stage.name)
    for key, stages in readers.items():
        yield _data(recipe, key, ", ".join(stages))


def _model(recipe: Recipe) -> Finding:
    path, revision = recipe.model.path, recipe.model.revision
    if revision is not None:
        return Finding(
            "ok",
            say(
                "model.path={path} at {revision}: on the hub, not asked for here",
                path=path,
                revision=revision,
            ),
        )
    if not recipe.model.witness.is_file():
        return Finding(
            "fault",
            say(
                "model.path={path}: no model there; give a folder with config.json, a GGUF file, "
                "or a hub name together with model.revision",
                path=path,
            ),
        )
    weights = [Path(path)] if recipe.model.is_file else Path(path).glob("*.safetensors")
    size = sum(file.stat().st_size for file in weights)
    if not size:
        return Finding("fault", say("model.path={path}: has no weights as .safetensors", path=path))
    return Finding(
        "ok", say("model.path={path}: weights of {mib:,.1f} MiB", path=path, mib=size / 2**20)
    )


def _data(recipe: Recipe, key: str, stages: str) -> Finding:
    source = getattr(recipe.data, key)
    if source is None:
        return Finding(
            "fault",
            say(
                "data.{key}: missing, needed by {stages}; add it, or give data.{key}.path=FILE",
                key=key,
                stages=stages,
            ),
        )
    if source.revision is not None:
        return Finding(
            "ok",
            say("data.{key}: {path} on the hub, not asked for here", key=key, path=source.path),
        )
    try:
        rows = len(LOADERS[key](source))
    except UserError as error:
        return Finding("fault", error.told(), error.exit_code)
    return Finding(
        "ok",
        say(
            "data.{key}: {rows} rows of {path} for {stages}",
            key=key,
            rows=rows,
            path=source.path,
            stages=stages,
        ),
    )
