"""Every loss that `dpo.trainer.loss_type` and `kto.trainer.loss_type` let through, by the stage.

At each micro-batch, at the start and away from it, TRL's loss and its gradient are held against the
papers' formulas in float64 (tests/oracles/preferences.py).
"""

from __future__ import annotations

import pytest
import torch

from tests.oracles import preferences as oracle
from tests.oracles.models64 import LanguageModel
from tests.stages.world import World

BETA, SMOOTHING = 0.3, 0.1
SETTINGS = [f"trainer.beta={BETA}", "trainer.learning_rate=1e-3"]
DPO = ["sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot"]
DPO += ["aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("losses"))
    assert world.run("sft") == 0
    return world


def float64(model, *, learns=False):
    """The weights of a model, without what the trainer has done to it."""
    own = type(model)(model.config)
    own.load_state_dict(model.state_dict())
    return LanguageModel.of(own, learns=learns)


def answers(policy, reference, batch):
    """Each row of a batch as prompt and response, without padding, and what is said of it."""
    columns = ("input_ids", "attention_mask", "completion_mask")
    rows = []
    for ids, mask, counts in zip(*(batch[name] for name in columns), strict=True):
        prompt, response = ids[mask.bool() & ~counts.bool()], ids[counts.bool()]
        rows.append((prompt.tolist(), response.tolist()))
    return rows, [oracle.answer(policy, reference, *row) for row in rows]


def hold(loss, model, own, policy):
    """A loss of TRL and its gradient against the oracle's."""
    assert loss.item() == pytest.approx(own.item(), rel=3e-5)
    learning = policy.learning()
    ours = torch.autograd.grad(own, list(learning.values()), retain_graph=True)
    trained = [model.get_parameter(f"model.{name}") for name in learning]
    theirs = torch.autograd.grad(loss, trained, retain_graph=True)
    assert len(trained) == len(list(model.parameters()))
    gaps = [(a.double() - b).norm() for a, b in zip(theirs, ours, strict=True)]
    size = torch.stack([gradient.norm() for gradient in ours]).norm()
    assert torch.stack(gaps).norm() / size < 5e-5


def test_every_loss_of_dpo_is_that_of_its_paper(world, monkeypatch):
    """One run of a weighted sum of them all, each also asked for alone."""
    from trl import DPOTrainer

    compute, seen = DPOTrainer.compute_loss, []
    weights = [1 / (1 + place) for place in range(len(DPO))]

    def compute_loss(self, model, inputs, *args, **kwargs):
        policy, reference = float64(model, learns=True), float64(self.ref_model)
        _, found = answers(policy, reference, inputs)
        half = len(found) // 2
        settings = {"beta": BETA, "smoothing": SMOOTHING, "temperature": 0.05}
        own = [oracle.dpo(kind, found[:half], found[half:], **settings) for kind in DPO]
        for kind, formula in zip(DPO, own, strict=True):
            self.loss_types, self.loss_weights = [kind], [1.0]
            hold(compute(self, model, dict(inputs)), model, formula, policy)
        self.loss_types, self.loss_weights = self.args.loss_type, self.args.loss_weights
        loss = compute(self, model, inputs, *args, **kwargs)
        hold(loss, model, sum(w * each for w, each in zip(weights, own, strict=True)), policy)
        seen.append({round(each.item(), 4) for each in own})
        return loss

    monkeypatch.setattr(DPOTrainer, "compute_loss", compute_loss)
    items = [f"trainer.loss_type={DPO}".replace("'", ""), f"trainer.loss_weights={weights}"]
    items += [f"trainer.label_smoothing={SMOOTHING}", "trainer.max_steps=2"]
    assert world.run("dpo", *SETTINGS, *items) == 0
    assert len(seen) == 2
    assert len(seen[1]) == len(DPO)


@pytest.mark.parametrize("kind", ["kto", "apo_zero_unpaired"])
def test_the_losses_of_kto_are_those_of_their_papers(world, monkeypatch, kind):
    """The oracle gives each prompt another's answer for the KL itself, by the rows trained on."""
    from trl import KTOTrainer

    compute, seen = KTOTrainer.compute_loss, []

    def compute_loss(self, model, inputs, *args, **kwargs):
        policy, reference = float64(model, learns=True), float64(self.ref_model)
        rows, found = answers(policy, reference, inputs)
        moved = [(prompt, rows[i - 1][1]) for i, (prompt, _) in enumerate(rows)]
        others = [oracle.answer(policy, reference, *row) for row in moved]
        loss = compute(self, model, inputs, *args, **kwargs)
        weights = {"beta": BETA, "desirable": 1.0, "undesirable": 1.5}
        own = oracle.kto(kind, found, others, inputs["label"].tolist(), **weights)
        hold(loss, model, own, policy)
        seen.append((own.item(), oracle.divergence(others)))
        return loss

    monkeypatch.setattr(KTOTrainer, "compute_loss", compute_loss)
    items = ["trainer.undesirable_weight=1.5", "trainer.max_steps=4", f"trainer.loss_type={kind}"]
    assert world.run("kto", *SETTINGS, *items) == 0
    assert len({round(loss, 4) for loss, _ in seen}) == 4
    assert max(kl for _, kl in seen) > 0.05
