"""A whole evaluation made of drawn numbers: what the report's tests and its look are tried on."""

from __future__ import annotations

import copy
import dataclasses
import functools
from typing import Any

import numpy as np

from align.config.methods import BEST_OF_N
from align.evaluation.best_of_n import kl_bound
from align.evaluation.reward_card import ScoredPair, reward_card
from align.evaluation.summary import FORMAT, Scored, summarise
from align.report.lineage import Made

FAMILIES = ("capital", "arithmetic", "list", "rewrite", "greet", "dangerous", "harmless")
MEANS = {"base": 0.05, "sft": 0.55, "dpo": 0.72, "ppo": 0.78}
EVERY = {
    "base": 0.05,
    "sft": 0.55,
    "dpo": 0.68,
    "kto": 0.63,
    "ppo": 0.64,
    "rloo": 0.6,
    "grpo": 0.58,
}
EVERY |= {BEST_OF_N: 0.62}
"""Means of all the policies that there are."""
ANSWERS = {
    "base": "서울 Seoul capital capital is the",
    "sft": "수도는 서울이야. 그런데 오늘은 날씨가 참 좋네요.",
    "dpo": "수도는 서울입니다.",
    "ppo": "한국의 수도는 서울입니다.",
}


CHECKS = [
    {"kind": "contains_any", "values": ["서울", "Seoul"], "core": True},
    {"kind": "polite", "language": "ko", "weight": 2.0},
]
MADE = [
    Made(
        "sft",
        ("base", "data.instructions 1111111111"),
        "a" * 12,
        "3:12",
        "cpu, threads: 1",
        "4d5e6f",
    ),
    Made(
        "ppo",
        (f"SFT {'a' * 12}", f"Reward model {'b' * 12}", "data.prompts 2222222222"),
        "c" * 12,
        "5:52",
        "cpu, threads: 1",
        "4d5e6f",
    ),
]


def prompt_rows(per_family: int = 32) -> list[dict[str, Any]]:
    return [
        {
            "id": f"test-{i:04d}",
            "family": family,
            "language": "ko" if i % 2 else "en",
            "template": f"{family}/{i}",
            "seen": i % 4 < 2,
        }
        for family in FAMILIES
        for i in range(per_family)
    ]


def scored(
    mean: float, rng: np.random.Generator, prompts: int, samples: int, *, gold: bool = True
) -> Scored:
    """Answers whose gold lies about `mean`, each prompt as hard for all policies."""
    hard = np.random.default_rng(7).normal(0, 0.25, size=(prompts, 1))
    raw = mean + hard * (mean > 0.1) + rng.normal(0, 0.25, size=(prompts, samples))
    length = rng.integers(6, 30, size=(prompts, samples)).astype(float)
    return Scored(
        gold=np.clip(raw, 0, 1).round(3) if gold else None,
        reward=4 * raw - 2 + rng.normal(0, 0.5, size=raw.shape),
        kl=np.abs(mean - 0.55) * rng.gamma(4, 5, size=raw.shape),
        length=length,
        stopped=(rng.random(raw.shape) < min(0.98, mean + 0.5)).astype(float),
        ids=[list(rng.integers(5, 60, size=int(n))) for n in length.ravel()],
    )


def summary(
    means: dict[str, float] | None = None, *, gold: bool = True, per_family: int = 32
) -> dict[str, Any]:
    drawn = tuple((MEANS if means is None else means).items())
    return copy.deepcopy(_summary(drawn, gold, per_family, FAMILIES))


