"""A reward model in its own words: of any architecture, tokenizer and chat template.

It is given conversations, not tokens, and reads them as it did in training:

- a decoder (`LlamaForSequenceClassification` …) renders its own chat template and is read at its
  own last token: the last that the template writes, as in TRL and on model cards. What the reward
  stage of this pipeline trained says `"score_at": "stop"` in its config.json and is read at the
  stop token, where its training ended;
- an encoder (BERT, DeBERTa …) answers through its pooled head. With a chat template it reads what
  that writes, control tokens included; without one, the pair of what was said and what was
  answered: `[CLS] question [SEP] answer [SEP]`.

Control tokens inside a message are text, whoever wrote them. Data is never cut: `fits` tells which
rows to leave out. A policy's answer may outgrow the model's limit all the same, since its length is
limited in the policy's tokens; it is then read as far as the limit allows, as an answer that ends
there, and the first time that is told.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from align.data import chat
from align.data.rows import Message
from align.messages import counted, say, tell
from align.messages.errors import ConfigError
from align.models import load as models
from align.models.pretrained import Path_, load_weights, naming, refuse_unread
from align.scoring.reward_model import Conversation

SCORE_AT, STOP = "score_at", "stop"
"""Key and value in a reward model's configuration: its score stands at the stop token."""
UNLIMITED = 10**9
"""A tokenizer without a limit of its own says 1e30."""


