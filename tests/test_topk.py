"""Top-k keeps the largest and nothing else, and with feedback loses nothing in the long run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fedsim.message import Message
from fedsim.scenarios.defences.topk import TopK
from fedsim.seeding import Rng
from fedsim.vfl.messages import Embedding, ParameterGradient

RNG = Rng.root(12)


def normal(*shape: int, name: str = "values") -> Tensor:
    return torch.randn(shape, generator=RNG.child(name, *shape).torch())


def passed(defence: TopK, *messages: Message) -> tuple[list[Any], Any]:
    stage = defence.stage()
    after, state = [], stage.init(RNG)
    for message in messages:
        new, state = stage.apply(message, state)
        after.append(new)
    return after, state


def test_the_largest_of_each_tensor_pass_unchanged_and_the_others_are_zero() -> None:
    grads = {"small": 1e-3 * normal(6, 5), "large": normal(7)}
    (after,), held = passed(TopK(keep=0.2), ParameterGradient(0, grads))
    for name, count in (("small", 6), ("large", 2)):
        sent, true = after.grads[name], grads[name]
        assert int((sent != 0).sum()) == count
        assert torch.equal(sent[sent != 0], true[sent != 0])
        assert float(true[sent == 0].abs().max()) <= float(sent[sent != 0].abs().min())
    assert (held.values, held.sent, dict(held.back)) == (37, 8, {})


def test_in_a_message_as_a_whole_a_small_tensor_may_send_nothing() -> None:
    grads = {"small": 1e-3 * normal(6, 5), "large": normal(30)}
    (after,), _ = passed(TopK(keep=0.25, per="message"), ParameterGradient(0, grads))
    assert int((after.grads["large"] != 0).sum()) == 15
    assert int((after.grads["small"] != 0).sum()) == 0


def test_everything_kept_is_the_identity_and_at_least_one_value_is_sent() -> None:
    z = normal(4, 3)
    assert torch.equal(passed(TopK(keep=1.0), Embedding(0, z))[0][0].z, z)
    assert int((passed(TopK(keep=1e-6), Embedding(0, z))[0][0].z != 0).sum()) == 1


def test_equal_values_are_cut_at_the_count() -> None:
    assert int(passed(TopK(keep=0.5), Embedding(0, torch.ones(4, 4)))[0][0].z.sum()) == 8


def test_with_feedback_what_is_sent_and_what_is_held_add_up_to_what_came() -> None:
    stream = [ParameterGradient(step, {"w": normal(8, 6, name=f"step {step}")}) for step in range(20)]
    after, held = passed(TopK(keep=0.1, feedback=True), *stream)
    came = torch.stack([message.grads["w"] for message in stream]).sum(dim=0)
    sent = torch.stack([message.grads["w"] for message in after]).sum(dim=0)
    (back,) = held.back.values()
    assert torch.allclose(sent + back, came, atol=1e-5)
    plain, _ = passed(TopK(keep=0.1), *stream)
    lost = came - torch.stack([message.grads["w"] for message in plain]).sum(dim=0)
    assert float(back.norm()) < float(lost.norm())


@pytest.mark.parametrize("purpose", ["query", "evaluate"])
def test_nothing_is_held_back_outside_of_training(purpose: Any) -> None:
    _, held = passed(TopK(feedback=True), Embedding(0, normal(4, 3), purpose=purpose))
    assert not held.back
