"""Rendered text to token ids, with the control tokens that stood in a content as plain text.

Text is encoded whole, as `apply_chat_template` does it: a tokenizer that marks the beginnings of
words (sentencepiece's `▁`) would mark the beginning of every piece.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Container, Hashable
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from align.data.rendering import (
    PLACEHOLDER,
    WRITTEN,
    Rendered,
    chat_template,
    control_tokens,
    vocabulary_key,
)
from align.messages.errors import ConfigError

Ids = list[int]
HIEROGLYPHS = tuple(map(chr, range(0x13000, 0x13010)))
"""Instead of WRITTEN, where a normaliser drops that."""


def encode_text(
    tokenizer: PreTrainedTokenizerBase, rendered: Rendered, *, continues: bool = False
) -> Ids:
    """Encode what a template wrote, or the end of it.

    Without the tokenizer's warning of long texts: who asks for ids counts them.

    Args:
        continues: the text goes on in the middle of another one: nothing marks its beginning.
    """
    text, literals = rendered
    taken_out = PLACEHOLDER.search(text) is not None
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return _encode_pieces(tokenizer, rendered)
    key = (tokenizer, vocabulary_key(tokenizer), chat_template(tokenizer))
    if not taken_out and not continues:
        ids = tokenizer.encode(text, add_special_tokens=False, verbose=False)
        if not _looks_closer(*key) or _as_written(tokenizer, text, ids):
            return ids
    mark = next(each for each in _marks(*key) if each not in text)
    names, control = _names(*key, mark), control_tokens(tokenizer, answer=False)
    if control is not None:
        text = control.sub(lambda match: names[match.group()], text)
    text = PLACEHOLDER.sub(lambda match: literals[int(match.group(1))], text)
    return list(_twin(*key, mark, continues).encode(text, add_special_tokens=False).ids)


def _encode_pieces(tokenizer: PreTrainedTokenizerBase, rendered: Rendered) -> Ids:
    """For a tokenizer written in Python, which has no state to copy: literals on their own."""
    ids: Ids = []
    for position, piece in enumerate(PLACEHOLDER.split(rendered.text)):
        literal = position % 2 == 1
        text = rendered.literals[int(piece)] if literal else piece
        ids += tokenizer.encode(
            text, add_special_tokens=False, verbose=False, split_special_tokens=literal
        )
    return ids


@functools.lru_cache(maxsize=8)
def _looks_closer(tokenizer: PreTrainedTokenizerBase, vocabulary: Hashable, template: str) -> bool:
    """Whether a text may become a control token that does not hold it, letter for letter.

    A normaliser may write `＜/s＞` or `</S>` as `</s>`; an added token that is looked for in what
    it wrote is found then, and so is a piece of the vocabulary.
    """
    backend: Any = tokenizer.backend_tokenizer  # type: ignore[attr-defined]
    if backend.normalizer is None:
        return False
    names = _control_ids(tokenizer, vocabulary, template)
    return _after_normalising(tokenizer, names) or any(
        backend.model.token_to_id(name) is not None for name in names
    )


def _after_normalising(tokenizer: PreTrainedTokenizerBase, names: Container[str]) -> bool:
    """Whether any of these added tokens is looked for in the normalised text."""
    added = tokenizer.added_tokens_decoder.values()
    return any(each.normalized and each.content in names for each in added)


def _as_written(tokenizer: PreTrainedTokenizerBase, text: str, ids: Ids) -> bool:
    """Whether the ids hold the control tokens that the text holds, and no more."""
    control = control_tokens(tokenizer, answer=False)
    if control is None:
        return True
    known = _control_ids(tokenizer, vocabulary_key(tokenizer), chat_template(tokenizer))
    unknown = tokenizer.unk_token_id  # stands for any character
    written = [id_ for content in control.findall(text) if (id_ := known[content]) != unknown]
    looked_for = set(known.values()) - {unknown}
    return [id_ for id_ in ids if id_ in looked_for] == written


@functools.lru_cache(maxsize=8)
def _control_ids(
    tokenizer: PreTrainedTokenizerBase, _vocabulary: Hashable, _template: str
) -> dict[str, int]:
    """The id of every control token, by its content."""
    control = control_tokens(tokenizer, answer=False)
    added = {each.content: token for token, each in tokenizer.added_tokens_decoder.items()}
    special = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    return {
        content: token
        for content, token in (added | dict(special)).items()
        if control is not None and control.fullmatch(content)
    }


@functools.lru_cache(maxsize=8)
def _marks(
    tokenizer: PreTrainedTokenizerBase, vocabulary: Hashable, template: str
) -> tuple[str, ...]:
    """Characters to name control tokens with, which the tokenizer's normaliser leaves standing.

    BERT's drops WRITTEN, and `5` would be what is left of a name; letters that nobody writes stay.
    """
    backend: Any = tokenizer.backend_tokenizer
    names = _control_ids(tokenizer, vocabulary, template)
    marks, normalise = (WRITTEN, *HIEROGLYPHS), backend.normalizer
    if normalise is None or not _after_normalising(tokenizer, names):
        return marks
    left = len(normalise.normalize_str("7"))
    kept = tuple(m for m in marks if len(normalise.normalize_str(f"{m}7{m}")) > left)
    if not kept:
        raise ConfigError(
            "the tokenizer of {tokenizer!r} looks for control tokens in a text of which it keeps "
            "few letters, so they cannot be told from what users write; use another one",
            tokenizer=tokenizer.name_or_path,
        )
    return kept


@functools.lru_cache(maxsize=8)
def _names(
    tokenizer: PreTrainedTokenizerBase, vocabulary: Hashable, template: str, mark: str
) -> dict[str, str]:
    """Another name for every control token, which the text does not hold."""
    known = _control_ids(tokenizer, vocabulary, template)
    return {content: f"{mark}{id_}{mark}" for content, id_ in known.items()}


@functools.lru_cache(maxsize=8)
def _twin(
    tokenizer: PreTrainedTokenizerBase,
    vocabulary: Hashable,
    template: str,
    mark: str,
    continues: bool,
) -> Tokenizer:
    """The tokenizer with its control tokens renamed: by their own names they are plain text.

    The ids stay. A merge that would build a control token from plain text is left out.
    """
    backend: Any = tokenizer.backend_tokenizer
    state: dict[str, Any] = json.loads(backend.to_str())
    state |= {"padding": None, "truncation": None, "post_processor": None}
    names, model = _names(tokenizer, vocabulary, template, mark), state["model"]
    for added in state["added_tokens"]:
        added["content"] = names.get(added["content"], added["content"])
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(piece, piece): id_ for piece, id_ in model["vocab"].items()}
    else:  # Unigram: pieces with their log-probabilities
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
    if "merges" in model:
        model["merges"] = [merge for merge in model["merges"] if not _builds(merge, names)]
    if "unk_token" in model:
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    if continues:
        state["normalizer"] = _unmarked(state["normalizer"])
        state["pre_tokenizer"] = _unmarked(state["pre_tokenizer"])
    twin = Tokenizer.from_str(json.dumps(state))
    assert all(f"{mark}{twin.token_to_id(name)}{mark}" == name for name in names.values())
    return twin


def _builds(merge: str | list[str], names: dict[str, str]) -> bool:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return not names.keys().isdisjoint((left, right, left + right))


def _unmarked(step: dict[str, Any] | None) -> dict[str, Any] | None:
    """A normaliser or pre-tokeniser that does not mark where a text begins."""
    if step is None:
        return None
    match step["type"]:
        case "Sequence":
            key = next(key for key in ("normalizers", "pretokenizers") if key in step)
            kept = [each for each in map(_unmarked, step[key]) if each is not None]
            return step | {key: kept}
        case "Prepend":
            return None
        case "Metaspace":
            return step | {"prepend_scheme": "never"}
        case "ByteLevel":
            return step | {"add_prefix_space": False}
        case _:
            return step
