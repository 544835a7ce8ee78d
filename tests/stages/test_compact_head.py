"""The head that scores labelled positions only says what TRL's says of every position."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from trl.trainer.utils import add_fused_lm_head

from stages.support.compact_head import IGNORED, score_labels_only
from tests import tiny

OUTPUTS = ("log_probs", "entropy", "is_top1", "mean_logits", "log_sum_sq_probs")


def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 300, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(9) < torch.tensor([[9], [6], [7]])
    labels = ids.masked_fill(~mask | (torch.arange(9) < 3), IGNORED)
    return {"input_ids": ids, "attention_mask": mask.long(), "labels": labels}


@pytest.mark.parametrize("build", [tiny.llama, tiny.gpt2])
def test_values_and_gradients_are_those_of_the_head_that_trl_gives(build):
    found = []
    for compact in (False, True):
        model = build(1)
        add_fused_lm_head(model, outputs=OUTPUTS)
        if compact:
            score_labels_only(SimpleNamespace(model=model), outputs=OUTPUTS[1:])
        output = model(**batch(), use_cache=False, fused_lm_head=True)
        output.loss.backward()
        named = {name: getattr(output, name).detach() for name in (*OUTPUTS, "label_mask", "loss")}
        gradients = [parameter.grad for parameter in model.parameters()]
        found.append([*(value.double() for value in named.values()), *gradients])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_without_being_asked_the_model_answers_as_before():
    model = tiny.llama(1)
    score_labels_only(SimpleNamespace(model=model), outputs=())
    rows = {name: value for name, value in batch().items() if name != "labels"}
    torch.testing.assert_close(model(**rows).logits, tiny.llama(1)(**rows).logits, rtol=0, atol=0)
