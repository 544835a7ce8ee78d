"""What the sampler asks of vLLM, answered by a plain model: takes no argument that vLLM lacks."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from align.sampling.sampler import ModelSampler


@dataclass
class SamplingParams:
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_tokens: int = 16
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    logprobs: int | None = None
    detokenize: bool = True
    seed: int | None = None


class LLM:
    """An engine with dummy weights, until it is given some."""

    started: ClassVar[list[LLM]] = []

    def __init__(
        self,
        *,
        model: str,
        load_format: str,
        skip_tokenizer_init: bool,
        generation_config: str,
        dtype: str,
        gpu_memory_utilization: float,
        logprobs_mode: str,
        seed: int,
    ) -> None:
        self.settings = {
            "load_format": load_format,
            "skip_tokenizer_init": skip_tokenizer_init,
            "generation_config": generation_config,
            "dtype": dtype,
            "gpu_memory_utilization": gpu_memory_utilization,
            "logprobs_mode": logprobs_mode,
        }
        torch.manual_seed(99)
        config = AutoConfig.from_pretrained(model)
        self.model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval()
        runner = SimpleNamespace(model=self)
        worker = SimpleNamespace(driver_worker=SimpleNamespace(model_runner=runner))
        self.llm_engine = SimpleNamespace(model_executor=worker)
        self.asked: list[SamplingParams] = []
        self.loads, self.prefixes_are_of_other_weights = 0, False
        LLM.started.append(self)

    def load_weights(self, weights) -> None:
        missing, unexpected = self.model.load_state_dict(dict(weights), strict=False)
        assert set(missing) <= {"lm_head.weight"}, missing  # tied to the embeddings
        assert not unexpected
        self.loads, self.prefixes_are_of_other_weights = self.loads + 1, True

    def reset_prefix_cache(self) -> None:
        self.prefixes_are_of_other_weights = False

    def generate(self, prompts, sampling_params, *, use_tqdm: bool):
        assert not self.prefixes_are_of_other_weights
        assert not use_tqdm
        self.asked += sampling_params
        pairs = zip(prompts, sampling_params, strict=True)
        return [self._answer(prompt["prompt_token_ids"], params) for prompt, params in pairs]

    def _answer(self, prompt, params):
        sampler = ModelSampler(
            self.model,
            pad_id=0,
            stop_ids=params.stop_token_ids,
            max_new_tokens=params.max_tokens,
            temperature=params.temperature,
        )
        generator = torch.Generator().manual_seed(params.seed)
        samples = sampler.sample([prompt], generator=generator, responses_per_prompt=params.n)
        outputs = [
            SimpleNamespace(
                index=index,
                token_ids=tuple(sample.response),
                logprobs=[
                    {token: SimpleNamespace(logprob=logprob)}
                    for token, logprob in zip(sample.response, sample.logprobs, strict=True)
                ],
                finish_reason="stop" if sample.finished else "length",
            )
            for index, sample in enumerate(samples)
        ]
        return SimpleNamespace(outputs=outputs[::-1])  # in the order in which they ended
