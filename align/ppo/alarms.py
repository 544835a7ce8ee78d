"""What can go wrong in a PPO run without an error, told from its metrics.

A rule is a pure function of the rows of metrics so far, the newest last, and of the run's setting;
it says whether what it is named after is going on now. align/ppo/monitor.py applies the rules, the
report tells what they found, and both take cause and remedy from the table RULES.

Thresholds are set so that a healthy run meets none: what is noise there is averaged over WINDOW
iterations, and what is compared with the start is compared with responses of the untouched policy.
A gradient that is clipped at every step is no alarm: Adam divides by the gradient's size anyway.
"""

from __future__ import annotations

from align.messages import Sentence
from align.ppo.rule import Rows, Rule, Setting

WINDOW = 3
"""Iterations that are averaged before they count as a state of the run."""
KL_LUCK = 14.0
"""Nats below zero that Σ log π/π_ref of a rollout reaches with probability e^−14 < 10^−6 at most:
E[π_ref/π] = 1 over responses of π, so P(Σ log π/π_ref ≤ −t) ≤ e^−t by Markov's inequality,
whatever the distributions. k1 of single responses is negative half the time (Schulman 2020)."""
START_GAP = (1e-4, 0.5)
"""|π/π_old − 1| in float32 and in less. Same weights, same path: rounding only, below 1e-5 on the
embedded world; in bfloat16 another batch shape moves a log-probability by up to .126 nats."""
SAMPLER_GAP = (1e-3, 0.02)
"""Nats per token in float32 and in less; rounding gives 1e-5 and .008."""
SURPRISE_ERRORS, SURPRISE_NATS = 6.0, 200.0
"""What the mean of −log π − entropy, 0 for a sampler of π, must exceed in standard errors over
episodes, and its sum over the rollout in nats. The second guards the first where the policy is so
sure that a rollout may miss all that is rare: missing k events of probability p has probability
e^−k and costs about k · (1 − log p) nats, 200 at k = 14 and p = 10^−6."""
STOP_FLOOR = 0.1
"""Share of responses that end by themselves; PPO-max names the loss of it a sign of collapse
(Zheng 2023, arXiv:2307.04964)."""
STOP_SHARE = 0.5
"""Of the stop rate at the start."""
CAP_SHARE = 0.9
"""Of max_new_tokens; most responses are then cut."""
LENGTH_DRIFT = 1.5
"""Times longer or shorter than at the start; the report's verdict names the same drift a cost."""
ENTROPY_FLOOR = 0.01
"""Nats per token: a policy that writes one text, and has nothing left to compare it with."""
ENTROPY_SHARE = 0.2
"""Of the entropy at the start. Healthy runs of the embedded world keep 0.6 of it."""
CRITIC_GRACE, CRITIC_WINDOW, CRITIC_BLIND = 5, 5, -0.05
"""First iterations that do not count; those that must all be negative then; and their mean. A
critic that starts from a poor reward model was seen below 0 for its first four iterations; one that
knows nothing wavers about 0 by hundredths."""
KL_FAR = 0.5
"""Nats per token to the reference: the policy writes a language of its own; as in the verdict."""
CLIP_HIGH = 0.3
"""Share of tokens, mean over an iteration's steps. At most .085 in the runs measured here."""
GOLD_ERRORS = 3.0
"""Standard errors, over prompts, by which gold is below its best probe."""


def recent(rows: Rows, metric: str, window: int = WINDOW) -> float | None:
    """Mean of a metric over the last `window` rows, once so many have it."""
    found = [row[metric] for row in rows[-window:] if metric in row]
    return sum(found) / window if len(found) == window else None


def start(rows: Rows, metric: str, setting: Setting) -> float:
    """Mean of a metric over the rollouts that were sampled before the policy was first updated."""
    found = [row[metric] for row in rows[: setting.critic_warmup + 1]]
    return sum(found) / len(found)


def negative_kl(rows: Rows, setting: Setting) -> bool:
    return rows[-1]["ppo/kl/sequence"] * setting.episodes < -KL_LUCK


def ratio_off(rows: Rows, setting: Setting) -> bool:
    return rows[-1].get("ppo/start/ratio_gap_max", 0.0) > START_GAP[not setting.exact]


def sampler_gap(rows: Rows, setting: Setting) -> bool:
    return rows[-1]["ppo/sampler/gap_mean"] > SAMPLER_GAP[not setting.exact]


def sampler_biased(rows: Rows, setting: Setting) -> bool:
    """Whatever log-probabilities the sampler reports: are its tokens those of the policy?"""
    row = rows[-1]
    surprise = abs(row["ppo/sampler/surprise"])
    nats = surprise * row["ppo/response/length"] * setting.episodes
    return nats > SURPRISE_NATS and surprise > SURPRISE_ERRORS * row["ppo/sampler/surprise_error"]


def no_stops(rows: Rows, setting: Setting) -> bool:
    metric = "ppo/response/stop_rate"
    rate, usual = recent(rows, metric), start(rows, metric, setting)
    return rate is not None and rate < max(STOP_FLOOR, STOP_SHARE * usual)


def length_cap(rows: Rows, setting: Setting) -> bool:
    length, stops = (recent(rows, f"ppo/response/{name}") for name in ("length", "stop_rate"))
    if length is None or stops is None:
        return False
    return length >= CAP_SHARE * setting.max_new_tokens and stops < 0.5


