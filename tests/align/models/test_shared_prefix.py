"""Two responses behind one pass of their prompt: the numbers of two passes."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from align.models.forward import trunk_of
from align.models.shared_prefix import can_share, pack_pairs, shared_prefixes
from stages.support.trl import prompts_shared
from tests import architectures, tiny

PAD = 0
CHOSEN = [[5, 6, 7, 8, 9], [5, 6, 1], [4, 4, 4, 4]]
REJECTED = [[5, 6, 11], [20, 6, 1, 2], [4, 4, 4, 9, 9, 9]]


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    every = [*CHOSEN, *REJECTED]
    width = max(map(len, every))
    ids = torch.tensor([row + [PAD] * (width - len(row)) for row in every])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in every])
    return ids, mask


def test_a_pair_is_packed_as_drawn():
    pairs = pack_pairs(*rows())
    assert pairs.input_ids[0, :6].tolist() == [5, 6, 7, 8, 9, 11]
    assert pairs.position_ids[0, :6].tolist() == [0, 1, 2, 3, 4, 2]
    sees = [[key for key in range(6) if pairs.mask[0, 0, query, key]] for query in range(6)]
    assert sees == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 5]]
    assert pairs.places[0, :5].tolist() == [0, 1, 2, 3, 4]
    assert pairs.places[3, :3].tolist() == [0, 1, 5]


def test_pairs_without_a_common_beginning_stand_side_by_side():
    pairs = pack_pairs(*rows())
    assert pairs.input_ids[1].tolist() == [5, 6, 1, 20, 6, 1, 2]
    assert pairs.position_ids[1].tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert not pairs.mask[1, 0, 3:, :3].any()


def test_every_query_sees_itself_so_that_no_softmax_is_empty():
    mask = pack_pairs(*rows()).mask
    assert mask.diagonal(dim1=-2, dim2=-1).all()


@pytest.mark.parametrize("build", [tiny.llama, tiny.gpt2])
def test_states_and_gradients_are_those_of_two_passes(build):
    ids, mask = rows()
    weights = torch.randn(*ids.shape, 32, generator=torch.Generator().manual_seed(1))
    found = []
    for shared in (False, True):
        model = build(3)
        trunk = trunk_of(model)
        assert can_share(model, trunk)
        with shared_prefixes(trunk) if shared else nullcontext():
            output = trunk(input_ids=ids, attention_mask=mask, use_cache=False)
        states = output.last_hidden_state
        kept = torch.where(mask[..., None].bool(), states, 0.0)
        (kept * weights).sum().backward()
        gradients = [p.grad for p in trunk.parameters()]
        found.append([kept.detach(), *gradients])
    for plain, packed in zip(*found, strict=True):
        torch.testing.assert_close(packed, plain, rtol=1e-4, atol=2e-6 * plain.abs().max().item())


def test_a_window_or_a_chunk_is_not_shared():
    model = tiny.llama()
    model.config.sliding_window = 8
    assert not can_share(model, trunk_of(model))


def test_positions_that_are_counted_from_the_mask_are_not_shared():
    """Falcon with ALiBi; with rotary positions it shares."""
    for alibi in (True, False):
        model = architectures.build("falcon", alibi=alibi)
        assert can_share(model, trunk_of(model)) is not alibi


@pytest.mark.parametrize(
    ("dropout", "noise", "shares"), [(0.0, None, True), (0.1, None, False), (0.0, 5.0, False)]
)
def test_a_trainer_that_draws_noise_draws_it_for_each_response(dropout, noise, shares):
    model = tiny.gpt2()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    trainer = SimpleNamespace(model=model, args=SimpleNamespace(neftune_noise_alpha=noise))
    with prompts_shared(trainer):
        assert ("forward" in vars(trunk_of(model))) is shares
