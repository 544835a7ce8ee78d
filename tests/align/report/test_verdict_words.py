"""What the report says of what was not shown, not seen or not there."""

from __future__ import annotations

from align.report.verdict import verdict
from tests.align.report.test_verdict import put, summary


def test_without_gold_a_policy_that_no_reward_trained_is_not_said_to_have_aimed_at_it() -> None:
    changed = summary()
    del changed["policies"]["ppo"]
    for entry in changed["policies"].values():
        entry["gold"] = entry["gold_gain"] = None
    assert verdict(changed).sentences[2].startswith("Only a model has judged, so this cannot show")


def test_the_headline_puts_no_cost_on_a_policy_that_did_not_pay_it() -> None:
    changed = summary(ppo=0.56)
    put("length_ratio", 2.1)(changed["policies"]["ppo"])
    found = verdict(changed)
    assert found.headline == "In part: DPO did, PPO shows no measurable change."
    assert found.sentences[2].startswith("What it cost: PPO writes answers 2.10")


def test_prompts_whose_templates_are_all_seen_are_said_to_be_so() -> None:
    changed = summary()
    changed["policies"]["sft"]["gold"]["unseen"] = None
    assert verdict(changed).sentences[1].startswith("Training has seen the templates of all")


def test_without_seen_and_unseen_nothing_is_said_of_new_templates() -> None:
    changed = summary()
    changed["policies"]["sft"]["gold"] |= {"seen": None, "unseen": None}
    assert "do not say" in verdict(changed).sentences[1]


def test_with_sft_alone_there_is_nothing_to_compare() -> None:
    alone = {"policies": {"sft": summary()["policies"]["sft"]}}
    found = verdict(alone)
    assert found.headline.startswith("Nothing to compare")
    assert found.changes == {}
