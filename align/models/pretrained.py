"""Reading models that others saved: what is wrong with one is one line that names it.

Weights come from safetensors only, no model's own code is ever run, and nothing is drawn at random
in silence.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import GgufConfig

from align.messages import doing, say
from align.messages.errors import ConfigError
from align.models.untrusted import check_files

Path_ = str | os.PathLike[str]
BROKEN = (SafetensorError, StrictDataclassError)
"""Raised for weights cut short or never fetched (Git LFS), and for values in config.json of another
type."""
UNFIT = (TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, struct.error)
"""What transformers ends in where a value in a file of a model is none that it thought of, or where
a GGUF file ends too early."""
GGUF = ".gguf"
"""The end of a path that names one file of weights, configuration and tokenizer (llama.cpp)."""


def source(path: Path_) -> dict[str, Any]:
    """What `from_pretrained` takes of a path: a folder or a hub name, or a GGUF file in one."""
    named = PurePath(path)
    if named.suffix != GGUF:
        return {"pretrained_model_name_or_path": os.fspath(path)}
    return {"pretrained_model_name_or_path": str(named.parent), "gguf_file": named.name}


def checked_source(path: Path_, revision: str | None) -> dict[str, Any]:
    """`source`, once the files are checked; a GGUF file has no config.json that names others."""
    given = source(path)
    if "gguf_file" not in given:
        check_files(path, revision)
    return given


def load_weights(
    auto_class: Any,
    path: Path_,
    *,
    revision: str | None,
    dtype: torch.dtype,
    **settings: Any,
) -> tuple[Any, dict[str, Any]]:
    """Load a model; return it with what transformers says of the loading, for `refuse_unread`."""
    with naming(path, revision), doing(say("loading a model")):
        given = checked_source(path, revision)
        if "gguf_file" in given:
            settings["quantization_config"] = GgufConfig(dequantize=True)
        model, info = auto_class.from_pretrained(
            **given,
            revision=revision,
            dtype=dtype,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are in what is returned
            output_loading_info=True,
            **settings,
        )
    return model, info


def refuse_unread(path: Path_, info: Mapping[str, Any], *, new: str = "") -> None:
    """Refuse a model of which transformers would draw weights at random.

    Args:
        info: what `from_pretrained` says of the loading.
        new: module that may lack its weights.
    """
    lacking = {name for name in info["missing_keys"] if not name.startswith(f"{new}.")}
    names = sorted(lacking | {name for name, *_ in info["mismatched_keys"]})
    if names:
        shown = ", ".join(names[:3])
        shown += say(" and {more} more", more=len(names) - 3) if names[3:] else ""
        raise ConfigError(
            "{path!r} has no weights of the right shape for {shown}; give a folder "
            "whose weights belong to its config.json",
            path=os.fspath(path),
            shown=shown,
        )


@contextlib.contextmanager
def naming(path: Path_, revision: str | None) -> Iterator[None]:
    """Say which model could not be loaded."""
    try:
        with quiet():
            yield
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, *BROKEN, *UNFIT) as error:
        at = say(" at revision {revision}", revision=revision) if revision else ""
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        reason = f"{type(error).__name__}: {reason}" if isinstance(error, UNFIT) else reason
        raise ConfigError(
            "cannot load a model from {path!r}{at}: {reason}; give a folder that holds "
            "config.json, model.safetensors and a tokenizer, a GGUF file, or a hub name "
            "with its revision",
            path=os.fspath(path),
            at=at,
            reason=reason,
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of single files, no warnings about heads that are meant to be new."""
    level, bars = (
        transformers.logging.get_verbosity(),
        transformers.logging.is_progress_bar_enabled(),
    )
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()
