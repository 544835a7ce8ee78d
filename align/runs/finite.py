"""Every number in a folder of tensors is finite, or the folder is not published and not resumed.

The guards of a training loop look at losses and gradients, and so see nothing of the last step.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from align.messages.errors import DivergedError

if TYPE_CHECKING:
    from torch import Tensor


def check_tensors(tensors: Iterable[tuple[str, Tensor]], *, what: str, step: int | None) -> None:
    """Refuse NaN and infinite numbers.

    Args:
        what: the stage, or the file, that the tensors belong to.
        step: after which they stand so; None where that is not known.

    Raises:
        DivergedError: naming the first tensor that holds one.
    """
    if (name := first_not_finite(tensors)) is not None:
        raise DivergedError(
            "{what}: {tensor} is not finite after step {step}, so it is neither published nor "
            "saved; lower the learning rate",
            what=what,
            tensor=name,
            step="?" if step is None else step,
        )


def check_files(folder: Path, *, what: str, step: int | None) -> None:
    """Refuse a folder in which a tensor of a safetensors file is not finite."""
    for file in sorted(folder.rglob("*.safetensors")):
        check_tensors(_tensors(file), what=what, step=step)


def first_not_finite(tensors: Iterable[tuple[str, Tensor]]) -> str | None:
    """The name of the first tensor that holds NaN or an infinite number."""
    for name, tensor in tensors:
        if tensor.is_floating_point():
            # No other type of torch's is as narrow as one byte and has no isfinite.
            wide = tensor.float() if tensor.element_size() == 1 else tensor
            if not wide.isfinite().all():
                return name
    return None


def _tensors(file: Path) -> Iterable[tuple[str, Tensor]]:
    """One at a time: a model need not fit into memory twice."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        for name in opened.keys():  # noqa: SIM118  it is no mapping
            yield name, opened.get_tensor(name)
