"""Sampling by vLLM, in this process and on the policy's own GPU.

The engine starts without weights and is given the policy's before each rollout, its adapter folded
in. It is asked for the whole distribution: no top-k, no top-p, no penalties, and log-probabilities
after the temperature. Its arithmetic is not the trainer's: PPO measures the old log-probabilities
itself (`measure` in align/ppo/train.py), reports the gap, and can weigh it (ppo.importance_cap).

What tests show is that the right things are asked of vLLM, on a stand-in; this has not met a real
one. vLLM 0.22 to 0.31 have the names used. It takes memory beside the trainer (ppo.vllm_memory) for
as long as the run lasts, and its samples do not repeat bit for bit.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any, Self

import torch
from transformers import PreTrainedModel

from align.messages.errors import ConfigError
from align.models.adapters import plain_weights
from align.sampling.sampler import Sample


class VLLMSampler:
    """A `Sampler` once it holds a model's weights."""

    def __init__(
        self, *, stop_ids: Sequence[int], max_new_tokens: int, temperature: float, memory: float
    ) -> None:
        """`memory`: share of the GPU's memory for vLLM's weights and cache."""
        # The engine in this process: its model can then be given weights that lie beside it.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        try:
            import vllm
        except ImportError as error:
            raise ConfigError(
                "ppo.sampler=vllm: vllm is not installed; run pip install -e '.[vllm]' in "
                "this project's folder, or use ppo.sampler=model"
            ) from error
        self.vllm, self.memory = vllm, memory
        self.engine: Any = None
        self.wanted = {
            "temperature": temperature,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "max_tokens": max_new_tokens,
            "stop_token_ids": sorted(set(stop_ids)),
            "ignore_eos": True,  # the stop tokens are ours alone
            "logprobs": 0,  # of the token drawn, and no others
            "detokenize": False,
        }

    def holding(self, model: PreTrainedModel) -> Self:
        """Hand the engine the weights that `model` computes with now."""
        if self.engine is None:
            self.engine = self._start(model)
        runner = self.engine.llm_engine.model_executor.driver_worker.model_runner
        runner.model.load_weights(plain_weights(model))
        self.engine.reset_prefix_cache()  # what is cached was computed with the weights before
        return self

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        generator: torch.Generator,
        responses_per_prompt: int = 1,
    ) -> list[Sample]:
        """All samples of the first prompt, then those of the second, and so on."""
        seeds = torch.randint(2**31, (len(prompts),), generator=generator).tolist()
        parameters = [
            self.vllm.SamplingParams(n=responses_per_prompt, seed=seed, **self.wanted)
            for seed in seeds
        ]
        inputs = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        results = self.engine.generate(inputs, parameters, use_tqdm=False)
        return [
            read(output)
            for result in results
            for output in sorted(result.outputs, key=lambda output: output.index)
        ]

    def _start(self, model: PreTrainedModel) -> Any:
        """An engine of the model's architecture, in the type its passes compute in."""
        device = model.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else model.dtype
        with tempfile.TemporaryDirectory() as folder:
            model.config.save_pretrained(folder)
            return self.vllm.LLM(
                model=folder,
                load_format="dummy",
                skip_tokenizer_init=True,
                generation_config="vllm",  # none of the model's own sampling settings
                dtype=str(dtype).removeprefix("torch."),
                gpu_memory_utilization=self.memory,
                logprobs_mode="processed_logprobs",
                seed=0,
            )


def read(output: Any) -> Sample:
    """vLLM's completion as ours; the stop token is its last."""
    tokens = list(output.token_ids)
    logprobs = [step[token].logprob for token, step in zip(tokens, output.logprobs, strict=True)]
    return Sample(tokens, output.finish_reason == "stop", logprobs)
