"""The embedded world is what its README says, and its held-out rows are held out."""

import itertools
import json
import math
from pathlib import Path
from random import Random

import pytest

from align.judges import judge
from data.tiny import build, lexicon
from data.tiny.corpus import documents
from data.tiny.families import all_families, josa

WORLD = Path(build.__file__).parent
TRAINING = ("sft", "preferences", "prompts")
HELD_OUT = ("preferences.dev", "preferences.test", "evaluation.dev", "evaluation.test")


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (WORLD / f"{name}.jsonl").open(encoding="utf-8")]


@pytest.fixture(scope="module")
def world() -> dict[str, list[dict]]:
    return {name: rows(name) for name in (*TRAINING, *HELD_OUT)}


def test_the_generator_writes_what_is_shipped(tmp_path):
    build.write(tmp_path, seed=0)
    for name in (*TRAINING, *HELD_OUT):
        shipped = (WORLD / f"{name}.jsonl").read_bytes()
        assert (tmp_path / f"{name}.jsonl").read_bytes() == shipped, name


def test_sizes(world):
    assert {name: len(world[name]) for name in world} == {
        "sft": 5000,
        "preferences": 6000,
        "prompts": 2400,
        "preferences.dev": 600,
        "preferences.test": 1200,
        "evaluation.dev": 480,
        "evaluation.test": 480,
    }


def test_no_held_out_prompt_is_trained_on_and_dev_and_test_share_none(world):
    trained = {row["prompt"] for name in TRAINING for row in world[name]}
    dev = {row["prompt"] for name in ("evaluation.dev", "preferences.dev") for row in world[name]}
    test = {
        row["prompt"] for name in ("evaluation.test", "preferences.test") for row in world[name]
    }
    assert not trained & (dev | test)
    assert not dev & test


def test_half_of_the_evaluation_comes_from_wordings_that_no_training_split_has(world):
    trained = {row["template"] for name in TRAINING for row in world[name]}
    for split in ("evaluation.dev", "evaluation.test"):
        new = [row for row in world[split] if row["template"] not in trained]
        assert len(new) == len(world[split]) / 2
        assert all(row["seen"] == (row["template"] in trained) for row in world[split])


def test_every_family_speaks_both_languages_in_every_file(world):
    expected = {(f.name, language) for f in all_families() for language in lexicon.LANGUAGES}
    assert len(expected) == 30
    for name in world:
        assert {(row["family"], row["language"]) for row in world[name]} == expected, name


def test_flawless_answers_score_one_and_wrong_ones_at_most_half():
    rng = Random(7)
    for family, language in itertools.product(all_families(), lexicon.LANGUAGES):
        for seen in (True, False):
            request = build.request(rng, family, language, seen=seen)
            for pattern in family.good[language]:
                good = josa(pattern.format(**request.slots))
                assert judge(good, request.checks()) > 0.97, (request.prompt, good)
            for evasion in lexicon.EVASIONS[language]:
                assert judge(evasion, request.checks()) == 0.0, (request.prompt, evasion)


def test_preferences_follow_the_documented_noise_model(world):
    for row in world["preferences.test"]:
        longer = max(-2, min(2, (len(row["chosen"]) - len(row["rejected"])) / 60))
        logit = (row["chosen_gold"] - row["rejected_gold"]) / 0.10 + 0.30 * longer
        assert row["bayes"] == pytest.approx(1 / (1 + math.exp(-logit)), abs=2e-3)
    # The labels were drawn with those probabilities: a z-test over both files.
    pairs = world["preferences"] + world["preferences.test"]
    ceiling = [max(row["bayes"], 1 - row["bayes"]) for row in pairs]
    agreed = sum(row["bayes"] >= 0.5 for row in pairs)
    spread = math.sqrt(sum(p * (1 - p) for p in ceiling))
    assert abs(agreed - sum(ceiling)) < 3 * spread


def test_the_pretraining_text_holds_no_prompt_of_the_evaluation(world):
    text = "\n".join(itertools.islice(documents(1), 20_000))
    held_out = [row["prompt"] for row in world["evaluation.test"] if len(row["prompt"]) > 12]
    assert len(held_out) > 400
    assert not [prompt for prompt in held_out if prompt in text]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("서울(이에요/예요)", "서울이에요"), ("도쿄(이에요/예요)", "도쿄예요"), ("'섬'(을/를)", "'섬'을"), ("7(은/는)", "7은"),
     ("9(은/는)", "9는"), ("물(으로/로)", "물로"), ("벌(과/와)", "벌과")],
)  # fmt: skip
def test_particles_follow_the_final_consonant(pattern, expected):
    assert josa(pattern) == expected