def length_drift(rows: Rows, setting: Setting) -> bool:
    metric = "ppo/response/length"
    length = recent(rows, metric)
    if length is None:
        return False
    ratio = length / start(rows, metric, setting)
    return not 1 / LENGTH_DRIFT <= ratio <= LENGTH_DRIFT


def entropy_collapse(rows: Rows, setting: Setting) -> bool:
    metric = "ppo/policy/entropy"
    entropy, usual = recent(rows, metric), start(rows, metric, setting)
    return entropy is not None and entropy < max(ENTROPY_FLOOR, ENTROPY_SHARE * usual)


def critic_blind(rows: Rows, setting: Setting) -> bool:
    counted = rows[max(CRITIC_GRACE, setting.critic_warmup) :][-CRITIC_WINDOW:]
    explained = [row["ppo/value/explained_variance"] for row in counted]
    if len(explained) < CRITIC_WINDOW:
        return False
    return max(explained) < 0 and sum(explained) / CRITIC_WINDOW < CRITIC_BLIND


def gold_falls(rows: Rows, setting: Setting) -> bool:
    """Reward against gold on one set of prompts, since the probe at which gold was best."""
    probed = [row for row in rows if "ppo/probe/gold_change" in row]
    if not probed:
        return False
    last = probed[-1]
    fall = -last["ppo/probe/gold_change"]
    beyond = fall > GOLD_ERRORS * last["ppo/probe/gold_change_error"]
    return beyond and last["ppo/probe/reward_change"] > 0


def kl_far(rows: Rows, setting: Setting) -> bool:
    distance = recent(rows, "ppo/kl/token")
    return distance is not None and distance > KL_FAR


def clip_high(rows: Rows, setting: Setting) -> bool:
    share = recent(rows, "ppo/policy/clip_fraction")
    return share is not None and share > CLIP_HIGH


RULES = (
    Rule(
        "negative_kl",
        negative_kl,
        "ppo/kl/sequence",
        Sentence(
            "the KL to the reference is negative beyond chance: responses do not come from the "
            "distribution whose log-probabilities are computed"
        ),
        Sentence("sample without top-k, top-p and penalties, at ppo.temperature"),
        ours=False,
    ),
    Rule(
        "ratio_off",
        ratio_off,
        "ppo/start/ratio_gap_max",
        Sentence(
            "before any update the policy already differs from itself: the update computes "
            "log-probabilities otherwise than the measurement"
        ),
        Sentence("look for dropout, or a temperature or mask that one of them lacks"),
        ours=False,
    ),
    Rule(
        "sampler_gap",
        sampler_gap,
        "ppo/sampler/gap_mean",
        Sentence("sampler and trainer disagree on the log-probabilities of the responses"),
        Sentence(
            "sample with the same weights and ppo.temperature, without top-k, top-p and penalties"
        ),
        ours=False,
    ),
    Rule(
        "sampler_biased",
        sampler_biased,
        "ppo/sampler/surprise",
        Sentence("responses hold likelier or unlikelier tokens than the policy would choose"),
        Sentence("sample without top-k, top-p and penalties, at ppo.temperature"),
        ours=False,
    ),
    Rule(
        "no_stops",
        no_stops,
        "ppo/response/stop_rate",
        Sentence("few responses still end with a stop token"),
        Sentence(
            "see that SFT's own answers stop and that the reward does not pay for length; raise "
            "ppo.max_new_tokens if they were only cut, lower ppo.missing_eos_penalty if they ramble"
        ),
    ),
    Rule(
        "length_cap",
        length_cap,
        "ppo/response/length",
        Sentence("most responses are cut at ppo.max_new_tokens"),
        Sentence("raise ppo.max_new_tokens, or see whether the reward model prefers what is long"),
    ),
    Rule(
        "length_drift",
        length_drift,
        "ppo/response/length",
        Sentence("responses have become much longer or shorter than they were"),
        Sentence(
            "read some; compare the reward model's accuracy by length in the report, balance the "
            "lengths of its pairs, or raise ppo.kl_coef"
        ),
    ),
    Rule(
        "entropy_collapse",
        entropy_collapse,
        "ppo/policy/entropy",
        Sentence("the policy hardly varies its responses any more"),
        Sentence(
            "lower ppo.learning_rate or ppo.epochs, or raise ppo.kl_coef; read what it repeats"
        ),
    ),
    Rule(
        "critic_blind",
        critic_blind,
        "ppo/value/explained_variance",
        Sentence("the critic predicts returns worse than a constant would"),
        Sentence("raise ppo.value_learning_rate or ppo.critic_warmup, or set ppo.critic=zero"),
    ),
    Rule(
        "gold_falls",
        gold_falls,
        "ppo/probe/gold",
        Sentence(
            "the reward rises while the rule judge's score of held-back prompts falls: "
            "over-optimisation"
        ),
        Sentence(
            "end earlier (ppo.iterations), raise ppo.kl_coef, or train the reward model on more "
            "pairs"
        ),
    ),
    Rule(
        "kl_far",
        kl_far,
        "ppo/kl/token",
        Sentence("the policy has gone far from the reference"),
        Sentence("lower ppo.learning_rate, raise ppo.kl_coef, or set ppo.kl_target"),
    ),
    Rule(
        "clip_high",
        clip_high,
        "ppo/policy/clip_fraction",
        Sentence("updates move the policy further than the clip range on many tokens"),
        Sentence("lower ppo.learning_rate or ppo.epochs, or set ppo.early_stop_kl"),
    ),
)
