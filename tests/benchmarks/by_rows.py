"""Whether SFT's own settings fit the number of rows: loss falls, KL moves, nothing is overfitted.

    python -m tests.benchmarks.by_rows --rows 40 400 4000

Trains the embedded base on so many rows of data/tiny/sft.jsonl with a recipe that sets nothing, and
prints, for each, what was chosen, the training loss at both ends, the loss on held-out rows along
the way (prompts by their hash, none of them trained on), KL(SFT ‖ base) in nats per answer, and the
negative log-likelihood of a held-out answer before and after: a policy that gives such answers
cannot be much nearer to the base than their difference.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

LOOKS = 10
"""Times that the held-out loss is taken."""
HELD_OUT, ANSWERED = 256, 64
"""Rows, and prompts."""
SOURCE: dict[str, Any] = {"path": "data/tiny/sft.jsonl", "holdout": 0.1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[40, 400, 4000])
    parser.add_argument("--base", default="data/tiny/base")
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[])
    arguments = parser.parse_args()
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory() as folder:
            print(
                json.dumps(measure(rows, arguments, Path(folder)), ensure_ascii=False), flush=True
            )


def measure(rows: int, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train once in a folder; return what is printed."""
    import torch

    from align.config import DataSource
    from align.data import chat, load_instructions
    from align.models import load as models
    from align.models.vocabulary import fit_embeddings
    from align.runs.manifest import load_manifest
    from align.runs.runner import main as run
    from align.runs.tracking import read_metrics
    from stages import sft
    from stages.support import trl

    torch.set_num_threads(arguments.threads)
    tokenizer = models.load_tokenizer(arguments.base)
    held = load_instructions(DataSource(**SOURCE, part="heldout", max_rows=HELD_OUT))
    encoded = [pair for row in held for pair in chat.encode_answers(tokenizer, row.messages)]
    looks: list[float] = []

    class Looking(trl.TrackerCallback):
        """Takes the held-out loss along the way."""

        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> Any:
            if state.global_step % max(1, state.max_steps // LOOKS) == 0:
                looks.append(loss(given["model"], encoded, int(tokenizer.pad_token_id)))
            return super().on_step_end(args, state, control, **given)

    trl.TrackerCallback = Looking  # type: ignore[misc]
    recipe = {
        "model": {"path": arguments.base, "device": "cpu", "threads": arguments.threads},
        "data": {"instructions": {**SOURCE, "max_rows": rows}},
        "sft": {"lora": {}} if arguments.lora else {},
        "tracking": {"wandb": "off"},
    }
    (folder / "r.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    code = run(sft.STAGE, argv=[str(folder / "r.yaml"), f"runs_dir={folder}", *arguments.set])
    assert code == 0, code
    out = folder / "r" / "sft"
    curve = [row["sft/train/loss"] for row in read_metrics(out / "metrics.jsonl")]
    fifth = max(1, len(curve) // 5)
    base = models.load_causal_lm(arguments.base, device=torch.device("cpu"))
    fit_embeddings(base, tokenizer)
    answer = sum(sum(counts) for _, counts in encoded) / len(encoded)
    untrained = loss(base, encoded, int(tokenizer.pad_token_id))
    return {
        "rows": rows,
        "steps": read_metrics(out / "metrics.jsonl")[-1]["step"],
        "chosen": load_manifest(out).chosen,
        "loss": [round(fmean(curve[:fifth]), 3), round(fmean(curve[-fifth:]), 3)],
        "heldout": [round(value, 3) for value in looks],
        "kl": round(divergence(out / "model", base, tokenizer, held), 2),
        "answer": {"base": round(answer * untrained, 1), "sft": round(answer * looks[-1], 1)},
    }


def loss(model: Any, encoded: list[tuple[list[int], list[bool]]], pad: int) -> float:
    """Mean loss of the tokens that count, as SFT takes it."""
    import torch

    total, count = 0.0, 0
    training = model.training
    model.eval()
    with torch.no_grad():
        for start in range(0, len(encoded), 32):
            part = encoded[start : start + 32]
            width = max(len(ids) for ids, _ in part)
            ids = torch.tensor([[*i, *[pad] * (width - len(i))] for i, _ in part])
            counts = torch.tensor([[*m, *[False] * (width - len(m))] for _, m in part])[:, 1:]
            logits = model(input_ids=ids, attention_mask=(ids != pad).long()).logits[:, :-1]
            nll = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), ids[:, 1:], reduction="none"
            )
            total += float(nll[counts].sum())
            count += int(counts.sum())
    model.train(training)
    return total / count


def divergence(policy: Path, base: Any, tokenizer: Any, held: list[Any]) -> float:
    """KL(SFT ‖ base) in nats per answer, over sampled answers to held-out prompts."""
    import torch

    from align.data import chat
    from align.evaluation.generations import GenerationSettings, answer, kl_to_reference
    from align.models import load as models

    trained = models.load_causal_lm(policy, device=torch.device("cpu"))
    prompts = [chat.prompt_ids(tokenizer, row.prompt) for row in held[:ANSWERED]]
    settings = GenerationSettings(
        pad_id=int(tokenizer.pad_token_id),
        stop_ids=models.stop_ids(tokenizer, trained),
        max_new_tokens=48,
        batch_size=32,
        seed=0,
    )
    answers = answer(trained, prompts, settings, temperature=1.0)
    nats = kl_to_reference(trained, base, prompts, answers, settings)
    return fmean(value for its in nats for value in its)


if __name__ == "__main__":
    main()
