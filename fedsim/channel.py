"""What lies on a link: stages, after optax's gradient transformations.

A stage is a value made of two pure functions. A defence transforms a message, a tap only looks at it; `chain` composes
them and ``chain()`` is the identity. All state is passed in and out, so it can be checkpointed and compared to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fedsim.message import Message, Purpose
from fedsim.seeding import Rng

S = TypeVar("S")


@dataclass(frozen=True)
class Stage(Generic[S]):
    """One step of a channel.

    Attributes:
        init: makes the first state from the stage's own random node.
        apply: maps a message and a state to the message that goes on and the next state; kind, step, purpose and the
            shapes of the tensors stay as they are.
    """

    init: Callable[[Rng], S]
    apply: Callable[[Message, S], tuple[Message, S]]


def tap(init: Callable[[Rng], S], observe: Callable[[Message, S], S]) -> Stage[S]:
    """A stage that looks: by its type it has no way to put another message in the place of the one it saw."""
    return Stage(init, lambda message, state: (message, observe(message, state)))


def chain(*stages: Stage[Any]) -> Stage[tuple[Any, ...]]:
    """The stages one after the other; associative, and ``chain()`` is the identity.

    >>> from fedsim.message import Message
    >>> message, state = chain().apply(Message(0), ())
    >>> message.step, state
    (0, ())
    """

    def init(rng: Rng) -> tuple[Any, ...]:
        return tuple(stage.init(rng.child(i)) for i, stage in enumerate(stages))

    def apply(message: Message, state: tuple[Any, ...]) -> tuple[Message, tuple[Any, ...]]:
        after = []
        for stage, before in zip(stages, state, strict=True):
            message, s = stage.apply(message, before)
            after.append(s)
        return message, tuple(after)

    return Stage(init, apply)


def only(kinds: str | Collection[str], stage: Stage[S], purpose: Purpose | None = None) -> Stage[S]:
    """``stage`` for messages of one kind, or of several (and one purpose, if given); others pass untouched."""
    wanted = frozenset([kinds] if isinstance(kinds, str) else kinds)

    def apply(message: Message, state: S) -> tuple[Message, S]:
        if message.kind() not in wanted or purpose not in (None, message.purpose):
            return message, state
        return stage.apply(message, state)

    return Stage(stage.init, apply)


class Placed(Generic[S]):
    """A stage that lies on a link, with its state. One that lies on both directions of a link has one state."""

    def __init__(self, stage: Stage[S], rng: Rng) -> None:
        self.stage = stage
        self.state = stage.init(rng)

    def __call__(self, message: Message) -> Message:
        """Pass a message through."""
        message, self.state = self.stage.apply(message, self.state)
        return message
