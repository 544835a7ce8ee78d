"""What a run reads: models with their tokenizers, and rows of data."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from align.config.section import Count, Section
from align.messages import say

TEMPLATES = ("plain", "chatml", "llama3", "gemma", "mistral")
"""Chat templates by name; align/data/templates.py has their text."""


FUNCTION = "score"
"""What a Python file that scores answers defines."""


class ModelSource(Section):
    """Weights with their tokenizer."""

    path: str
    """A local folder or GGUF file, or a hub name together with `revision`. GGUF weights are
    dequantised: they train and are saved as those of a folder."""
    revision: str | None = None
    """Commit or tag on the hub. A hub name without one would not name the same weights twice."""

    @property
    def is_local(self) -> bool:
        """Whether the weights lie on this machine."""
        return Path(self.path).is_dir() or self.is_file

    @property
    def is_file(self) -> bool:
        """Whether a local GGUF file holds all of the model."""
        return self.path.endswith(".gguf") and Path(self.path).is_file()

    @property
    def witness(self) -> Path:
        """The local file that make watches for another model."""
        return Path(self.path) if self.path.endswith(".gguf") else Path(self.path) / "config.json"


class ModelConfig(ModelSource):
    """The base model that SFT starts from, and where everything runs."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 on CUDA, float32 on CPU. Type of the arithmetic and of frozen weights; weights
    that are trained are float32 always."""
    load_in_4bit: bool = False
    """Linear layers of what is trained are held in four bits (NF4) beside the adapters (QLoRA): a
    quarter of bfloat16's memory. Needs LoRA in every stage, and bitsandbytes. What is published,
    and evaluated, is plain: the adapter merged into the dequantised weights."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is a GPU."""
    threads: Count = 2
    """torch threads on CPU. Results are bit-identical for equal thread counts only."""
    chat_template: str | None = None
    """How SFT writes conversations: plain, chatml, llama3, gemma, mistral, or a file of Jinja.
    Control tokens that the tokenizer lacks are added. None: the model's own template, or plain."""

    @property
    def template_file(self) -> Path | None:
        """The file that holds the chat template, if the recipe names one."""
        if self.chat_template is None or self.chat_template in TEMPLATES:
            return None
        return Path(self.chat_template)


class RewardSource(ModelSource):
    """What scores answers: a trained reward model, or a Python file of your own."""

    path: str
    """A folder, a hub name together with `revision`, or a Python file with a function
    `score(conversations)`, which is run as it stands (docs/reward-models.md)."""

    @property
    def is_function(self) -> bool:
        """Whether a Python file scores."""
        return self.path.endswith(".py")

    @property
    def is_file(self) -> bool:
        return super().is_file or (self.is_function and Path(self.path).is_file())

    @property
    def witness(self) -> Path:
        return Path(self.path) if self.is_function else super().witness

    @model_validator(mode="after")
    def _a_function_is_told_by_its_file(self) -> Self:
        if self.is_function and self.revision is not None:
            raise ValueError(say("revision: a Python file has none; leave it out"))
        if self.is_function and self.is_file:
            self._require_score()
        return self

    def _require_score(self) -> None:
        """Refuse, without running it, a file that cannot score."""
        try:
            tree = ast.parse(Path(self.path).read_bytes(), self.path)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None) or 1
            raise ValueError(
                say(
                    "{path}:{line}: {reason}; correct it",
                    path=self.path,
                    line=line,
                    reason=error.args[0],
                )
            ) from None
        if not any(isinstance(n, ast.FunctionDef) and n.name == FUNCTION for n in tree.body):
            raise ValueError(
                say(
                    "{path}: has no function `{function}`; write `def {function}(conversations)`, "
                    "which returns a number for each",
                    path=self.path,
                    function=FUNCTION,
                )
            )


class DataSource(Section):
    """One set of rows: a local file, or a hub name together with `revision`."""

    path: str
    """A local file (JSONL, JSON, CSV, TSV, Parquet, `.gz` too), or a hub name with `revision`."""
    revision: str | None = None
    """Commit or tag on the hub."""
    split: str = "train"
    """Split of a hub data set; a local file has none."""
    format: str = "auto"
    """What a row looks like: one of FORMATS in align/data/formats.py; auto: told by its columns."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Our field name → the file's column name, where they differ."""
    max_rows: Count | None = None
    """The first rows only; null: all."""
    max_bad_rows: Annotated[int, Field(ge=0)] = 0
    """Rows that may be dropped, each one counted and listed; one more and the stage fails."""
    holdout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Fraction of prompts (chosen by a hash of the prompt) kept apart as the part `heldout`."""
    part: Literal["train", "heldout"] = "train"
    """Which side of `holdout` is read."""

    @model_validator(mode="after")
    def _heldout_needs_holdout(self) -> Self:
        if self.part == "heldout" and self.holdout == 0.0:
            raise ValueError(say("part=heldout needs a holdout above 0; add `holdout: 0.2`"))
        return self


INHERITED = ("path", "revision", "split", "format", "columns", "holdout", "max_bad_rows")


class DataConfig(Section):
    """What each stage reads. A source may be a bare path, or a mapping.

    A mapping without `path` reads the file of `preferences`: `instructions: {}` trains SFT on the
    chosen responses, `preferences_heldout: {part: heldout}` keeps the held-out prompts apart.
    """

    instructions: DataSource | None = None
    """SFT: messages, prompt and response, or Alpaca rows."""
    preferences: DataSource | None = None
    """Reward model and DPO: prompt, chosen, rejected."""
    preferences_heldout: DataSource | None = None
    """Pairs the reward model is scored on; no stage trains on them."""
    prompts: DataSource | None = None
    """PPO samples responses to these."""
    evaluation: DataSource | None = None
    """Held-out prompts that all policies answer."""

    @model_validator(mode="before")
    @classmethod
    def _fill_sources(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        filled = {k: {"path": v} if isinstance(v, str) else v for k, v in data.items()}
        pairs = filled.get("preferences")
        if isinstance(pairs, dict):
            shared = {key: pairs[key] for key in INHERITED if key in pairs}
            for key, source in list(filled.items()):
                if key not in cls.model_fields or key == "preferences":
                    continue
                if isinstance(source, dict) and "path" not in source:
                    # Without a path to inherit, `preferences` itself is what has to be told.
                    filled[key] = shared | source if "path" in pairs else None
        return filled

    def given(self, name: str) -> DataSource:
        """A source that a stage reads: the runner has refused a recipe without it."""
        source: DataSource | None = getattr(self, name)
        assert source is not None, f"data.{name}"
        return source
