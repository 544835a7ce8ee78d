"""A stage is bound to the bytes that it read: of its parents, of its data, of its base model."""

import json
from pathlib import Path

import pytest

from tests.align.runs import chain

SFT = Path("runs/r/sft")


def test_a_parent_that_was_made_again_with_other_bits_makes_what_rests_on_it_stale(
    run, monkeypatch
):
    """F3: from the same inputs, as on another CPU."""
    for stage in (chain.SFT, chain.REWARD, chain.DPO):
        run(stage)
    before = json.loads((SFT / "manifest.json").read_text())
    other_bits = "(context.out / 'model' / 'weights').write_text('sft1')"
    monkeypatch.setenv("CHAIN_FAULT", other_bits)
    run(chain.SFT, "force=true")
    monkeypatch.delenv("CHAIN_FAULT")
    after = json.loads((SFT / "manifest.json").read_text())
    assert after["fingerprint"] == before["fingerprint"]
    for stage in (chain.REWARD, chain.DPO):
        code, out, _ = run(stage)
        assert code == 0
        assert out.startswith(f"{stage.name:<9}runs: parents.sft.content changed\n")
        assert run(stage)[1] == f"{stage.name:<9}up to date\n"


def test_a_parent_that_was_made_again_with_the_same_bits_leaves_the_others_up_to_date(run):
    run(chain.SFT)
    run(chain.REWARD)
    assert run(chain.SFT, "force=true")[1].startswith("sft      runs: force=true\n")
    assert run(chain.REWARD) == (0, "reward   up to date\n", "")


def test_ppo_refuses_a_reward_model_that_came_from_other_bits(run, monkeypatch):
    """F3: which carry the same fingerprint."""
    for name, bits in (("one", "sft0"), ("two", "sft1")):
        bits = f"(context.out / 'model' / 'weights').write_text({bits!r})"
        monkeypatch.setenv("CHAIN_FAULT", bits)
        run(chain.SFT, f"run={name}")
    monkeypatch.delenv("CHAIN_FAULT")
    run(chain.REWARD, "run=one")
    given = ["run=three", "parents.sft=runs/two/sft", "parents.reward=runs/one/reward"]
    code, _, err = run(chain.PPO, *given)
    assert code == 2
    assert "was trained from another sft than runs/two/sft; run `make reward` again" in err
    given[1] = "parents.sft=runs/one/sft"
    assert run(chain.PPO, *given)[0] == 0


CHANGED = {
    "data, and back": ("sft.jsonl", "x.write_text(y := x.read_text()); x.write_text(y)"),
    "data": ("sft.jsonl", "x.write_text('{}')"),
    "data that is gone": ("sft.jsonl", "x.unlink()"),
    "data, another file by its name": ("sft.jsonl", "x.write_text('{}')"),
    "base": ("base/config.json", "x.write_text('[]')"),
    "base, and back": ("base/config.json", "y = x.read_text(); x.write_text(''); x.write_text(y)"),
    "a file more in the base": ("base/adapter_config.json", "x.write_text('{}')"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_changes_between_hash_and_read_is_refused(run, monkeypatch, name):
    """F4: swapped after `sft runs:`, the stage trained on the other data."""
    file, change = CHANGED[name]
    change = f"from pathlib import Path; x = Path({file!r}); {change}; context.confirm()"
    monkeypatch.setenv("CHAIN_FAULT", change)
    code, _, err = run(chain.SFT)
    assert code == 75
    assert err.startswith("error: sft: ") and err.count("\n") == 1
    assert err.endswith(" changed while the stage was reading it; run the same command again\n")
    assert not SFT.exists()


def test_a_parent_that_is_published_anew_while_it_is_read_is_refused(run, monkeypatch):
    """F4: DPO trained on the new one, and its manifest named the old."""
    run(chain.SFT, "run=other")
    again = (
        "import shutil; shutil.copytree('runs/other/sft', 'runs/new'); "
        "shutil.rmtree('runs/other/sft'); shutil.move('runs/new', 'runs/other/sft'); "
    )
    monkeypatch.setenv("CHAIN_FAULT", again + "context.confirm()")
    code, _, err = run(chain.DPO, "parents.sft=runs/other/sft")
    assert code == 75
    assert err.startswith("error: dpo: runs/other/sft/") and err.count("\n") == 1
    monkeypatch.setenv("CHAIN_FAULT", "context.confirm()")
    assert run(chain.DPO, "parents.sft=runs/other/sft")[0] == 0


def test_rows_may_change_once_they_are_read(run, monkeypatch):
    """An evaluation loads its policies one after another, hours after its prompts."""
    change = "open('sft.jsonl', 'w').write('{}'); context.confirm(data=False)"
    monkeypatch.setenv("CHAIN_FAULT", change)
    assert run(chain.SFT)[0] == 0
    monkeypatch.delenv("CHAIN_FAULT")
    assert run(chain.SFT)[1].startswith("sft      runs: data.instructions.path changed\n")


def test_data_behind_a_remembered_hash_is_found_out_when_it_is_read(run, known):
    """F6: and the next start sees it as it is, not the same fault again."""
    run(chain.SFT)
    known(Path("sft.jsonl"), "0" * 64)
    code, _, err = run(chain.SFT)
    assert code == 75
    assert err.startswith("error: sft: data.instructions.path changed while")
    assert run(chain.SFT) == (0, "sft      up to date\n", "")
