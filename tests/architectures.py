"""Tiny random decoders of the architectures that users bring, by name.

Windows are 8 tokens, shorter than the prompts and responses of the tests, so that a cache or a mask
that ignores them shows. Weights are large, so that distributions are far from uniform.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

WINDOW = 8
SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
    # mixtures of experts
    "moe_intermediate_size": 32,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "shared_expert_intermediate_size": 32,
}
DELTA_NET = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}
MAMBA_2 = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_chunk_size": 4,
}
VISION = {
    "gemma3": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    },
    "qwen3_5": {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": 32,
    },
}
"""Of models that also read images: their decoder is the one of `{name}_text`."""
OWN: dict[str, dict[str, Any]] = {
    "bamba": MAMBA_2 | {"attn_layer_indices": [1], "mamba_n_groups": 1, "mamba_expand": 2},
    "falcon": {"head_dim": None, "alibi": True},
    "falcon_h1": MAMBA_2 | {"mamba_d_ssm": 64},
    "gemma2": {"sliding_window": WINDOW, "final_logit_softcapping": 3.0},
    "gemma3_text": {"sliding_window": WINDOW},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "granitemoehybrid": MAMBA_2
    | {"layer_types": ["mamba", "attention"], "shared_intermediate_size": 32},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
        "use_mamba_kernels": False,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "llama4_text": {
        "attention_chunk_size": WINDOW,
        "intermediate_size_mlp": 64,
        "layer_types": ["chunked_attention", "full_attention"],
    },
    "mamba": {"state_size": 8},
    "mamba2": {
        "num_heads": 8,
        "head_dim": 8,
        "state_size": 8,
        "n_groups": 2,
        "chunk_size": 4,
    },
    "minimax": {"layer_types": ["linear_attention", "full_attention"], "block_size": 4},
    "mistral": {"sliding_window": WINDOW},
    "mixtral": {"sliding_window": WINDOW},
    "phi3": {"sliding_window": WINDOW},
    "qwen3_5_text": DELTA_NET,
    "qwen3_next": DELTA_NET,
    "recurrent_gemma": {
        "lru_width": 32,
        "attention_window_size": WINDOW,
        "block_types": ["recurrent", "recurrent", "attention"],
        "num_hidden_layers": 3,
    },
    "rwkv": {"attention_hidden_size": 32, "context_length": 256},
    "starcoder2": {"sliding_window": WINDOW},
}
"""What an architecture has beside or instead of SIZES."""


def config(kind: str, **settings: Any) -> PreTrainedConfig:
    """A config of transformers' model type `kind`."""
    config_class = type(AutoConfig.for_model(kind))
    if kind in VISION:
        text = config(f"{kind}_text", **settings)
        return config_class(text_config=text.to_dict(), vision_config=VISION[kind])
    sizes = SIZES | OWN.get(kind, {}) | settings
    return config_class(**{name: value for name, value in sizes.items() if value is not None})


def build(kind: str, seed: int = 0, *, scale: float = 0.2, **settings: Any) -> PreTrainedModel:
    """A random model in evaluation mode whose matrices have the standard deviation `scale`."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config(kind, **settings)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim >= 2:
                weight.normal_(std=scale)
    return model
