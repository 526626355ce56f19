"""Properties of states, stages, the mailbox and the tree of random streams, on arbitrary values."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor

from fedsim.channel import Stage, chain
from fedsim.errors import ProtocolError
from fedsim.mailbox import Mailbox
from fedsim.message import Message
from fedsim.seeding import Rng
from fedsim.state import pack, unpack
from fedsim.vfl.messages import Embedding
from fedsim.wire import Envelope


@dataclass(frozen=True)
class Node:
    """A dataclass in a state."""

    left: Any
    right: Any


seeds = st.integers(0, 999)
shapes = st.lists(st.integers(0, 3), max_size=3)
tensors = st.builds(lambda seed, shape: torch.randn(shape, generator=Rng.root(seed).torch()), seeds, shapes)
numbers = st.booleans() | st.integers() | st.floats()
leaves = st.none() | numbers | st.text(max_size=4) | tensors | st.builds(Rng.root, seeds)
keys = st.text("ab/~0.1", max_size=4)
states = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
        | st.builds(Node, inner, inner)
    ),
    max_leaves=12,
)


def equal(one: Any, other: Any) -> bool:
    """Equal to the bit, types included; not-a-number equals itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, Node):
        return equal(one.left, other.left) and equal(one.right, other.right)
    return one == other or repr(one) == repr(other) == "nan"


@example({"a/b": torch.zeros(1), "a": {"b": torch.ones(1)}})
@example({"a~1b": torch.zeros(1), "a/b": torch.ones(1), "~": (torch.ones(2),)})
@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(states)
def test_a_state_comes_back_from_a_checkpoint_as_it_went(state: Any) -> None:
    structure, named = pack(state)
    text = json.dumps(json.loads(structure))
    assert equal(unpack((text, load(save(named))), state), state)


def scale(factor: float) -> Stage[int]:
    """Multiplies an embedding; counts what it saw."""

    def apply(message: Message, seen: int) -> tuple[Message, int]:
        assert isinstance(message, Embedding)
        return Embedding(message.step, message.z * factor + seen), seen + 1

    return Stage(lambda rng: 0, apply)


def run(stage: Stage[Any], steps: int) -> tuple[list[Tensor], Any]:
    state, out = stage.init(Rng.root(0)), []
    for step in range(steps):
        message, state = stage.apply(Embedding(step, torch.arange(4.0)), state)
        assert isinstance(message, Embedding)
        out.append(message.z)
    return out, state


def flat(state: Any) -> list[Any]:
    return [leaf for child in state for leaf in flat(child)] if isinstance(state, tuple) else [state]


factors = st.lists(st.sampled_from([0.5, -1.0, 3.0]), max_size=3).map(lambda found: chain(*map(scale, found)))


@given(factors, factors, factors)
def test_chain_is_associative_and_the_empty_chain_is_its_unit(a: Stage[Any], b: Stage[Any], c: Stage[Any]) -> None:
    joined, state = run(chain(a, b, c), 3)
    for other in (chain(chain(a, b), c), chain(a, chain(b, c)), chain(chain(), a, b, chain(), c)):
        out, after = run(other, 3)
        assert equal(tuple(out), tuple(joined))
        assert flat(after) == flat(state)


def envelopes(peers: int, steps: int) -> list[Envelope]:
    """From each peer, numbered messages in the order sent."""
    return [Envelope(f"p{p}", "me", s, Embedding(s, torch.tensor([p, s]))) for p in range(peers) for s in range(steps)]


@given(st.permutations(envelopes(3, 5)), st.integers(0, 14))
def test_the_mailbox_hands_out_the_same_whatever_came_first(order: list[Envelope], replayed: int) -> None:
    box = Mailbox(window=5)
    for envelope in order:
        box.put(envelope)
    with pytest.raises(ProtocolError, match=r"sent frame \d again"):
        box.put(order[replayed])
    for p, s in itertools.product(range(3), range(5)):
        message = box.take((f"p{p}", "Embedding", s))
        assert isinstance(message, Embedding)
        assert message.z.tolist() == [p, s]
        assert box.take((f"p{p}", "Embedding", s)) is None


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 6))
def test_a_mailbox_never_holds_more_than_its_window(numbers: list[int], window: int) -> None:
    box, held = Mailbox(window), 0
    for seq in numbers:
        try:
            box.put(Envelope("p", "me", seq, Embedding(seq, torch.zeros(1))))
        except ProtocolError:
            continue
        held += 1
        assert held <= window
        assert seq < held + window


Path = tuple[str | int, ...]
paths = st.lists(st.text(max_size=3) | st.integers(-9, 99), max_size=4).map(tuple)


@given(st.integers(), paths, paths)
def test_paths_of_the_random_tree_do_not_collide(seed: int, one: Path, other: Path) -> None:
    root = Rng.root(seed)
    assert root.child(*one, *other) == root.child(*one).child(*other)
    assume(one != other)
    assert root.child(*one) != root.child(*other)


def test_neighbouring_paths_are_told_apart() -> None:
    root = Rng.root(7)
    neighbours: list[Path] = [
        ("ab", "c"),
        ("a", "bc"),
        ("abc",),
        ("a", "b", "c"),
        (),
        ("",),
        ("", ""),
        (3,),
        ("3",),
        ("i3",),
        ("s3",),
        (-3,),
        (33,),
        (3, 3),
        ("s", 3),
        ("is",),
    ]
    assert len({root.child(*path).key for path in neighbours}) == len(neighbours)
    assert root != Rng.secret(b"7")
    assert root != Rng.root(8)
