"""On a CPU, TRL's language-model head for labelled positions only.

TRL asks a model for log-probabilities with `fused_lm_head=True`. Without Triton its head computes
the logits of every position, of prompts and padding too, and all of them again for the gradient.
Here the model's own head reads, once, the states before a label and no others, as in PPO
(align/models/forward.py).
"""

from __future__ import annotations

import functools
import types
from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from peft.utils.other import TrainableTokensWrapper
from torch import Tensor, nn
from torch.nn.functional import nll_loss
from transformers import PreTrainedModel
from trl.trainer.utils import FusedCausalLMOutput

from stages.support.encoded import IGNORED


def score_labels_only(trainer: Any, *, outputs: Sequence[str]) -> None:
    """Give a TRL trainer's policy, and its reference if it has one, this head; on CUDA, nothing.

    Args:
        trainer: one whose __init__ has given its models TRL's head.
        outputs: what it reads of the policy besides `log_probs`: `entropy`, `is_top1`,
            `mean_logits`, `log_sum_sq_probs`.
    """
    policy: Any = trainer.model
    if isinstance(policy, PeftModel):
        policy = policy.get_base_model()
    _give_head(policy, outputs)
    if (reference := getattr(trainer, "ref_model", None)) is not None:
        _give_head(reference, ())


def _give_head(model: PreTrainedModel, outputs: Sequence[str]) -> None:
    wrapped = isinstance(model.get_output_embeddings(), TrainableTokensWrapper)
    if model.device.type != "cpu" and not wrapped:
        return  # TRL's kernel is the better one where Triton is; it reads plain heads only
    given = model.forward

    @functools.wraps(given)
    def forward(self: Any, *args: Any, fused_lm_head: bool = False, **kwargs: Any) -> Any:
        if not fused_lm_head:
            return given(*args, **kwargs)
        labels = kwargs.pop("labels")[:, 1:]
        mask = labels != IGNORED
        logits, aux_loss = logits_at(self, mask, args, kwargs)
        logprobs = logits.float().log_softmax(dim=-1)  # once, for the loss and what is logged
        found = {"log_probs": -nll_loss(logprobs, labels[mask], reduction="none")}
        with torch.no_grad():
            found |= readings(logits.detach().float(), logprobs.detach(), labels[mask], outputs)
        on_timeline = {
            name: value.new_zeros(mask.shape).masked_scatter(mask, value)
            for name, value in found.items()
        }
        loss = -found["log_probs"].sum() / mask.sum().clamp(min=1)
        return FusedCausalLMOutput(loss=loss, label_mask=mask, aux_loss=aux_loss, **on_timeline)

    model.forward = types.MethodType(forward, model)  # type: ignore[method-assign]


def logits_at(
    model: PreTrainedModel, mask: Tensor, args: Any, kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """Logits [n, v] that predict the tokens mask [b, s − 1] marks, and a router's loss.

    By a hook on the head, so that whatever the model does to its logits stays the model's business.
    """

    def before_head(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (inputs[0][:, :-1][mask],)

    hook = model.get_output_embeddings().register_forward_pre_hook(before_head)
    try:
        output = type(model).forward(model, *args, **kwargs)
    finally:
        hook.remove()
    return output.logits, getattr(output, "aux_loss", None)


def readings(
    logits: Tensor, logprobs: Tensor, labels: Tensor, names: Sequence[str]
) -> dict[str, Tensor]:
    """What TRL logs of the distributions behind labels [n], from both [n, v]; each [n]."""
    found: dict[str, Tensor] = {}
    for name in names:
        match name:
            case "entropy":
                found[name] = -(logprobs.exp() * logprobs).sum(dim=-1)
            case "is_top1":
                found[name] = logits.argmax(dim=-1) == labels
            case "mean_logits":
                found[name] = logits.mean(dim=-1)
            case "log_sum_sq_probs":
                found[name] = (2 * logprobs).logsumexp(dim=-1)
    return found
