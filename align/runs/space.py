"""How much a stage will write, known before it starts from the shapes of the weights it reads."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from align.config import LoraSection, Recipe
from align.config.methods import TRAINED
from align.messages import say
from align.messages.errors import RetryableError
from align.runs.checkpoints import KEPT, checkpoint_folder
from align.runs.contract import Stage
from align.runs.inputs import machine

BYTES = 4
"""Of a weight that is trained: float32, whatever the others are."""
MOMENTS = 2
"""Of Adam, as large as the weights."""
UNADAPTED = ("embed", "lm_head", "wte", "wpe", "score")
"""In the names of matrices that no adapter of `all-linear` is for."""
MIB = 2**20


class Room(NamedTuple):
    """Bytes on the disk."""

    published: int
    """The model, and its adapter."""
    least: int
    """What will surely be written: that, and the trained weights once more before."""
    most: int
    """With as many checkpoints as are ever there at once."""


def needed(stage: str, recipe: Recipe, shapes: Mapping[str, Sequence[int]]) -> Room | None:
    """Return what a stage that trains will write; None for another, and for weights not here yet.

    Args:
        shapes: of all weights that it starts from, by name.
    """
    if stage not in TRAINED or not shapes:
        return None
    lora = recipe.lora_of(stage)
    count = sum(map(math.prod, shapes.values()))
    width = BYTES if lora is None or machine(recipe.model)["model.dtype"] == "float32" else 2
    trained = count if lora is None else adapter_size(shapes, lora)
    adapter = 0 if lora is None else BYTES * trained
    roles = 2 if stage == "ppo" else 1  # policy and critic
    published, weights = width * count + adapter, BYTES * trained
    saved = (KEPT + 1) * roles * (1 + MOMENTS) * weights
    return Room(published, published + weights, published + saved)


def of_all(rooms: Iterable[Room | None]) -> Room:
    """Return what stages write one after another, each beside what those before it published."""
    published = least = most = 0
    for room in filter(None, rooms):
        least = max(least, published + room.least)
        most = max(most, published + room.most)
        published += room.published
    return Room(published, least, most)


def free_for(stages: Iterable[str], run_dir: Path) -> int:
    """Return the bytes that stages may write: checkpoints of theirs are not written again."""
    kept = [p for name in stages for p in checkpoint_folder(run_dir, name).rglob("*")]
    return shutil.disk_usage(run_dir).free + sum(path.stat().st_size for path in kept)


def check(stage: Stage, recipe: Recipe, model: Path, run_dir: Path) -> str | None:
    """Refuse a stage whose model does not fit on the disk; return a warning where room may run out.

    Args:
        model: folder of the weights that it starts from.

    Raises:
        RetryableError: one line with what it needs, what is free, and where.
    """
    room = needed(stage.name, recipe, weight_shapes(model))
    if room is None:
        return None
    free = free_for([stage.name], run_dir)
    values = {"free": mib(free), "place": run_dir}
    if room.least > free:
        raise RetryableError(
            "{stage}: writes at least {need} MiB, and {free} MiB are free at {place}; free what is "
            "short, or give runs_dir=FOLDER of another disk",
            stage=stage.name,
            need=mib(room.least),
            **values,
        )
    if room.most > free:
        return say(
            "warning: writes up to {need} MiB with its checkpoints, and {free} MiB are free at "
            "{place}",
            need=mib(room.most),
            **values,
        )
    return None


def weight_shapes(model: Path) -> dict[str, list[int]]:
    """Return the shape of every tensor in a folder's safetensors files, from their headers.

    A file that is none is left to the library that loads it.
    """
    shapes: dict[str, list[int]] = {}
    for path in sorted(model.glob("*.safetensors")):
        with path.open("rb") as file:
            length = min(int.from_bytes(file.read(8), "little"), path.stat().st_size)
            try:
                header = json.loads(file.read(length))
            except (ValueError, RecursionError):
                return {}
        if not isinstance(header, dict):
            return {}
        shapes |= {n: entry["shape"] for n, entry in header.items() if n != "__metadata__"}
    return shapes


def adapter_size(shapes: Mapping[str, Sequence[int]], lora: LoraSection) -> int:
    """Return the numbers in the adapter's two factors of each matrix that it is for."""
    matrices = {name: shape for name, shape in shapes.items() if len(shape) == 2}
    if lora.targets == "all-linear":
        chosen = [s for n, s in matrices.items() if not any(word in n for word in UNADAPTED)]
    else:
        chosen = [s for n, s in matrices.items() if {*n.split(".")[-2:-1]} & {*lora.targets}]
    return sum(lora.r * sum(shape) for shape in chosen)


def mib(count: int) -> str:
    """Bytes as whole MiB, rounded up."""
    return f"{-(-count // MIB):,}"
