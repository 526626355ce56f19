"""Stages on a link: taps look, `only` restricts, `chain` gives each stage its own node, `Placed` keeps a state."""

from __future__ import annotations

import torch

from fedsim.channel import Placed, Stage, chain, only, tap
from fedsim.message import Message
from fedsim.seeding import Rng
from fedsim.vfl.messages import Embedding, Gradient


def double(message: Message, state: int) -> tuple[Message, int]:
    assert isinstance(message, Gradient)
    return Gradient(message.step, message.g * 2, purpose=message.purpose), state + 1


DOUBLE = Stage(lambda rng: 0, double)
RECALL = tap(lambda rng: (), lambda message, seen: (*seen, message.kind()))


def test_a_tap_passes_on_the_very_message_it_saw() -> None:
    message = Gradient(0, torch.ones(2))
    passed, seen = RECALL.apply(message, ())
    assert passed is message
    assert seen == ("Gradient",)


def test_only_restricts_to_a_kind_and_a_purpose() -> None:
    stage = only("Gradient", DOUBLE, "train")
    embedding, query = Embedding(0, torch.ones(1)), Gradient(0, torch.ones(1), purpose="query")
    assert stage.apply(embedding, 0) == (embedding, 0)
    assert stage.apply(query, 0) == (query, 0)
    changed, state = stage.apply(Gradient(0, torch.ones(1)), 0)
    assert isinstance(changed, Gradient)
    assert (changed.g.item(), state) == (2.0, 1)


def test_each_stage_of_a_chain_draws_from_its_own_node() -> None:
    node = Stage(lambda rng: rng, lambda message, state: (message, state))
    one, other = chain(node, node).init(Rng.root(1))
    assert one == Rng.root(1).child(0)
    assert other == Rng.root(1).child(1)


def test_a_chain_applies_in_order_and_keeps_every_state() -> None:
    message, state = chain(DOUBLE, DOUBLE, RECALL).apply(Gradient(4, torch.ones(1)), (0, 5, ()))
    assert isinstance(message, Gradient)
    assert message.g.item() == 4.0
    assert state == (1, 6, ("Gradient",))


def test_a_placed_stage_has_one_state_for_both_directions() -> None:
    placed = Placed(RECALL, Rng.root(0))
    placed(Embedding(0, torch.ones(1)))
    placed(Gradient(0, torch.ones(1)))
    assert placed.state == ("Embedding", "Gradient")