class TextScorer:
    """Scores conversations that end with the assistant."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str = "model",
        warn: Callable[[str], None] = tell,
    ) -> None:
        """`name`: what errors call it. `warn` gets a line when an answer is cut, once."""
        self.model, self.tokenizer, self.name, self.warn = model, tokenizer, name, warn
        self.cut = 0
        """Answers read in part so far."""
        self.decoder = hasattr(model, models.HEAD)
        self.limit = reading_limit(model, tokenizer)

    @classmethod
    def load(
        cls,
        path: Path_,
        *,
        revision: str | None = None,
        dtype: str = "auto",
        device: torch.device,
        warn: Callable[[str], None] = tell,
    ) -> Self:
        """Load a trained reward model; a decoder in `dtype`, an encoder in float32.

        An encoder's head is its own code, and in bfloat16 it would round a score near 8 to .03.
        """
        model, info = load_weights(
            AutoModelForSequenceClassification,
            path,
            revision=revision,
            dtype=models.find_dtype(dtype, device),
        )
        with naming(path, revision):
            tokenizer = AutoTokenizer.from_pretrained(
                path, revision=revision, trust_remote_code=False
            )
        if info["missing_keys"]:
            missing = ", ".join(sorted(info["missing_keys"]))
            raise ConfigError(
                "{path} is no trained reward model: it has no weights for {missing}",
                path=path,
                missing=missing,
            )
        refuse_unread(path, info)
        if model.config.num_labels != 1:
            raise ConfigError(
                "{path} is no reward model: it has {outputs} outputs, expected 1",
                path=path,
                outputs=model.config.num_labels,
            )
        models.disable_dropout(model)
        model = model.to(device).eval().requires_grad_(False)
        scorer = cls(model, tokenizer, name=str(path), warn=warn)
        if not scorer.decoder:
            scorer.model.float()
        return scorer

    def encode(self, messages: Sequence[Message]) -> dict[str, list[int]]:
        """What the model reads of a conversation: `input_ids`, with an encoder's other inputs."""
        if getattr(self.model.config, SCORE_AT, None) == STOP:
            if messages[-1]["role"] != "assistant":  # a prompt, whose length is asked
                return {"input_ids": chat.prompt_ids(self.tokenizer, messages)}
            return {"input_ids": chat.encode(self.tokenizer, messages)[0]}
        if self.decoder or self.tokenizer.chat_template:
            return {"input_ids": self._read(chat.whole_ids(self.tokenizer, messages))}
        said = "\n".join(message["content"] for message in messages[:-1])
        pair = self.tokenizer(said, messages[-1]["content"], split_special_tokens=True)
        return dict(pair)

    def _read(self, ids: list[int]) -> list[int]:
        """A decoder's sequence up to where its score is read: the last token that is not padding.

        So do transformers and TRL find it, by the id: where the template ends with the pad token
        (an EOS that pads as well), the model was trained to speak before it.
        """
        pad_id = self.model.config.get_text_config().pad_token_id
        end = len(ids)
        while self.decoder and end > 1 and ids[end - 1] == pad_id:
            end -= 1
        return ids[:end]

    def length(self, messages: Sequence[Message]) -> int:
        """Tokens of a conversation, as the model reads it."""
        return len(self.encode(messages)["input_ids"])

    def fits(self, messages: Sequence[Message], *, room: int = 0) -> bool:
        """Whether the model reads all of a conversation and `room` more tokens."""
        return self.limit is None or self.length(messages) + room <= self.limit

    def score(self, conversations: Sequence[Conversation], *, batch_size: int = 64) -> list[float]:
        """The same of conversations as a reward model is given them (RewardModel)."""
        return self.scores([one.messages for one in conversations], batch_size=batch_size)

    @torch.no_grad()
    def scores(
        self, conversations: Sequence[Sequence[Message]], *, batch_size: int = 64
    ) -> list[float]:
        """One score per conversation, in their order; an answer beyond the limit is cut there.

        Raises:
            ConfigError: one of them is longer than the model reads before its answer begins.
        """
        encoded = [self._fitted(each) for each in counted(conversations, say("encoding"))]
        longest = max(len(each["input_ids"]) for each in encoded)
        if self.limit is not None and longest > self.limit:
            raise ConfigError(
                "{name} reads {limit} tokens, and a prompt has {longest} in its words; "
                "shorten the prompts",
                name=self.name,
                limit=self.limit,
                longest=longest,
            )
        if self.decoder:
            ids = [each["input_ids"] for each in encoded]
            return models.reward_scores(self.model, ids, pad_id=0, batch_size=batch_size)
        return self._pooled(encoded, batch_size)

    def _fitted(self, messages: Sequence[Message]) -> dict[str, list[int]]:
        """What the model reads of a conversation whose answer is cut on the right until it fits."""
        whole = self.encode(messages)
        if self.limit is None or len(whole["input_ids"]) <= self.limit:
            return whole
        *prompt, answer = messages
        text = answer["content"]

        def told(characters: int) -> dict[str, list[int]]:
            return self.encode([*prompt, answer | {"content": text[:characters]}])

        too_many = bisect_right(
            range(len(text)), self.limit, key=lambda n: len(told(n)["input_ids"])
        )
        if not self.cut:
            self.warn(
                say(
                    "warning: {name} reads {limit} tokens, and with an answer a conversation has "
                    "{length} in its words: such answers are scored as far as it reads; lower "
                    "max_new_tokens",
                    name=self.name,
                    limit=self.limit,
                    length=len(whole["input_ids"]),
                )
            )
        self.cut += 1
        return told(max(0, too_many - 1))

    def _pooled(self, encoded: Sequence[dict[str, list[int]]], batch_size: int) -> list[float]:
        """Scores of an encoder: whatever its head makes of the whole sequence."""
        order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]["input_ids"]))
        scores = [0.0] * len(encoded)
        for start in counted(range(0, len(order), batch_size), say("scoring")):
            rows = order[start : start + batch_size]
            batch: Any = self.tokenizer.pad(
                [encoded[row] for row in rows], padding_side="right", return_tensors="pt"
            )
            logits = self.model(**batch.to(self.model.device)).logits.squeeze(-1)
            for row, score in zip(rows, logits.float().tolist(), strict=True):
                scores[row] = score
        return scores


def reading_limit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The most tokens that model and tokenizer read; None = no limit is known."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 0
    known = [limit for limit in (positions, tokenizer.model_max_length) if 0 < limit < UNLIMITED]
    return min(known, default=None)