@functools.cache
def _summary(
    drawn: tuple[tuple[str, float], ...], gold: bool, per_family: int, families: tuple[str, ...]
) -> dict[str, Any]:
    rows = prompt_rows(per_family)
    rng = np.random.default_rng(3)
    means = dict(drawn)
    sampled = {key: scored(m, rng, len(rows), 4, gold=gold) for key, m in means.items()}
    pool = None
    if BEST_OF_N in means:
        picked = sampled[BEST_OF_N]
        sampled[BEST_OF_N] = dataclasses.replace(picked, kl=None, kl_bound=kl_bound(8))
        pool = scored(means["sft"], rng, len(rows), 32, gold=gold)
    found = summarise(
        rows,
        sampled,
        {key: scored(min(1, m + 0.05), rng, len(rows), 1, gold=gold) for key, m in means.items()},
        resamples=500,
        seed=0,
        pool=pool,
    )
    return {
        "format": FORMAT,
        "provenance": {
            "run": "tiny",
            "recipe": "tiny",
            "seed": 0,
            "date": "2026-01-02",
            "device": "cpu",
            "base_model": "base",
            "base_revision": None,
            "fingerprints": {name: f"{i}c" * 32 for i, name in enumerate(("sft", "reward"))},
            "tokenizer_hash": "ab" * 32,
            "template_hash": "cd" * 32,
            "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
        },
        "setup": {
            "prompts": found["prompts"],
            "left_out": {"prompts": 0, "pairs": {"trained_on": 3, "too_long": 0}},
            "policies": list(means),
            "samples_per_prompt": 4,
            "temperature": 1.0,
            "max_new_tokens": 64,
            "batch_size": 64,
            "bootstrap": 500,
            "best_of_n": 8,
        },
        "policies": found["policies"],
        "best_of_n": found["best_of_n"],
        "reward_model": reward_card(pairs(rng), resamples=500),
    }


def pairs(rng: np.random.Generator, count: int = 400) -> list[ScoredPair]:
    return [
        ScoredPair(
            prompt=f"prompt {i % (count * 3 // 4)}",
            chosen=float(rng.normal(1.0, 1.0)),
            rejected=0.0,
            chosen_length=int(rng.integers(5, 30)),
            rejected_length=int(rng.integers(5, 30)),
            family=FAMILIES[i % len(FAMILIES)],
            bayes=float(rng.uniform(0.7, 1.0)),
        )
        for i in range(count)
    ]


def sample_rows(
    policies: dict[str, str] = ANSWERS, prompt: str = "한국의 수도는 어디야?", per_family: int = 4
) -> list[dict[str, Any]]:
    """Rows of samples.jsonl in which every policy answers with one text."""
    answers = {
        key: {
            "text": text,
            "gold": round(MEANS.get(key, 0.5), 2),
            "reward": 4 * MEANS.get(key, 0.5) - 2,
            "kl": 1.5,
            "tokens": 12,
            "stopped": key != "base",
        }
        for key, text in policies.items()
    }
    english = "What is the capital of Korea?" if prompt.endswith("어디야?") else prompt
    return [
        {
            **row,
            "checks": CHECKS,
            "prompt": [{"role": "user", "content": prompt if row["language"] == "ko" else english}],
            "responses": {key: {"sampled": [one], "greedy": one} for key, one in answers.items()},
        }
        for row in prompt_rows(per_family)
    ]


def metric_rows(stage: str, names: dict[str, tuple[float, float]], steps: int = 300) -> list[Any]:
    """Rows of metrics.jsonl: noisy ways from one value to another."""
    rng = np.random.default_rng(1)
    rows = []
    for step in range(1, steps + 1):
        share = 1 - np.exp(-4 * step / steps)
        row = {"step": step, "time": 0.0}
        for name, (start, end) in names.items():
            noise = 0.06 * abs(end - start) * rng.normal()
            row[f"{stage}/{name}"] = start + (end - start) * share + noise
        rows.append(row)
    return rows


METRICS = {
    "sft": metric_rows("sft", {"train/loss": (4.1, 0.7), "train/grad_norm": (3.0, 0.8)}),
    "reward": metric_rows("reward", {"train/loss": (0.7, 0.3), "train/accuracy": (0.5, 0.87)}),
    "dpo": metric_rows(
        "dpo",
        {
            "train/loss": (0.693, 0.42),
            "rewards/margins": (0, 1.4),
            "rewards/accuracies": (0.5, 0.84),
        },
    ),
    "ppo": metric_rows(
        "ppo",
        {
            "reward/score": (-0.1, 1.6),
            "kl/sequence": (0, 5.5),
            "policy/loss": (0, -0.02),
            "policy/entropy": (1.6, 0.9),
            "policy/clip_fraction": (0, 0.09),
            "value/loss": (0.8, 0.2),
            "value/explained_variance": (-0.2, 0.7),
            "response/length": (17, 12),
            "response/stop_rate": (0.93, 0.99),
        },
        steps=40,
    ),
}
