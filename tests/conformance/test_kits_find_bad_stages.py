"""The stage kit fails on stages that break the contract, each in one way, and says in which."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from fedsim.channel import Stage, chain, only, tap
from fedsim.errors import ConformanceError
from fedsim.message import Message
from fedsim.seeding import Rng
from fedsim.testing import check_defence, check_stage, sample_streams
from fedsim.threat import Defence
from fedsim.vfl.messages import Embedding, Gradient, Model, ParameterGradient

Apply = Callable[[Message, Any], tuple[Message, Any]]


@dataclass(frozen=True)
class Noise:
    """State of a correct stage: its node and how many messages it has seen."""

    rng: Rng
    seen: int = 0


def noisy(message: Message, state: Noise) -> tuple[Message, Noise]:
    """A correct stage that draws."""
    if not isinstance(message, Gradient):
        return message, state
    generator = state.rng.child(state.seen).torch()
    noise = torch.randn(message.g.shape, generator=generator, dtype=message.g.dtype)
    return dataclasses.replace(message, g=message.g + noise), Noise(state.rng, state.seen + 1)


@pytest.mark.parametrize(
    "stage",
    [
        chain(),
        Stage(Noise, noisy),
        chain(Stage(Noise, noisy), tap(lambda rng: (), lambda message, seen: (*seen, message.step)[-3:])),
        only("Gradient", Stage(Noise, noisy)),
    ],
)
def test_good_stages_pass(stage: Stage[Any]) -> None:
    check_stage(lambda: stage)


def on_gradient(change: Callable[[Tensor], Tensor]) -> Apply:
    def apply(message: Message, state: Any) -> tuple[Message, Any]:
        if not isinstance(message, Gradient):
            return message, state
        return Gradient(message.step, change(message.g), purpose=message.purpose), state

    return apply


def stateless(apply: Apply) -> Callable[[], Stage[Any]]:
    return lambda: Stage(lambda rng: (), apply)


def in_place(message: Message, state: Any) -> tuple[Message, Any]:
    if isinstance(message, Embedding):
        message.z.mul_(2)
    return message, state


def hidden_counter() -> Stage[Any]:
    count = itertools.count()
    return Stage(lambda rng: (), on_gradient(lambda g: g + next(count)))


def remembers_first_state() -> Stage[Any]:
    """Keeps its node outside its state; only a stage that goes on from a checkpoint lacks it."""
    node: list[Rng] = []

    def init(rng: Rng) -> tuple[()]:
        node.append(rng)
        return ()

    return Stage(init, on_gradient(lambda g: g + torch.randn(g.shape, generator=node[0].torch(), dtype=g.dtype)))


def writes_to_its_state(message: Message, state: Tensor) -> tuple[Message, Tensor]:
    return message, state.add_(1)


def reuses_a_buffer() -> Stage[Any]:
    """Hands out the same memory twice, so that a message changes after it was sent."""
    buffers: dict[tuple[int, ...], Tensor] = {}

    def change(g: Tensor) -> Tensor:
        return buffers.setdefault(tuple(g.shape), torch.empty_like(g)).copy_(g)

    return Stage(lambda rng: (), on_gradient(change))


def drops_a_name(message: Message, state: Any) -> tuple[Message, Any]:
    if isinstance(message, ParameterGradient) and len(message.grads) > 1:
        return dataclasses.replace(message, grads=dict(list(message.grads.items())[1:])), state
    return message, state


def sorts_names(message: Message, state: Any) -> tuple[Message, Any]:
    if isinstance(message, Model):
        return Model(message.step, dict(sorted(message.parameters.items())), purpose=message.purpose), state
    return message, state


def changes_kind(message: Message, state: Any) -> tuple[Message, Any]:
    return (Embedding(message.step, message.g) if isinstance(message, Gradient) else message), state


BAD: dict[str, tuple[Callable[[], Stage[Any]], str]] = {
    "alters a shape": (stateless(on_gradient(lambda g: g[:1])), "shape .* becomes"),
    "alters a dtype": (stateless(on_gradient(lambda g: g.double())), "torch.float32 becomes torch.float64"),
    "mutates its input": (stateless(in_place), "writes to the message"),
    "writes to its state": (lambda: Stage(lambda rng: torch.zeros(2), writes_to_its_state), "writes to the state"),
    "keeps hidden state": (hidden_counter, "not pure"),
    "draws from the global stream": (stateless(on_gradient(lambda g: g + torch.randn_like(g))), "not pure"),
    "keeps its node outside its state": (remembers_first_state, "after a checkpoint .* does not go on"),
    "reuses a buffer": (reuses_a_buffer, "changes after it has passed"),
    "changes the purpose": (stateless(lambda m, s: (dataclasses.replace(m, purpose="evaluate"), s)), "purpose 'query'"),
    "changes the step": (stateless(lambda m, s: (dataclasses.replace(m, step=m.step + 1), s)), "step 0 becomes 1"),
    "changes the kind": (stateless(changes_kind), "comes out as Embedding"),
    "drops a name": (stateless(drops_a_name), "names"),
    "reorders names": (stateless(sorts_names), "order counts"),
    "divides by the norm": (stateless(on_gradient(lambda g: g / g.norm())), "not a number"),
    "holds a list": (lambda: Stage(lambda rng: [], lambda m, s: (m, s)), "not a frozen tree"),
    "raises": (stateless(on_gradient(lambda g: g @ g)), "raised RuntimeError"),
    "starts anywhere": (lambda: Stage(lambda rng: torch.rand(3), lambda m, s: (m, s)), "start in different states"),
}


@pytest.mark.parametrize("name", BAD)
def test_the_kit_finds_a_stage_that(name: str) -> None:
    make, complaint = BAD[name]
    with pytest.raises(ConformanceError, match=complaint):
        check_stage(make)


def test_a_local_dataclass_cannot_be_loaded_again() -> None:
    @dataclass(frozen=True)
    class Hidden:
        seen: int

    stage = Stage(lambda rng: Hidden(0), lambda message, state: (message, Hidden(state.seen + 1)))
    with pytest.raises(ConformanceError, match="defined at the top of a module"):
        check_stage(lambda: stage)


def test_given_messages_take_the_place_of_the_samples() -> None:
    make = stateless(on_gradient(lambda g: g / g.norm()))
    check_stage(make, [Gradient(0, torch.ones(2, 2))])
    with pytest.raises(ConformanceError, match="given messages"):
        check_stage(make, [Gradient(0, torch.zeros(2, 2))])


def test_the_samples_hold_every_kind_and_purpose_that_a_link_carries() -> None:
    messages = [message for stream in sample_streams().values() for message in stream]
    kinds = {"Rows", "Model", "Embedding", "Gradient", "ParameterGradient", "Disclosure", "Claim", "Verdict"}
    assert {message.kind() for message in messages} == kinds
    assert {message.purpose for message in messages} == {"train", "query", "evaluate"}


class Undocumented(Defence):
    def stage(self) -> Stage[Any]:
        return chain()


class Bare(Defence):
    """Has a setting that nobody explains."""

    sigma: float = 1.0

    def stage(self) -> Stage[Any]:
        """Nothing."""
        return chain()


def test_a_defence_explains_itself() -> None:
    with pytest.raises(ConformanceError, match="class Undocumented has no docstring"):
        check_defence(Undocumented())
    with pytest.raises(ConformanceError, match="no description for sigma"):
        check_defence(Bare())
