"""What the files of a model may not say: they are data, whoever wrote them.

transformers does as config.json says: an attention named `somebody/kernel` is code fetched from the
hub and run, a billion layers are built one by one, a file of weights may lie in another folder.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from transformers import PreTrainedConfig

from align.messages import say
from align.messages.errors import ConfigError

INDEX = "model.safetensors.index.json"
LARGEST_SIZE, MOST_LAYERS = 100_000_000, 10_000
"""Beyond what any model has; building it would take the memory, or for ever."""
_IMPLEMENTATION = re.compile(r"_?(?:attn|experts)_implementation(?:_internal)?")
_SIZE = re.compile(r"\w*(?:_size|_dim|_heads|_experts|_labels|n_embd|n_inner|n_head)")
_LAYERS = re.compile(r"\w*layers?")


def check_files(path: str | os.PathLike[str], revision: str | None) -> None:
    """Refuse a model whose files name code, sizes that no model has, or weights elsewhere.

    Raises:
        ConfigError: with the key and its value.
    """
    config, _ = PreTrainedConfig.get_config_dict(os.fspath(path), revision=revision)
    for key, value in _values(config):
        if (told := _fault(key, value)) is not None:
            raise ConfigError(
                "{path}: config.json: {key}={value}: {told}",
                path=os.fspath(path),
                key=key,
                value=json.dumps(value),
                told=told,
            )
    index = Path(path) / INDEX
    for name in _weight_files(index) if index.is_file() else ():
        if not isinstance(name, str) or name in ("", "..") or PurePath(name).name != name:
            raise ConfigError(
                "{index}: weight_map: {name!r} is no name of a file beside it; correct it",
                index=index,
                name=name,
            )


def _values(config: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value with the last key above it."""
    if isinstance(config, dict):
        for name, value in config.items():
            yield from _values(value, key if _IMPLEMENTATION.fullmatch(key) else name)
    elif isinstance(config, list):
        for value in config:
            yield from _values(value, key)
    else:
        yield key, config


def _fault(key: str, value: Any) -> str | None:
    if _IMPLEMENTATION.fullmatch(key) and value is not None:
        name = str(value)
        if not re.fullmatch(r"[a-z0-9_]+", name):
            return say("names code to fetch and run; remove the line")
        if "flash" in name and importlib.util.find_spec("flash_attn") is None:
            return say("is not installed, and would be fetched and run; remove the line")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if _LAYERS.fullmatch(key) and not 0 <= value <= MOST_LAYERS:
            return say("a model has up to {most:,} layers; correct it", most=MOST_LAYERS)
        if _SIZE.fullmatch(key) and value > LARGEST_SIZE:
            return say("no model has a size above {largest:,}; correct it", largest=LARGEST_SIZE)
    return None


def _weight_files(index: Path) -> list[Any]:
    content = json.loads(index.read_bytes())
    files = content.get("weight_map") if isinstance(content, dict) else None
    return list(files.values()) if isinstance(files, dict) else []
