"""What a stage publishes: `model/`, which plain transformers loads, and with LoRA `adapter/`."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NamedTuple

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from align.data.templates import ending_at_stop
from align.models.load import merge, stop_ids
from align.models.pretrained import GGUF, quiet
from align.runs.artifacts import safetensors_faults


class Base(NamedTuple):
    """What the weights of an adapter go on."""

    path: str
    """A folder, or a hub name together with its revision."""
    revision: str | None = None
    is_sft: bool = False
    """It is the model that the SFT stage of the run published."""
    in_4bit: bool = False
    """The adapter was trained on it in four bits."""

    @property
    def place(self) -> str:
        """The hub name, or the folder (or GGUF file) by a path that holds from everywhere here."""
        local = Path(self.path)
        return str(local.resolve()) if local.exists() else self.path


def save(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    out: Path,
    *,
    base: Base,
) -> None:
    """Write `adapter/` (LoRA, over `base`) and `model/` (merged), the tokenizer beside both.

    Merging changes `model` in place: call this last.
    """
    folders = [out / "model"]
    if isinstance(model, PeftModel):
        _save_adapter(model, out / "adapter", base)
        folders.append(out / "adapter")
    merged = merge(model)
    if not merged.can_generate():  # a reward model, which is read where its training ended
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.chat_template = ending_at_stop(tokenizer)
    elif merged.generation_config is not None:
        merged.generation_config.eos_token_id = stop_ids(tokenizer, merged)
        merged.generation_config.pad_token_id = tokenizer.pad_token_id
    with quiet(), safetensors_faults():
        merged.save_pretrained(out / "model")
    for folder in folders:
        tokenizer.save_pretrained(folder)


def _save_adapter(model: PeftModel, folder: Path, base: Base) -> None:
    config: Any = model.peft_config["default"]
    config.base_model_name_or_path, config.revision = base.place, base.revision
    if isinstance(config.target_modules, set):  # whose order is another in each process
        config.target_modules = sorted(config.target_modules)
    # New rows that were trained are in the adapter by themselves; the rest is the base's.
    with safetensors_faults():
        model.save_pretrained(
            str(folder), selected_adapters=["default"], save_embedding_layers=False
        )
    reward = config.task_type == "SEQ_CLS"
    (folder / "README.md").write_text(_card(base, reward=reward), encoding="utf-8")


def _card(base: Base, *, reward: bool) -> str:
    """What to know to load an adapter; PEFT's own card is a form with nothing filled in."""
    on_hub = base.revision is not None
    head = ["---", "library_name: peft"]
    if on_hub:
        head += [f"base_model: {base.path}"]
    what = "A reward model" if reward else "A language model"
    name = f"`{base.place}`" + (f" at revision `{base.revision}`" if on_hub else "")
    if base.is_sft:
        name = f"the SFT model of its run, adapter merged: {name}"
    task, extra = ("SequenceClassification", ", num_labels=1") if reward else ("CausalLM", "")
    load = [
        f"from peft import AutoPeftModelFor{task}",
        "from transformers import AutoTokenizer",
        "",
        f'model = AutoPeftModelFor{task}.from_pretrained("path/to/adapter"{extra})',
    ]
    if base.path.endswith(GGUF):  # which PEFT cannot open by itself
        folder, file = Path(base.place).parent, Path(base.path).name
        load = [
            "from peft import PeftModel",
            f"from transformers import AutoModelFor{task}, AutoTokenizer",
            "",
            f"model = AutoModelFor{task}.from_pretrained(",
            f'    "{folder}", gguf_file="{file}", dtype="float32"{extra}',
            ")",
            'model = PeftModel.from_pretrained(model, "path/to/adapter")',
        ]
    lines = [
        *head,
        "---",
        "",
        "# LoRA adapter",
        "",
        f"{what} as an adapter (PEFT) over {name}. `model/` beside this folder holds the same with "
        "the adapter merged; it needs no PEFT.",
        "",
        "```python",
        *load,
        'tokenizer = AutoTokenizer.from_pretrained("path/to/adapter")',
        "```",
    ]
    if base.in_4bit:
        lines += [
            "",
            "It was trained on the base in four bits (NF4, double quantisation), and `model/` is "
            "made from those weights. On the base as it is, its answers differ a little.",
        ]
    if base.path.endswith(GGUF):
        lines += ["", "The base is that file with its weights dequantised to float32."]
    elif not on_hub:
        lines += [
            "",
            "The base is found by that path, from any folder. On another machine, or once it was "
            "moved, set `base_model_name_or_path` in `adapter_config.json` to where it is.",
        ]
    return "\n".join(lines) + "\n"
