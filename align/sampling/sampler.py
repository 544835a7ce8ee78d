"""Sampling responses: the policy's own distribution, nothing else.

A response is drawn from softmax(logits / temperature) over the whole vocabulary. Neither
`generate` nor a model's `generation_config` (top-k, top-p, penalties) takes part, so the
log-probabilities recorded here are those of the distribution that was sampled: what PPO's ratio
and KL assume. Training and evaluation share this sampler.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from align.data import EncodedPrompt
from align.maths.timeline import Sequences
from align.messages import doing, say
from align.messages.steps import Step
from align.models.forward import apply_head
from align.sampling.decoding import decoding_for


class Sample(NamedTuple):
    """One response to one prompt."""

    response: list[int]  # with its stop token, if one was sampled
    finished: bool  # whether it ended by a stop token rather than at the length limit
    logprobs: list[float]  # nats, after the temperature, one per token of response
    entropies: Sequence[float] = ()  # nats, of the same distributions; not every sampler has them
    values: Sequence[float] = ()  # V before each token, where a head on the policy was read too

    @property
    def content(self) -> list[int]:
        """The response without its stop token."""
        return self.response[:-1] if self.finished else self.response


class Sampler(Protocol):
    """Anything that answers prompts: a model, or vLLM (align/sampling/vllm.py)."""

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        generator: torch.Generator,
        responses_per_prompt: int = 1,
    ) -> list[Sample]:
        """All samples of the first prompt, then those of the second, and so on."""
        ...


class ModelSampler:
    """Samples from a causal language model with a key-value cache.

    A sample depends on the generator and on its place in the list, not on the batch it is
    computed in: each (sample, step) owns one uniform number, inverted through the cumulative
    distribution. Batch size, bucketing, dropping of finished rows and sharing of a prompt's pass
    therefore change the speed and nothing else (up to rounding).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        pad_id: int,
        stop_ids: Sequence[int],
        max_new_tokens: int,
        temperature: float = 1.0,
        batch_size: int = 64,
        value_head: nn.Linear | None = None,
    ) -> None:
        """`temperature` 0 means greedy; log-probabilities are then those at temperature 1.

        `value_head` reads, as it goes, the states that the model's own head reads.
        """
        if max_new_tokens < 1 or temperature < 0 or batch_size < 1:
            raise ValueError(
                f"max_new_tokens={max_new_tokens} and batch_size={batch_size} must be at least 1, "
                f"temperature={temperature} at least 0"
            )
        self.model = model
        self.pad_id = pad_id
        self.stop_ids = torch.tensor(sorted(set(stop_ids)), device=model.device)
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.batch_size = batch_size
        self.decoding = decoding_for(model)
        self.value_head = value_head
        self.states: Tensor
        self.sampled: Step

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        generator: torch.Generator,
        responses_per_prompt: int = 1,
    ) -> list[Sample]:
        """All samples of the first prompt, then those of the second, and so on."""
        self._check(prompts)
        each = responses_per_prompt
        shape = (len(prompts) * each, self.max_new_tokens)
        uniforms = torch.rand(shape, generator=generator, dtype=torch.float64)
        uniforms = uniforms.to(self.model.device)
        at_once = min(each, self.batch_size)
        samples: dict[int, Sample] = {}
        with (
            torch.inference_mode(),
            evaluating(self.model),
            self._states_kept(),
            doing(say("sampling"), shape[0]) as self.sampled,
        ):
            for group in buckets([len(prompt) for prompt in prompts], self.batch_size // at_once):
                for first in range(0, each, at_once):
                    some = range(first, min(first + at_once, each))
                    rows = [prompt * each + one for prompt in group for one in some]
                    batch = self._sample_batch([prompts[row] for row in group], uniforms[rows])
                    samples.update(zip(rows, batch, strict=True))
                    self.sampled.done = len(samples)
        return [samples[row] for row in range(len(samples))]

    def _check(self, prompts: Sequence[Sequence[int]]) -> None:
        limit = getattr(self.model.config, "max_position_embeddings", None)
        for row, prompt in enumerate(prompts):
            if not prompt:
                raise ValueError(f"prompt {row} has no tokens")
            if limit is not None and len(prompt) + self.max_new_tokens > limit:
                raise ValueError(
                    f"prompt {row} has {len(prompt)} tokens, which with "
                    f"max_new_tokens={self.max_new_tokens} exceeds the model's {limit} positions; "
                    "shorten the prompt or lower max_new_tokens"
                )

    def _sample_batch(self, prompts: list[Sequence[int]], uniforms: Tensor) -> list[Sample]:
        """As many samples of each prompt as uniforms has rows for it; each token is counted.

        `active` maps the rows still decoded to those of uniforms. What a row draws after its stop
        token, until it is dropped, is not read.
        """
        ids, mask = left_pad(prompts, self.pad_id, device=self.model.device)
        copies = len(uniforms) // len(prompts)
        decoding = self.decoding(self.model, ids, mask, room=self.max_new_tokens, copies=copies)
        active = torch.arange(len(uniforms), device=ids.device)
        done = torch.zeros(len(uniforms), dtype=torch.bool, device=ids.device)
        tokens = ids.new_full(uniforms.shape, self.pad_id)
        logprobs, entropies, values = torch.zeros(3, *uniforms.shape, device=ids.device)
        logits = decoding.logits
        if self.value_head is not None:
            self.states = self.states.repeat_interleave(copies, dim=0)
        for step in range(self.max_new_tokens):
            self.sampled.advance(len(uniforms) / self.max_new_tokens)
            drawn = self._choose(logits, uniforms[active, step])
            for whole, part in zip((tokens, logprobs, entropies), drawn, strict=True):
                whole[active, step] = part
            if self.value_head is not None:
                values[active, step] = apply_head(self.value_head, self.states)
            chosen = drawn[0]
            done |= torch.isin(chosen, self.stop_ids)
            going = done.logical_not().nonzero().squeeze(1)
            if not len(going) or step + 1 == self.max_new_tokens:
                break
            if (len(active) - len(going)) * decoding.RATE_OF_CLEARING >= len(active):
                decoding.keep(going)
                active, done, chosen = active[going], done[going], chosen[going]
            logits = decoding.step(chosen)
        stops = torch.isin(tokens, self.stop_ids)
        finished = stops.any(dim=1)
        lengths = torch.where(finished, stops.int().argmax(dim=1) + 1, self.max_new_tokens)
        read = (tokens, logprobs, entropies, values)[: 3 if self.value_head is None else 4]
        rows = zip(lengths.tolist(), finished.tolist(), *(x.tolist() for x in read), strict=True)
        return [
            Sample(ids[:length], stop, *(numbers[:length] for numbers in rest))
            for length, stop, ids, *rest in rows
        ]

    @contextmanager
    def _states_kept(self) -> Iterator[None]:
        """Within, `states` is what the model's head read last, [rows, d]: of each row's end.

        A step that CUDA replays writes where it did when it was recorded.
        """
        if self.value_head is None:
            yield
            return

        def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self.states = inputs[0][:, -1]

        hook = self.model.get_output_embeddings().register_forward_pre_hook(keep)
        try:
            yield
        finally:
            hook.remove()

    def _choose(self, logits: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One token per row of logits [b, v], its log-probability, the entropy; each [b]."""
        logprobs = (logits.float() / (self.temperature or 1.0)).log_softmax(dim=-1)
        probabilities = logprobs.exp()
        if self.temperature == 0:
            chosen = logprobs.argmax(dim=-1)
        else:
            cumulative = probabilities.cumsum(dim=-1, dtype=torch.float64)
            threshold = (uniforms * cumulative[:, -1]).unsqueeze(-1)
            chosen = torch.searchsorted(cumulative, threshold, right=True).squeeze(-1)
        entropies = -(probabilities * logprobs).sum(dim=-1)
        return chosen, logprobs.gather(-1, chosen.unsqueeze(-1)).squeeze(-1), entropies


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode within; on leaving, every module is back in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def buckets(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Indices of `lengths` in groups of at most `size` and of like length, the longest first."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    return [order[start : start + size] for start in range(0, len(order), size)]


def left_pad(
    rows: Sequence[Sequence[int]], pad_id: int, *, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Left-padded ids [b, p] and their mask, True on tokens, built from lengths."""
    width = max(len(row) for row in rows)
    ids = [[pad_id] * (width - len(row)) + list(row) for row in rows]
    mask = [[False] * (width - len(row)) + [True] * len(row) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def collate(
    prompts: Sequence[Sequence[int]],
    samples: Sequence[Sample],
    *,
    pad_id: int,
    device: torch.device | str = "cpu",
) -> Sequences:
    """Left-padded prompts and right-padded responses around one column: the timeline's layout."""
    prompt_ids, prompt_mask = left_pad(prompts, pad_id, device=device)
    reversed_responses = [sample.response[::-1] for sample in samples]
    response_ids, response_mask = (
        side.flip(1) for side in left_pad(reversed_responses, pad_id, device=device)
    )
    return Sequences(
        torch.cat([prompt_ids, response_ids], dim=1),
        torch.cat([prompt_mask, response_mask], dim=1),
        response_mask,
    )


def collate_prompts(
    prompts: Sequence[EncodedPrompt],
    samples: Sequence[Sample],
    *,
    pad_id: int,
    device: torch.device | str = "cpu",
) -> Sequences:
    """The same, with each row's record beside it: a reward model may read its messages."""
    ids = [prompt.ids for prompt in prompts]
    batch = collate(ids, samples, pad_id=pad_id, device=device)
    return replace(batch, prompts=tuple(prompts))
